"""Work that replicas had in their hands when they ended: sent again apart, and refused where it ends them again."""

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lensmesh_chassis.errors import DeadlineExceeded
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope

# A lost call is sent again in so many parts: few losses find the one that caused them, and the others wait little.
PARTS = 8
# Losses of an item that was alone in its call, until it is refused. Where no other call was lost since its last loss,
# it was this item, or chance: twice is enough. Where others were, they may have been the cause, or all replicas go.
CLEAN_LOSSES = 2
ALL_LOSSES = 4
# A suspicion is forgotten after so long, a refusal later: by then it may be another release that runs.
SUSPECTED_S = 600.0
REFUSED_S = 3600.0
MOST = 4096


@dataclass(slots=True)
class _Record:
    size: int
    at: float
    most: int
    """Items of the next call it goes with."""
    clean: int = 0
    alone: int = 0

    @property
    def refused(self) -> bool:
        return self.clean >= CLEAN_LOSSES or self.alone >= ALL_LOSSES


class ItemSuspects:
    """Items of one kind of service that were in a call when its replica ended.

    Most of them have done nothing: a process may end for any reason. So the items of a lost call are sent again in
    parts, one call at a time, and in ever smaller ones where that is lost too. An item that ends replicas alone is told
    apart from one that was beside it, and from a machine that goes down: see CLEAN_LOSSES.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()
        self._sizes: Counter[int] = Counter()
        self._one_at_a_time = asyncio.Lock()

    def __bool__(self) -> bool:
        """Tell whether there is any: nearly always not, and nobody has to be looked for."""
        return bool(self._records)

    def most_with(self, content: bytes) -> int:
        """Return how many items may go in one call with this one; 0: it is not suspected."""
        record = self._find(content)
        return record.most if record is not None and not record.refused else 0

    def lost_at(self, content: bytes) -> float | None:
        """Return when this item was last noted as lost, by time.monotonic(); None: it is not suspected."""
        record = self._find(content)
        return record.at if record is not None else None

    def refuses(self, content: bytes) -> bool:
        """Tell whether this item has ended replicas, and is given to no other."""
        record = self._find(content)
        return record is not None and record.refused

    def lost(self, contents: Sequence[bytes], *, others: bool = False) -> None:
        """Note that a replica ended with these items in one call; `others`: so did other calls, since the last time."""
        now = time.monotonic()
        for content in contents:
            key = _key(content)
            record = self._records.pop(key, None)
            if record is None:
                record = _Record(len(content), now, len(contents))
                self._sizes[record.size] += 1
            record.at = now
            record.most = max(1, min(record.most, len(contents) // PARTS))
            if len(contents) == 1:
                record.alone += 1
                record.clean += not others
            self._records[key] = record
        self._forget_old(now)

    def answered(self, contents: Sequence[bytes]) -> None:
        """Note that a replica did these items and lives."""
        for content in contents:
            if len(content) in self._sizes:
                self._drop(_key(content))

    @asynccontextmanager
    async def one_at_a_time(self, scope: CallScope) -> AsyncIterator[None]:
        """Send suspected items inside: two of them at once could not be told apart. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout_at(scope.deadline):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED, "the call's deadline passed before its work was done"
            ) from None
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def _find(self, content: bytes) -> _Record | None:
        if len(content) not in self._sizes:
            return None
        return self._records.get(_key(content))

    def _forget_old(self, now: float) -> None:
        for key, record in list(self._records.items()):
            too_old = now - record.at > (REFUSED_S if record.refused else SUSPECTED_S)
            if too_old or len(self._records) > MOST:
                self._drop(key)

    def _drop(self, key: bytes) -> None:
        if (record := self._records.pop(key, None)) is not None:
            self._sizes[record.size] -= 1
            if not self._sizes[record.size]:
                del self._sizes[record.size]


def _key(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
