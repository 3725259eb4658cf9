"""`lensmesh duplicates`."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, err, fail, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    CollectionArgument,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
    check_writable,
    one_collection,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_cli.duplicates.shown import Known
    from lensmesh_client import Client, DuplicateGroup, Job

EPILOG = (
    "Example: lensmesh duplicates --collection photos --max-distance 16 --html same.html\n\n"
    "Images need a perceptual hash, which lensmesh ingest --near-duplicates makes; files that are equal byte for byte "
    "are found without. It is a job of the mesh, which goes on whoever watches it (docs/near-duplicates.md).\n\n"
    + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(duplicates)


def duplicates(
    named: CollectionArgument = "",
    collection: Collection = "",
    max_distance: Annotated[
        int | None,
        typer.Option(help="Bits in which an image may differ from the first of its group, 0 to 31.", min=0, max=31),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", help="Only these items: a condition, as of `lensmesh search`; repeatable."),
    ] = None,
    job_id: Annotated[str, typer.Option("--job", help="Show what this job found, instead of starting one.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", help="Groups to show, largest first.", min=1)] = 20,
    delete_all_but_first: Annotated[
        bool, typer.Option("--delete-all-but-first", help="Remove all items of all groups but the first of each.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the images.", dir_okay=False)] = None,
    images_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder whose images the page may show, beside those that you ingested from into this mesh; "
            "repeatable.",
            exists=True,
        ),
    ] = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Find the images of a collection that look the same, in groups, largest first. --json tells all groups."""
    collection = one_collection(named, collection)
    if job_id and (collection or filters or max_distance is not None):
        fail("--job shows what a job found already: leave the collection, --filter and --max-distance out", Exit.USAGE)
    from lensmesh_cli import folders
    from lensmesh_cli.duplicates import shown
    from lensmesh_client import LensmeshError, parse_filter

    try:
        chosen = parse_filter(filters) if filters else None
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    if html is not None:
        check_writable(html, "--html")
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    if not job_id:
        started = connect.run(
            lambda client: client.jobs.start_find_duplicates(
                collection=collection, filter=chosen, max_distance=max_distance
            )
        )
        job_id = started.id
    job = _ended(connect, job_id)
    reading = _Reading(connect, job, None if json_output or delete_all_but_first else limit)
    groups = reading.groups
    counts: Any = job.result
    if html is not None:
        write = [*folders.known(target), *(images_from or [])]
        shown.write_page(html, printable(job.collection), groups[:limit], reading.known(limit), counts, write)
    removed = _cleared(connect, job, groups, yes) if delete_all_but_first else None
    if json_output:
        told: dict[str, object] = {"job": job.id, "collection": job.collection, **counts}
        if removed is not None:
            told["removed_count"] = removed
        print_json(told | {"groups": [shown.as_json(group) for group in groups]})
        return
    _show(job, groups[:limit], reading.known(limit) if removed is None else None)
    if removed is not None:
        note(f"{removed:,} items are removed")


def _ended(connect: Connect, job_id: str) -> Job:
    """Watch a job until it has succeeded. Ctrl-C leaves it running."""
    from lensmesh_cli.job_views import JobBar, state_of
    from lensmesh_client import JobState

    async def work(client: Client) -> Job | None:
        last: Job | None = None
        async with aclosing(client.jobs.watch(job_id)) as looks:
            async for look in looks:
                last = look
                bar.show(look)
        return last

    try:
        with JobBar(err) as bar:
            job = connect.run(work)
    except KeyboardInterrupt:
        note(f"the job goes on: lensmesh duplicates --job {printable(job_id)} shows what it finds")
        raise
    if job is None:
        fail(f"the mesh tells nothing of the job {printable(job_id)}", Exit.UNREACHABLE)
    if job.error is not None:
        fail(f"{job.error.message} ({job.error.reason})")
    if job.state is not JobState.SUCCEEDED:
        fail(f"the job {printable(job_id)} is {state_of(job)}, and found nothing")
    return job


class _Reading:
    """Groups of a job: the first `most`, or all."""

    def __init__(self, connect: Connect, job: Job, most: int | None) -> None:
        self._connect = connect
        self._job = job

        async def work(client: Client) -> list[DuplicateGroup]:
            found: list[DuplicateGroup] = []
            async with aclosing(client.jobs.read_duplicates(job.id)) as groups:
                async for group in groups:
                    found.append(group)
                    if len(found) == most:
                        break
            return found

        self.groups = connect.run(work)

    def known(self, limit: int) -> Known:
        """Return what is known now of the items of the first groups."""
        from lensmesh_cli.duplicates.shown import Known

        known = Known()
        self._connect.run(lambda client: known.look_up(client, self._job.collection, self.groups[:limit]))
        return known


def _cleared(connect: Connect, job: Job, groups: list[DuplicateGroup], yes: bool) -> int:
    from lensmesh_cli.duplicates.clearing import clear

    count = sum(len(group.items) - 1 for group in groups)
    question = f"remove {count:,} items of {printable(job.collection)}, all but the first of {len(groups):,} groups?"
    if count and not yes and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        fail(f"nothing is removed: --yes removes without asking (--job {printable(job.id)} uses what was found)")
    began = job.start_time
    assert began is not None
    return connect.run(lambda client: clear(client, job.collection, groups, began))


def _show(job: Job, groups: list[DuplicateGroup], known: Known | None) -> None:
    from lensmesh_cli.duplicates import shown

    counts: Any = job.result
    if groups and known is not None:
        out.print(shown.table(groups, known))
    note(
        f"{counts['group_count']:,} groups of {counts['item_count']:,} items, of {counts['compared_count']:,} that were"
        f" compared; {counts['skipped_count']:,} have neither a hash of some quality nor a digest"
    )
    if len(groups) < counts["group_count"]:
        note(f"lensmesh duplicates --job {printable(job.id)} -n {counts['group_count']} shows the others too")
