"""An ingest, from the paths of a command line to the outcome of each file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensmesh_cli.ahead import Ahead
from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.journal import Journal
from lensmesh_cli.ingest.stored import CALL_ITEMS, Stored
from lensmesh_cli.reading import About, Known, Read, ReadFile, UnreadableFile, most_bytes_of, read_files
from lensmesh_cli.sources import ImageFile, Walk

if TYPE_CHECKING:
    from lensmesh_cli.progress import Bar
    from lensmesh_client import Client, IngestItem, IngestResult

# Paths found ahead of those that are read, so that the total is soon known.
PATHS_AHEAD = 100_000
FILES_AHEAD = 4


@dataclass(slots=True)
class Counts:
    """The outcomes of the files of one run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    """The changed parts of items that were already there: "caption", "metadata" and so on."""
    skipped: int = 0
    """Files that an earlier run stored, and that are still there."""
    lost: int = 0
    """Files that the journal calls stored, and that the mesh no longer has."""
    copies: list[Path] = field(default_factory=list)
    """Files whose image another file of the run holds as well."""
    near_duplicates: int = 0
    """Images that are stored and look the same as other items'."""
    left_out: int = 0
    """Images that are not stored, since items that are there look the same."""
    low_content: int = 0
    """Images of one colour."""
    transparent: int = 0
    """Images of which no pixel is visible."""
    captionless: int = 0
    caption_errors: Counter[str] = field(default_factory=Counter)
    failures: list[UnreadableFile] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def stored(self) -> int:
        """The number of files whose items this run has stored durably."""
        return self.outcomes.total()


class FolderIngest:
    """An ingest of what the walk finds and the journal does not know. `options` are `Client.ingest_many`'s."""

    _stored: Stored

    def __init__(
        self,
        walk: Walk,
        disk: Disk,
        about: About,
        journal: Journal,
        options: dict[str, Any],
        id_of: Callable[[Path], str] = lambda _: "",
    ) -> None:
        """Make an ingest.

        Args:
            walk: The files.
            disk: What reads them.
            about: The metadata of each.
            journal: The files that are stored.
            options: Those of `Client.ingest_many`.
            id_of: The id of a file's item; "" has it named by its content.
        """
        self._walk = walk
        self._disk = disk
        self._about = about
        self._journal = journal
        self._options = options
        self._id_of = id_of
        self._wants_captions = options["captions"] != "none"
        self._sent: dict[int, ReadFile] = {}
        self._index = 0
        self._known_ids: set[str] = set()
        self._identity = ""
        self.counts = Counts()
        self.stopped = False
        """True where the run was told to end before all files were read."""

    @property
    def identity(self) -> str:
        """The identity of the collection; "" where there is none yet."""
        return self._identity

    @property
    def ids(self) -> set[str]:
        """The ids of the items of this run's files."""
        return self._known_ids

    @property
    def complete(self) -> bool:
        """True where nothing is left to do: all were read, none failed, none lacks a caption that it should have."""
        return not self.stopped and not self.counts.failures and not self.counts.captionless

    def stop(self) -> None:
        """Read no further files. What is on its way is still stored."""
        self.stopped = True

    async def ingest(self, client: Client, stored: Stored, bar: Bar) -> None:
        """Send all files. Raises errors that end a whole run; `counts` then tells how far it came."""
        self._stored = stored
        most = await most_bytes_of(client)
        self._identity = await self._stored.identity()
        self._begin()
        results = client.ingest_many(
            self._items(most, bar),
            on_resume=lambda error, count: bar.say(f"{error.message}: {count} images are sent again"),
            on_wait=lambda why, count: bar.say(f"waiting for an answer to {count} images: {why}"),
            **self._options,
        )
        try:
            async with aclosing(results):
                async for result in results:
                    await self._take(result)
                    bar.step(ok=result.ok)
        finally:
            self.counts.seconds = bar.seconds

    def _begin(self) -> None:
        # What decides, beside a file and its metadata, what is stored of it.
        elsewhere = {"collection", "metadata", "deferred_index", "local_features", "tags"}
        options = {name: str(value) for name, value in self._options.items() if name not in elsewhere}
        if "tags" in self._options:
            # Thousands of labels, perhaps: the journal needs to know no more than whether they are others.
            options["tags"] = hashlib.sha256(repr(self._options["tags"]).encode()).hexdigest()[:16]
        self._journal.begin(self._identity, options)

    async def _items(self, most_bytes: int, bar: Bar) -> AsyncIterator[IngestItem]:
        again: list[Path] = []
        known: list[Known] = []
        with closing(Ahead(self._walk, PATHS_AHEAD)) as found:
            reads = read_files(found, self._disk, most_bytes, self._about, self._journal.known)
            with closing(Ahead(reads, FILES_AHEAD)) as ahead:
                async for read in ahead:
                    if self.stopped:
                        break
                    bar.expect(self._walk.images + self._walk.problems)
                    if isinstance(read, Known):
                        known.append(read)
                        if len(known) >= CALL_ITEMS:
                            again += await self._check(known, bar)
                            known.clear()
                    elif (item := self._item(read, bar)) is not None:
                        yield item
        again += await self._check(known, bar)
        reads = read_files(map(ImageFile, again), self._disk, most_bytes, self._about)
        with closing(Ahead(reads, FILES_AHEAD)) as ahead:
            async for read in ahead:
                if self.stopped:
                    return
                if (item := self._item(read, bar)) is not None:
                    yield item

    async def _check(self, known: list[Known], bar: Bar) -> list[Path]:
        """Ask the mesh for the items that the journal knows. Return the files that must be sent all the same."""
        items = await self._stored.items(list({one.id for one in known})) if known else {}
        again = []
        for one in known:
            item = items.get(one.id)
            if item is None or (self._wants_captions and not item.HasField("caption")):
                self.counts.lost += item is None
                again.append(one.path)
            else:
                self.counts.skipped += 1
                self._known_ids.add(one.id)
                bar.step(ok=True)
        return again

    def _item(self, read: Read, bar: Bar) -> IngestItem | None:
        from lensmesh_client import IngestItem

        if isinstance(read, UnreadableFile):
            self.counts.failures.append(read)
            bar.step(ok=False)
            return None
        assert isinstance(read, ReadFile)
        self._sent[self._index] = read
        self._index += 1
        item_id = self._id_of(read.path)
        return IngestItem(read.data, item_id, metadata=read.metadata, image_uri=read.place.as_uri())

    async def _take(self, result: IngestResult) -> None:
        sent = self._sent.pop(result.index)
        if result.error is not None:
            self.counts.failures.append(UnreadableFile(sent.path, result.error.reason, result.error.message))
            return
        if not self._identity:
            # The first item made the collection.
            self._identity = await self._stored.identity()
            self._begin()
        if result.outcome == "skipped" and result.near_duplicate is not None:
            self.counts.left_out += 1
            # That item stands for the file: where it is gone, the same command sends the file again.
            self._known_ids.add(result.near_duplicate.id)
            self._journal.add(sent.place, sent.fingerprint, result.near_duplicate.id)
            return
        self.counts.near_duplicates += result.near_duplicate is not None
        outcome = str(result.outcome or "stored")
        self.counts.outcomes[outcome] += 1
        self.counts.changes.update(map(str, result.changes))
        self.counts.low_content += result.low_content
        self.counts.transparent += result.fully_transparent
        if result.id in self._known_ids:
            self.counts.copies.append(sent.path)
        self._known_ids.add(result.id)
        if self._wants_captions and result.caption is None:
            # In the journal without its fingerprint: the same command sends it again, and of the others none.
            self.counts.captionless += 1
            if result.caption_error is not None:
                self.counts.caption_errors[result.caption_error.message] += 1
        self._journal.add(sent.place, sent.fingerprint if result.caption or not self._wants_captions else "", result.id)
