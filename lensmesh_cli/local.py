"""A mesh that runs on this machine until a signal, and what a person needs to know to use it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lensmesh_cli.console import Exit, Repeats, err, fail, note
from lensmesh_local.supervisor import DataFolderError, MeshOptions, StartError, Supervisor

if TYPE_CHECKING:
    from lensmesh_client import MeshStatus

R = TypeVar("R")

WHAT_MODELS_KNOW = (
    "These are the bundled demonstration models: they know drawn scenes of coloured shapes, nothing else. "
    "For photographs, start the real ones (fetched from the Hugging Face hub at the first start):\n"
    "  lensmesh up --model ViT-B-32/laion2b_s34b_b79k --caption-model Salesforce/blip-image-captioning-base"
)
WHAT_MOCKS_KNOW = "No models run: vectors and captions are made up from each image's digest, to develop against."


class Interrupted(Exception):  # noqa: N818  # a wish, not an error
    """A signal asked the command to end."""


def with_signals(work: Callable[[asyncio.Event, asyncio.Event], Coroutine[None, None, R]]) -> R:
    """Run `work(asked, forced)`. The first SIGINT or SIGTERM sets `asked`, a second one `forced`."""

    async def run() -> R:
        asked, forced = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (forced if asked.is_set() else asked).set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        return await work(asked, forced)

    return asyncio.run(run())


async def supervised(
    options: MeshOptions,
    asked: asyncio.Event,
    forced: asyncio.Event,
    work: Callable[[Supervisor], Coroutine[None, None, R]],
) -> R:
    """Start a mesh, do the work, drain the mesh. Raises Interrupted where `asked` was set before the work was done.

    `forced` ends the drain at once.
    """
    repeats = Repeats(note)
    mesh = Supervisor(options, repeats.say)

    async def whole() -> R:
        await mesh.start()
        return await work(mesh)

    running, wish = asyncio.create_task(whole()), asyncio.create_task(asked.wait())
    force = asyncio.create_task(forced.wait())
    try:
        await asyncio.wait({running, wish}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            note("draining; once more to force the end")
            running.cancel()
            await asyncio.wait({running})
            raise Interrupted
        return running.result()
    finally:
        stopping = asyncio.create_task(mesh.stop())
        await asyncio.wait({stopping, force}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await mesh.kill()
        for task in (wish, force):
            task.cancel()
        await asyncio.gather(wish, force, return_exceptions=True)
        repeats.end()


def run_until_signal(options: MeshOptions, ready_file: Path | None) -> Exit:
    """Run the mesh of `lensmesh up` until a signal. The exit code tells whether it drained in good order."""

    async def serve(mesh: Supervisor) -> None:
        announce(mesh, await _status(mesh))
        if ready_file is not None:
            write_ready(ready_file, mesh)
        await asyncio.Event().wait()

    async def whole(asked: asyncio.Event, forced: asyncio.Event) -> Exit:
        try:
            await supervised(options, asked, forced, serve)
        except Interrupted:
            return Exit.FAILED if forced.is_set() else Exit.DONE
        return Exit.DONE

    try:
        return with_signals(whole)
    except (StartError, DataFolderError) as error:
        fail(str(error))
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def _status(mesh: Supervisor) -> MeshStatus | None:
    """Return the status of the mesh, None where it cannot be asked.

    A router that speaks TLS only may want certificates that only its callers have.
    """
    from lensmesh_client import Client, LensmeshError

    async with Client(mesh.router, security=mesh.security) as client:
        try:
            return await client.status()
        except LensmeshError:
            return None


def draft_of(path: Path) -> Path:
    """Return the path under which a ready file is written before it gets its name."""
    return path.with_name(path.name + ".draft")


def write_ready(path: Path, mesh: Supervisor) -> None:
    """Write the addresses by name, as JSON, in one step.

    With sidecars, add the files that are needed to call the router.
    """
    content = mesh.addresses()
    if mesh.security is not None:
        content |= dataclasses.asdict(mesh.security)
    draft = draft_of(path)
    draft.write_text(json.dumps(content))
    draft.replace(path)


def announce(mesh: Supervisor, status: MeshStatus | None, *, hints: bool = True) -> None:
    """Print addresses, models and memory. With `hints`, add what the models know and what to type next."""
    from rich.table import Table

    from lensmesh_cli.commands.status import megabytes

    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("service", "address", "model", "memory"):
        rows.add_column(name, justify="right" if name == "memory" else "left", overflow="fold")
    models = {
        service.kind: service.store or ", ".join(f"{model.name} ({model.kind})" for model in service.models)
        for service in (status.services if status else ())
    }
    for name in mesh.services:
        model = models.get(name.partition("-")[0], "")
        rows.add_row(name, mesh.address(name), model, megabytes(mesh.processes[name].memory_bytes()))
    if "database" in mesh.processes:
        rows.add_row("database", "unix socket", "", megabytes(mesh.processes["database"].memory_bytes()))
    if mesh.jaeger:
        rows.add_row("jaeger", mesh.jaeger, "", megabytes(mesh.processes["jaeger"].memory_bytes()))
    err.print(rows)
    if not hints:
        return
    if status is not None:
        say_what_models_know(status)
    database = mesh.addresses().get("database")
    if database:
        note(f"database: {database}")
    note(_what_to_type(mesh))
    say_page(mesh)


def say_page(mesh: Supervisor) -> None:
    """Print the address of the page, where there is one, as the line that is found first."""
    if mesh.page:
        err.print(f"\n[bold]page[/bold]  [bold cyan]{mesh.page}[/bold cyan]", soft_wrap=True, highlight=False)


def _what_to_type(mesh: Supervisor) -> str:
    target, plain = f" --target {mesh.router}", "-plaintext"
    lines = ["try it:"]
    if security := mesh.security:
        # Long paths, said once.
        lines += [
            f"  export LENSMESH_TARGET={mesh.router} LENSMESH_CA_FILE={security.ca_file} "
            f"LENSMESH_CERTIFICATE_FILE={security.certificate_file} LENSMESH_KEY_FILE={security.key_file}"
        ]
        target = ""
        plain = "-cacert $LENSMESH_CA_FILE -cert $LENSMESH_CERTIFICATE_FILE -key $LENSMESH_KEY_FILE"
    lines += [
        f"  lensmesh status{target}",
        f"  lensmesh top --data {mesh.data}",
        f"  lensmesh ingest FOLDER{target}",
        f'  lensmesh search "a red circle"{target}' + (f" --trace --jaeger {mesh.jaeger}" if mesh.jaeger else ""),
        f"  lensmesh match PHOTO{target}",
        *([f"  curl {mesh.page}healthz"] if mesh.page else []),
        f"  grpcurl {plain} {mesh.router} list",
        f"  grpcurl {plain} -d '{{}}' {mesh.router} lensmesh.router.v1.RouterService/GetStatus",
    ]
    return "\n".join(lines)


def say_what_models_know(status: MeshStatus) -> None:
    """Say plainly what the models know, where they are not real ones."""
    from lensmesh_client import ModelKind

    kinds = {model.kind for service in status.services for model in service.models}
    if ModelKind.DEMONSTRATION in kinds:
        note(WHAT_MODELS_KNOW)
    elif ModelKind.MOCK in kinds:
        note(WHAT_MOCKS_KNOW)
