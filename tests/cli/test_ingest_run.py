"""What an ingest sends, skips and counts, against a mesh that is only a class: every fault is an attribute."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_cli.console import Exit, Repeats
from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.journal import Journal
from lensmesh_cli.ingest.metadata import Metadata
from lensmesh_cli.ingest.report import Report
from lensmesh_cli.ingest.run import FolderIngest
from lensmesh_cli.progress import Bar
from lensmesh_cli.sources import Walk
from lensmesh_client import Caption, IngestItem, IngestResult, Limits, MeshStatus, NearDuplicate, Outcome
from lensmesh_client.errors import Reason, Unavailable
from lensmesh_client.mesh import Server


class FakeMesh:
    """A mesh's client and its collection in one; `items` are those stored."""

    def __init__(self) -> None:
        self.uid = ""
        self.items_by_id: dict[str, search_pb2.Item] = {}
        self.captioner = True
        self.sent: list[str] = []
        self.asked: list[str] = []

    async def status(self) -> MeshStatus:
        return MeshStatus((), Limits(max_image_bytes=1000), Server())

    async def identity(self) -> str:
        return self.uid

    async def items(self, ids: Sequence[str]) -> dict[str, search_pb2.Item]:
        self.asked += ids
        return {one: self.items_by_id[one] for one in ids if one in self.items_by_id}

    async def ingest_many(self, items: AsyncIterator[IngestItem], **options: Any) -> AsyncIterator[IngestResult]:
        index = 0
        async for item in items:
            assert isinstance(item.image, bytes)
            name = hashlib.sha256(item.image).hexdigest()
            self.uid = self.uid or "uid-1"
            self.sent.append(Path(item.image_uri.removeprefix("file://")).name)
            if options.get("near_duplicates") and self.items_by_id:
                yield IngestResult(
                    index=index,
                    id=name,
                    outcome=Outcome.SKIPPED,
                    near_duplicate=NearDuplicate(min(self.items_by_id), 3),
                )
                index += 1
                continue
            outcome = Outcome.UPDATED if name in self.items_by_id else Outcome.CREATED
            stored = self.items_by_id.setdefault(name, search_pb2.Item(id=name, image_uri=item.image_uri))
            wants = options["captions"] != "none"
            away = Unavailable(Reason.CAPTIONER_UNAVAILABLE, "no captioner answers")
            if wants and self.captioner:
                stored.caption.CopyFrom(common_pb2.Caption(text="words"))
            yield IngestResult(
                index=index,
                id=name,
                outcome=outcome,
                caption=Caption("words") if wants and self.captioner else None,
                caption_error=away if wants and not self.captioner else None,
            )
            index += 1

    def make_anew(self) -> None:
        """Another collection under the same name."""
        self.uid, self.items_by_id = f"{self.uid}-anew", {}


class Folder:
    """Files to ingest, and what ingests of them remember."""

    def __init__(self, folder: Path, mesh: FakeMesh) -> None:
        self.images = folder / "in"
        self.images.mkdir()
        self.journal = folder / "journal"
        self.mesh = mesh

    def add(self, *names: str) -> None:
        for name in names:
            (self.images / name).write_bytes(name.encode())

    def ingest(self, *, captions: str = "best-effort", keep: bool = True, **options: Any) -> tuple[list[str], Report]:
        """One run; the names that it sent, and its report."""
        self.mesh.sent.clear()
        with Disk() as disk, Journal(self.journal, print, keep=keep) as journal:
            walk, about = Walk([self.images], disk), Metadata(None)
            run = FolderIngest(walk, disk, about.of, journal, {"captions": captions, "collection": "c", **options})
            with Bar(Console(file=io.StringIO()), "ingest", 0) as bar:
                asyncio.run(run.ingest(self.mesh, self.mesh, bar))  # type: ignore[arg-type]  # a client to it
            if run.complete:
                journal.finished()
        return sorted(self.mesh.sent), Report(run.counts, walk, about, "lensmesh ingest in")


@pytest.fixture
def mesh() -> FakeMesh:
    return FakeMesh()


@pytest.fixture
def folder(tmp_path: Path, mesh: FakeMesh) -> Folder:
    folder = Folder(tmp_path, mesh)
    folder.add("a.jpg", "b.jpg", "c.jpg")
    return folder


def test_what_is_stored_is_not_sent_again(folder: Folder) -> None:
    assert folder.ingest()[0] == ["a.jpg", "b.jpg", "c.jpg"]
    folder.add("d.jpg")
    sent, report = folder.ingest()
    assert sent == ["d.jpg"]
    assert (report.counts.skipped, report.counts.stored, report.code) == (3, 1, Exit.DONE)


def test_a_run_that_is_stopped_goes_on_the_next_time(folder: Folder, mesh: FakeMesh, tmp_path: Path) -> None:
    class Hasty(Bar):
        """Stops its run with the first answer."""

        def step(self, *, ok: bool) -> None:
            super().step(ok=ok)
            run.stop()

    with Disk() as disk, Journal(folder.journal, print, keep=True) as journal:
        options = {"captions": "best-effort", "collection": "c"}
        run = FolderIngest(Walk([folder.images], disk), disk, Metadata(None).of, journal, options)
        with Hasty(Console(file=io.StringIO()), "ingest", 0) as bar:
            asyncio.run(run.ingest(mesh, mesh, bar))  # type: ignore[arg-type]  # a client to it
    assert (mesh.sent, run.counts.stored, run.complete) == (["a.jpg"], 1, False)
    assert folder.ingest()[0] == ["b.jpg", "c.jpg"]


def test_an_item_that_looks_the_same_stands_for_a_file(folder: Folder, mesh: FakeMesh) -> None:
    sent, report = folder.ingest(near_duplicates="skip")
    assert sent == ["a.jpg", "b.jpg", "c.jpg"]
    assert (report.counts.stored, report.counts.left_out, report.counts.captionless) == (1, 2, 0)
    assert report.as_json()["near_duplicates"] == {"stored": 0, "skipped": 2}
    assert report.code is Exit.DONE
    assert folder.ingest(near_duplicates="skip")[0] == [], "it is still there"
    mesh.items_by_id.clear()
    assert folder.ingest(near_duplicates="skip")[0] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_collection_made_anew_is_filled_again(folder: Folder, mesh: FakeMesh) -> None:
    folder.ingest()
    mesh.make_anew()
    assert folder.ingest()[0] == ["a.jpg", "b.jpg", "c.jpg"]
    assert folder.ingest()[0] == []


def test_a_collection_that_is_gone_is_filled_again(folder: Folder, mesh: FakeMesh) -> None:
    folder.ingest()
    mesh.make_anew()
    mesh.uid = ""
    assert folder.ingest()[0] == ["a.jpg", "b.jpg", "c.jpg"]


def test_an_item_that_somebody_removed_is_sent_again(folder: Folder, mesh: FakeMesh) -> None:
    folder.ingest()
    del mesh.items_by_id[hashlib.sha256(b"b.jpg").hexdigest()]
    sent, report = folder.ingest()
    assert sent == ["b.jpg"]
    assert (report.counts.lost, report.counts.skipped) == (1, 2)


def test_captions_asked_for_since_are_made(folder: Folder) -> None:
    folder.ingest(captions="none")
    assert folder.ingest(captions="none")[0] == []
    sent, report = folder.ingest()
    assert sent == ["a.jpg", "b.jpg", "c.jpg"]
    assert report.counts.captionless == 0


@pytest.mark.parametrize("keep", [True, False])
def test_missing_captions_are_told_and_filled_by_the_same_command(
    folder: Folder, mesh: FakeMesh, capsys: pytest.CaptureFixture[str], keep: bool
) -> None:
    folder.ingest(keep=keep)
    folder.add("d.jpg", "e.jpg")
    mesh.captioner = False
    sent, report = folder.ingest(keep=True)
    assert report.code == Exit.INCOMPLETE
    assert report.as_json()["without_caption"] == report.counts.captionless == len(sent)
    report.say()
    said = capsys.readouterr().err
    assert f"{len(sent)} of 5 have no caption: no captioner answers" in said
    assert "lensmesh ingest in" in said
    assert "$caption!=*" in said
    mesh.captioner = True
    again, report = folder.ingest(keep=True)
    assert again == sent
    assert (report.code, report.counts.captionless, report.counts.skipped) == (Exit.DONE, 0, 5 - len(sent))


def test_a_caption_that_was_lost_since_is_made_again(folder: Folder, mesh: FakeMesh) -> None:
    folder.ingest()
    mesh.items_by_id[hashlib.sha256(b"b.jpg").hexdigest()].ClearField("caption")
    assert folder.ingest(captions="none")[0] == ["a.jpg", "b.jpg", "c.jpg"]
    folder.ingest()
    mesh.items_by_id[hashlib.sha256(b"b.jpg").hexdigest()].ClearField("caption")
    assert folder.ingest()[0] == ["b.jpg"]


def test_copies_and_failures_are_counted_and_named(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.images / "copy.jpg").write_bytes(b"a.jpg")
    for number in range(20):
        (folder.images / f"gone{number:02}.jpg").symlink_to("/nowhere/x")
    _, report = folder.ingest()
    assert report.code == Exit.FAILED
    assert report.as_json()["copies"] == 1
    assert report.as_json()["failed"] == 20
    report.say()
    said = capsys.readouterr().err
    # Twenty alike are one line.
    assert said.count("failed: ") == 1
    assert "gone02.jpg and 17 more" in said
    assert "copy.jpg" in said
    assert folder.ingest()[0] == []


def test_the_same_message_is_said_once_with_a_count() -> None:
    said: list[str] = []
    repeats = Repeats(said.append)
    for message in ("a", "a", "a", "b", "a"):
        repeats.say(message)
    repeats.end()
    assert said == ["a", "(the same 2 times more)", "b", "a"]


def test_messages_of_a_growing_delay_are_the_same() -> None:
    said: list[str] = []
    repeats = Repeats(said.append)
    for message in ("waiting 1 s: x", "waiting 2 s: x", "waiting 4.5 s: x", "waiting 9 s: y", "3 sent", "4 sent"):
        repeats.say(message)
    repeats.end()
    told = ["waiting 1 s: x", "(the same 2 times more, lastly: waiting 4.5 s: x)", "waiting 9 s: y", "3 sent", "4 sent"]
    assert said == told
