"""The order within one stream, and items that are ingested as one because they are the same image under the same id."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lensmesh.router.v1 import router_pb2
from router_svc.ingest.plan import Wanted

# Of one run: what is folded is held until all of it is answered.
MOST_IN_RUN = 1024


@dataclass(slots=True)
class SharedRun:
    """Items that followed one another under one id with one content: one of them ingests for all.

    The same file in many folders would otherwise be looked up and written once for each, one after the other.
    """

    after: tuple[asyncio.Future[None], ...]
    done: asyncio.Future[None]
    members: list[Wanted] = field(default_factory=list)
    answers: list[router_pb2.IngestedItem | Exception] = field(default_factory=list)
    """By place, once it is done."""
    begun: bool = False

    async def begin(self) -> None:
        """Return when it is this run's turn; later items begin another one."""
        for earlier in self.after:
            # The earlier one's end is not to be cancelled by whoever waits for it.
            await asyncio.shield(earlier)
        self.begun = True

    def end(self) -> None:
        """Let the next one begin, and the members have their answers."""
        if not self.done.done():
            self.done.set_result(None)

    async def answer(self, place: int) -> router_pb2.IngestedItem:
        """Return or raise what became of one member."""
        await asyncio.shield(self.done)
        if place >= len(self.answers):
            # Whoever ingested for all was cancelled, and with it the stream.
            raise asyncio.CancelledError
        answer = self.answers[place]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True, slots=True)
class Turn:
    """An item's place in the order."""

    run: SharedRun
    place: int

    @property
    def leads(self) -> bool:
        """True where this item ingests for its run."""
        return self.place == 0


class Turns:
    """The order within one stream.

    Runs of one id follow one another, so that they are written in the order of the stream. Items of one content under
    other ids wait for the first of them, and then find its vectors in the store instead of computing them again.
    """

    def __init__(self) -> None:
        self._last_of_id: dict[str, tuple[bytes, SharedRun]] = {}
        self._first_of_content: dict[bytes, asyncio.Future[None]] = {}

    def take(self, wanted: Wanted) -> Turn:
        """Give the next item its turn. To be called in the order of the stream."""
        last = self._last_of_id.get(wanted.id)
        if last is not None and last[0] == wanted.digest:
            run = last[1]
            if not run.begun and not run.done.done() and len(run.members) < MOST_IN_RUN:
                run.members.append(wanted)
                return Turn(run, len(run.members) - 1)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        after = [
            earlier
            for earlier in (last[1].done if last else None, self._first_of_content.get(wanted.digest))
            if earlier is not None and not earlier.done()
        ]
        run = SharedRun(tuple(dict.fromkeys(after)), done, [wanted])
        self._last_of_id[wanted.id] = wanted.digest, run
        self._first_of_content.setdefault(wanted.digest, done)
        done.add_done_callback(functools.partial(self._forget, wanted, run))
        return Turn(run, 0)

    def _forget(self, wanted: Wanted, run: SharedRun, _done: asyncio.Future[None]) -> None:
        if (last := self._last_of_id.get(wanted.id)) is not None and last[1] is run:
            del self._last_of_id[wanted.id]
        if self._first_of_content.get(wanted.digest) is run.done:
            del self._first_of_content[wanted.digest]


def fold(members: Sequence[Wanted], *, merges_metadata: bool) -> Wanted:
    """Return what is stored when the members of a run are ingested one after the other."""
    first, *others = members
    folded = first
    for member in others:
        folded = replace(
            folded,
            metadata=merged(folded.metadata, member.metadata) if merges_metadata else member.metadata,
            caption=member.caption or folded.caption,
            image_uri=member.image_uri or folded.image_uri,
        )
    return folded


def merged(stored: Mapping[str, object], carried: Mapping[str, object]) -> Mapping[str, object]:
    """Merge metadata as the store does: by the keys at the top level."""
    return {**stored, **carried} if carried else stored
