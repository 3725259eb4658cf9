"""`lensmesh ingest`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, SafeConsole, err, note, out, print_json
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

if TYPE_CHECKING:
    from lensmesh_cli.files import Metadata
    from lensmesh_cli.journal import Journal
    from lensmesh_client import Client, IngestItem, IngestResult

EPILOG = (
    "Example: lensmesh ingest ~/Pictures --metadata about.jsonl --captions none\n\n"
    "A run that broke off goes on when the same command is given again.\n\n" + EXIT_CODES
)
ERRORS_SHOWN = 10


class CaptionChoice(StrEnum):
    """Mirrors lensmesh_client.Captions, which is imported only when the command runs."""

    BEST_EFFORT = "best-effort"
    REQUIRED = "required"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EPILOG)(ingest)


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, and folders with pictures.", metavar="PATH")],
    collection: Collection = "",
    metadata: Annotated[
        Path | None,
        typer.Option(help='JSON lines {"path": ..., other keys}: kept with the picture of that path or name.'),
    ] = None,
    captions: Annotated[
        CaptionChoice, typer.Option(help="best-effort: store without one if none can be had; required: refuse then.")
    ] = CaptionChoice.BEST_EFFORT,
    journal: Annotated[
        Path | None, typer.Option(help="Where to remember what is stored; by default in the user's state folder.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Send everything, whatever the journal says.")] = False,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Makes pictures findable: streams them in, and remembers what is stored."""
    from lensmesh_cli.files import Metadata, pictures
    from lensmesh_cli.folders import remember
    from lensmesh_cli.journal import Journal, default_path

    about = Metadata(metadata)
    files = pictures(paths)
    if not files:
        note("no pictures there")
    where = journal or default_path(target, collection, paths)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    with Journal(where, keep=journal is not None) as kept:
        if fresh:
            kept.forget()
        run = Run(files, about, kept)
        if run.skipped:
            note(f"{run.skipped} of {len(files)} are stored by a run before ({where}); --fresh sends them again")
        connect.run(lambda client: run.ingest(client, collection, captions.value, quiet=json_output))
        remember(target, [path.resolve() for path in paths])
        if not run.failures:
            kept.finished()
    _report(run, json_output=json_output)
    if run.failures:
        raise typer.Exit(int(Exit.FAILED))


class Run:
    """One ingest of a list of files."""

    def __init__(self, files: list[Path], about: Metadata, journal: Journal) -> None:
        from lensmesh_cli.journal import fingerprint

        self._about = about
        self._journal = journal
        self._prints = {path: fingerprint(path, about.of(path)) for path in files}
        self.files = [path for path in files if not journal.has(path, self._prints[path])]
        self.skipped = len(files) - len(self.files)
        self.outcomes: dict[str, int] = {}
        self.failures: list[tuple[Path, str, str]] = []
        self.captionless = 0
        self.seconds = 0.0

    async def ingest(self, client: Client, collection: str, captions: str, *, quiet: bool) -> None:
        """Sends all, with a progress bar."""
        from lensmesh_cli.progress import Bar

        with Bar(SafeConsole(stderr=True, quiet=quiet), "ingest", len(self.files)) as bar:
            results = client.ingest_many(
                self._items(),
                collection=collection,
                captions=captions,
                on_resume=lambda error, count: bar.say(f"{error.message}: {count} images are sent again"),
            )
            async for result in results:
                self._take(result)
                bar.step(ok=result.ok)
            self.seconds = bar.seconds

    def _items(self) -> Iterator[IngestItem]:
        from lensmesh_client import IngestItem

        for path in self.files:
            yield IngestItem(path, metadata=self._about.of(path), image_uri=path.resolve().as_uri())

    def _take(self, result: IngestResult) -> None:
        path = self.files[result.index]
        if result.error is not None:
            self.failures.append((path, result.error.reason, result.error.message))
            return
        outcome = str(result.outcome or "stored")
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.captionless += result.caption_error is not None
        self._journal.add(path, self._prints[path], result.id)


def _report(run: Run, *, json_output: bool) -> None:
    stored = sum(run.outcomes.values())
    rate = stored / run.seconds if run.seconds else 0.0
    if json_output:
        print_json(
            {
                "stored": stored,
                "outcomes": run.outcomes,
                "skipped": run.skipped,
                "failed": len(run.failures),
                "without_caption": run.captionless,
                "seconds": round(run.seconds, 3),
                "images_per_second": round(rate, 2),
                "errors": [
                    {"path": str(path), "reason": reason, "message": message} for path, reason, message in run.failures
                ],
            }
        )
        return
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(run.outcomes.items()))
    out.print(
        f"{stored} images in {run.seconds:.1f} s, {rate:.1f} images/s" + (f" ({outcomes})" if outcomes else ""),
        highlight=False,
    )
    if run.captionless:
        err.print(f"{run.captionless} of them without a caption: the captioner could not be had", highlight=False)
    for path, reason, message in run.failures[:ERRORS_SHOWN]:
        note(f"failed: {path}: {message} ({reason})")
    if len(run.failures) > ERRORS_SHOWN:
        note(f"... and {len(run.failures) - ERRORS_SHOWN} more; --json lists all")
