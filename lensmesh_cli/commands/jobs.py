"""`lensmesh jobs`."""

from __future__ import annotations

import sys
from contextlib import aclosing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, err, fail, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Client, Job

EPILOG = (
    "Examples: lensmesh jobs --state running; lensmesh jobs watch ID; "
    "lensmesh jobs delete --filter year<2000 --collection old\n\n"
    "A job goes on in the mesh, whoever watches it. docs/jobs.md tells more.\n\n" + EXIT_CODES
)
ENDS = EXIT_CODES + " 1 here: the job failed, or was cancelled."
# What the list shows unless more is asked for.
_LISTED = 50


class StateChoice(StrEnum):
    """The values of lensmesh_client.JobState, which is imported only when a command runs."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


JobId = Annotated[str, typer.Argument(help="The job, as the list names it.", metavar="ID")]
NewId = Annotated[str, typer.Option("--id", help="A name for the job: the same start again with it starts once.")]
Watch = Annotated[bool, typer.Option("--watch", help="Watch the job until it has ended.")]


def register(app: typer.Typer) -> None:
    """Add the command with its sub-commands."""
    jobs = typer.Typer(epilog=EPILOG, invoke_without_command=True, rich_markup_mode="rich")
    jobs.callback(epilog=EPILOG)(list_jobs)
    jobs.command(epilog=ENDS)(watch)
    jobs.command(epilog=EXIT_CODES)(cancel)
    jobs.command(epilog=EXIT_CODES)(delete)
    jobs.command(epilog=EXIT_CODES)(rebuild)
    app.add_typer(jobs, name="jobs")


def list_jobs(
    context: typer.Context,
    collection: Annotated[str, typer.Option("--collection", help="Only jobs of this collection.")] = "",
    states: Annotated[
        list[StateChoice] | None, typer.Option("--state", help="Only jobs in this state; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many of the newest.", min=1)] = _LISTED,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Show, watch, cancel and start jobs: work of the mesh that takes longer than a call.

    Without a sub-command it shows the newest jobs.
    """
    from lensmesh_cli import job_views

    if context.invoked_subcommand is not None:
        _check_no_options(context)
        return
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)

    async def work(client: Client) -> list[Job]:
        found: list[Job] = []
        pages = client.jobs.list(collection=collection, states=[str(state) for state in states or ()])
        async with aclosing(pages):
            async for job in pages:
                found.append(job)
                if len(found) == limit:
                    break
        return found

    jobs = connect.run(work)
    if json_output:
        print_json({"jobs": [job_views.as_json(job) for job in jobs]})
    elif jobs:
        out.print(job_views.table(jobs))
        for remark in job_views.remarks(jobs):
            out.print(remark, markup=False, highlight=False, soft_wrap=True)
    else:
        note("no jobs")


def _check_no_options(context: typer.Context) -> None:
    """Refuse options that stand before a sub-command: they would do nothing."""
    sources = [context.get_parameter_source(name) for name in context.params]
    if any(source is not None and source.name == "COMMANDLINE" for source in sources):
        fail(f"options go behind the sub-command: lensmesh jobs {context.invoked_subcommand} --...", Exit.USAGE)


def watch(
    job_id: JobId,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Show how far a job is, until it has ended. Ctrl-C ends the watch, not the job."""
    _watch(Connect(target, ca_file, certificate_file, key_file, timeout), job_id, json_output)


def cancel(
    job_id: JobId,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Cancel a job. What it has done stays; one that has ended stays as it is."""
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    _say(connect.run(lambda client: client.jobs.cancel(job_id)), json_output)


def delete(
    filters: Annotated[
        list[str], typer.Option("--filter", "-f", help="A condition, as of `lensmesh search`; repeatable.")
    ],
    collection: Collection = "",
    job_id: NewId = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    watching: Watch = False,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Remove all items that fit the conditions, in small batches. Those that are made later stay."""
    from lensmesh_client import LensmeshError, parse_filter

    try:
        chosen = parse_filter(filters)
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    where = f" of {printable(collection)}" if collection else " of the default collection"
    if not yes and not _agreed(f"remove all items{where} where {printable(' and '.join(filters))}?"):
        fail("nothing is removed: --yes removes without asking")
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    job = connect.run(lambda client: client.jobs.start_delete(chosen, collection=collection, job_id=job_id))
    _started(connect, job, watching, json_output)


def rebuild(
    collection: Collection = "",
    spaces: Annotated[
        list[str] | None, typer.Option("--space", help="A space whose index is built anew; none: all. Repeatable.")
    ] = None,
    hnsw_m: Annotated[
        int, typer.Option("--m", help="Links for each item from now on, 2 to 100; 0: as it is.", min=0, max=100)
    ] = 0,
    hnsw_ef_construction: Annotated[
        int,
        typer.Option(
            "--ef-construction", help="Candidates while building, 4 to 1,000, at least twice --m; 0: as it is.", min=0
        ),
    ] = 0,
    job_id: NewId = "",
    watching: Watch = False,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Build the index of a collection anew, beside the one that serves until it stands."""
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    job = connect.run(
        lambda client: client.jobs.start_rebuild(
            collection=collection,
            spaces=spaces or (),
            hnsw_m=hnsw_m,
            hnsw_ef_construction=hnsw_ef_construction,
            job_id=job_id,
        )
    )
    _started(connect, job, watching, json_output)


def _agreed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _started(connect: Connect, job: Job, watching: bool, json_output: bool) -> None:
    if watching:
        _watch(connect, job.id, json_output)
        return
    _say(job, json_output)
    if not json_output:
        note(f"lensmesh jobs watch {printable(job.id)} shows how far it is")


def _say(job: Job, json_output: bool) -> None:
    from lensmesh_cli import job_views

    if json_output:
        print_json(job_views.as_json(job))
    else:
        out.print(f"{printable(job.id)}: {job_views.state_of(job)}", markup=False, highlight=False, soft_wrap=True)


def _watch(connect: Connect, job_id: str, json_output: bool) -> None:
    """Watch a job to its end, and end the command by what came of it."""
    from lensmesh_cli.job_views import JobBar, as_json, state_of
    from lensmesh_client import JobState

    with JobBar(err) as bar:

        async def work(client: Client) -> Job | None:
            last: Job | None = None
            async with aclosing(client.jobs.watch(job_id)) as looks:
                async for look in looks:
                    last = look
                    bar.show(look)
            return last

        job = connect.run(work)
    if job is None:
        fail(f"the mesh tells nothing of the job {printable(job_id)}", Exit.UNREACHABLE)
    if json_output:
        print_json(as_json(job))
    else:
        facts = ", ".join(f"{name} {value}" for name, value in job.result.items())
        out.print(
            printable(f"{job.id}: {state_of(job)}{f', {facts}' if facts else ''}"),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if job.error is not None:
        fail(f"{job.error.message} ({job.error.reason})")
    if job.state is not JobState.SUCCEEDED:
        raise typer.Exit(int(Exit.FAILED))
