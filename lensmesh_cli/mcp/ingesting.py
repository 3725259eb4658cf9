"""The tool that makes the images of a folder findable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from lensmesh_cli import folders
from lensmesh_cli.commands.ingest import CaptionChoice
from lensmesh_cli.console import SafeConsole
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.ingest.journal import Journal, default_path
from lensmesh_cli.ingest.metadata import Metadata
from lensmesh_cli.ingest.run import FolderIngest
from lensmesh_cli.ingest.stored import Stored
from lensmesh_cli.mcp.access import MeshAccess
from lensmesh_cli.mcp.cleaning import cleaned, quoted
from lensmesh_cli.mcp.failures import Refused, of_the_mesh
from lensmesh_cli.mcp.places import AllowedWalk
from lensmesh_cli.mcp.searching import Collection, ImagePath
from lensmesh_cli.progress import Bar
from lensmesh_client import LensmeshError

if TYPE_CHECKING:
    from lensmesh_cli.reading import UnreadableFile

MOST_SECONDS = 3_600
MOST_ERRORS = 50
"""The failed files that an answer lists."""
PROGRESS_S = 0.5
"""Time between two progress notifications."""
PATH_CHARS, MESSAGE_CHARS = 500, 500

INGEST_FOLDER = (
    "Make the images of a folder and its subfolders findable: each is read, embedded, captioned and stored. Only "
    "folders that the operator allowed can be named. Nothing on disk is changed, and doing it twice stores nothing "
    "twice. It reports progress, and ends after max_seconds at the latest: call it again to go on from there."
)


class FailedFile(BaseModel):
    """A file that is not stored."""

    path: str = Field(description="Below the folder.")
    reason: str
    message: str


class IngestAnswer(BaseModel):
    """What an ingest did."""

    folder: str
    complete: bool = Field(description="False where time ran out or files failed: the same call goes on.")
    stored: int = Field(description="Files that are stored now by this call, unchanged ones included.")
    outcomes: dict[str, int] = Field(description="The same by created, updated, unchanged.")
    skipped: int = Field(description="Files that a call before had stored.")
    without_caption: int
    failed: int
    errors: list[FailedFile] = Field(description="The first failed files.")
    passed_over: int = Field(description="Files that are no images.")
    notes: list[str]


class IngestTool:
    """The tool `ingest_folder`. One ingest runs at a time."""

    def __init__(self, mesh: MeshAccess) -> None:
        self._mesh = mesh
        self._running = False

    async def ingest_folder(
        self,
        context: Context[Any, Any],
        path: ImagePath,
        captions: Annotated[
            CaptionChoice,
            Field(
                description="best-effort: store an image without a caption where none can be had; required: refuse it "
                "then; none: ask for no captions, which is faster."
            ),
        ] = CaptionChoice.BEST_EFFORT,
        max_seconds: Annotated[
            int, Field(ge=1, le=MOST_SECONDS, description="End after this time at the latest.")
        ] = 300,
        collection: Collection = "",
    ) -> Annotated[CallToolResult, IngestAnswer]:
        """Ingest a folder."""
        if self._running:
            raise Refused("another ingest of this server runs: wait for its end, or cancel it", "INGEST_RUNNING")
        self._running = True
        try:
            folder = await asyncio.to_thread(self._mesh.folders.folder, path)
            told = await self._ingested(folder, captions, max_seconds, collection, context.report_progress)
        finally:
            self._running = False
        text = TextContent(type="text", text=_text(told))
        return CallToolResult(content=[text], structured_content=told.model_dump(mode="json"))

    async def _ingested(
        self, folder: Path, captions: CaptionChoice, max_seconds: int, collection: str, report: Callable[..., Any]
    ) -> IngestAnswer:
        notes: list[str] = []
        options = {
            "collection": collection,
            "captions": captions.value,
            "metadata": "merge",
            "transparency": None,
            "deferred_index": False,
            "local_features": False,
        }
        target = self._mesh.client.target
        with Disk() as disk:
            walk = AllowedWalk(folder, self._mesh.folders, disk)
            kept = await asyncio.to_thread(_open_journal, target, collection, folder, notes.append)
            with kept as journal, Bar(SafeConsole(stderr=True, quiet=True), "ingest", 0) as bar:
                run = FolderIngest(walk, disk, Metadata(None).of, journal, options)
                await self._watched(run, collection, bar, max_seconds, report)
                if run.complete and not walk.cut:
                    journal.finished()
        complete = run.complete and not walk.cut
        if run.stopped:
            notes.append(f"time ran out after {max_seconds} s: call again with the same arguments to go on")
        if walk.cut:
            notes.append(f"only the first {walk.images + walk.problems} files were taken: ingest the subfolders")
        if walk.links:
            notes.append(f"{len(walk.links)} links to folders were not followed")
        counts = run.counts
        return IngestAnswer(
            folder=cleaned(str(folder), PATH_CHARS),
            complete=complete,
            stored=counts.stored,
            outcomes=dict(counts.outcomes),
            skipped=counts.skipped,
            without_caption=counts.captionless,
            failed=len(counts.failures),
            errors=[_failed(each, folder) for each in counts.failures[:MOST_ERRORS]],
            passed_over=walk.passed.total(),
            notes=[cleaned(each, MESSAGE_CHARS) for each in notes],
        )

    async def _watched(
        self, run: FolderIngest, collection: str, bar: Bar, max_seconds: int, report: Callable[..., Any]
    ) -> None:
        """Run an ingest until its end or its time's, and tell how far it is."""
        ends = asyncio.get_running_loop().call_later(max_seconds, run.stop)
        watcher = asyncio.create_task(_report_each(bar, report))
        try:
            await run.ingest(self._mesh.client, Stored(self._mesh.connection, collection), bar)
        except LensmeshError as error:
            if not run.counts.stored:
                raise
            raise Refused(
                f"{run.counts.stored} images are stored, then: {of_the_mesh(error)}; the same call goes on",
                error.reason,
            ) from error
        finally:
            ends.cancel()
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        await _report(bar, report)


async def _report_each(bar: Bar, report: Callable[..., Any]) -> None:
    said = 0
    while True:
        if bar.done != said:
            said = bar.done
            await _report(bar, report)
        await asyncio.sleep(PROGRESS_S)


async def _report(bar: Bar, report: Callable[..., Any]) -> None:
    failed = f", {bar.errors} failed" if bar.errors else ""
    await report(bar.done, max(bar.total, bar.done), f"{bar.done} of {max(bar.total, bar.done)} images{failed}")


def _open_journal(target: str, collection: str, folder: Path, say: Callable[[str], None]) -> Journal:
    """Open the journal that `lensmesh ingest` keeps of the same folder, and note the folder as it does."""
    try:
        folders.remember(target, [folder])
        return Journal(default_path(target, collection, [folder]), say, keep=False)
    except OSError as error:
        raise Refused(f"the state folder cannot be used: {explain(error)}", "STATE_UNUSABLE") from error


def _failed(each: UnreadableFile, folder: Path) -> FailedFile:
    path = each.path.relative_to(folder) if each.path.is_relative_to(folder) else each.path
    return FailedFile(
        path=cleaned(str(path), PATH_CHARS), reason=each.reason, message=cleaned(each.message, MESSAGE_CHARS)
    )


def _text(told: IngestAnswer) -> str:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(told.outcomes.items()))
    lines = [f"{told.stored} images are stored" + (f" ({outcomes})" if outcomes else "") + "."]
    if told.skipped:
        lines.append(f"{told.skipped} were stored before.")
    if told.without_caption:
        lines.append(f"{told.without_caption} have no caption; the same call asks for them again.")
    if told.failed:
        lines.append(f"{told.failed} failed:")
        lines += [f"- {quoted(one.path, PATH_CHARS)}: {one.message} ({one.reason})" for one in told.errors]
        if told.failed > len(told.errors):
            lines.append(f"- and {told.failed - len(told.errors)} more")
    return "\n".join([*lines, *told.notes])
