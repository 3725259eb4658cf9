"""Items that a bulk stream has read and not answered yet: bounded in items and bytes, by id in order."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

# What is read ahead of a caller who says nothing else.
WINDOW_ITEMS, WINDOW_BYTES = 512, 64 * 1024 * 1024
# Messages are filled so far where items are at hand: enough for throughput, little enough to keep answers flowing.
GROUP_ITEMS = 32
GROUP_BYTES = 4 * 1024 * 1024
# Tag and length of one item within its message.
ITEM_OVERHEAD_BYTES = 16


class Referable(Protocol):
    """The message of one item of a stream."""

    ref: str


@dataclass(slots=True, eq=False)
class Entry:
    """An item on its way. `message.ref` is its position in the input; `ref` is the caller's own."""

    index: int
    ref: str
    message: Referable
    size_bytes: int
    key: str = ""
    """Key that it is stored under: two items of one key are never on their way together, so that none overtakes. Empty
    where nothing is stored."""
    attempts: int = 0
    strikes: int = 0
    """Streams that ended while this was the only item on them without an answer."""


class Window:
    """Every entry is in exactly one place: waiting to be sent, sent, or waiting to be sent again later."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._ready: deque[Entry] = deque()
        self._sent: dict[str, Entry] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._held: dict[str, Entry] = {}
        self._keys: set[str] = set()
        self._bytes = 0
        self._room = asyncio.Event()
        self.work = asyncio.Event()
        """Set whenever there may be something to send, or nothing more to come."""
        self.exhausted = False
        """The caller's input has ended."""
        self.waiting_since: float | None = None
        """Loop time since which nothing has been answered of what was sent; None while nothing is out."""
        self._most_out: int | None = None
        """Number that may be sent and not answered, while an item is sought that ends streams; None: any."""

    @property
    def finished(self) -> bool:
        """All has been read and answered."""
        return self.exhausted and not (self._ready or self._sent or self._later)

    @property
    def nothing_to_send(self) -> bool:
        """Neither now nor after a timer nor from the caller."""
        return self.exhausted and not self._ready and not self._later

    async def admit(self, entry: Entry, *, send: bool = True) -> None:
        """Wait for room; one entry larger than all the room goes alone. What is not to be sent only takes its room."""
        while self._held and (
            len(self._held) >= self._max_items
            or self._bytes + entry.size_bytes > self._max_bytes
            or entry.key in self._keys
        ):
            self._room.clear()
            await self._room.wait()
        self._held[entry.message.ref] = entry
        if entry.key:
            self._keys.add(entry.key)
        self._bytes += entry.size_bytes
        if send:
            self._ready.append(entry)
            self.work.set()

    def release(self, entry: Entry) -> None:
        """Forget an entry whose final answer the caller has taken."""
        del self._held[entry.message.ref]
        self._keys.discard(entry.key)
        self._bytes -= entry.size_bytes
        self._room.set()

    @property
    def sent(self) -> int:
        """Entries that are sent and not answered."""
        return len(self._sent)

    @property
    def unanswered(self) -> int:
        """Entries that are sent, or wait to be."""
        return len(self._sent) + len(self._ready) + len(self._later)

    def end_of_input(self) -> None:
        """Take note that nothing more will be admitted."""
        self.exhausted = True
        self.work.set()

    async def something_to_do(self) -> bool:
        """Wait until a stream is needed (True) or all is done (False)."""
        while not (self._ready or self._later or self.finished):
            self.work.clear()
            await self.work.wait()
        return not self.finished

    def take(self, max_items: int, max_bytes: int) -> list[Entry]:
        """Return the next message's entries, marked as sent; empty where none is ready."""
        group: list[Entry] = []
        size, most = 0, min(max_items or GROUP_ITEMS, GROUP_ITEMS)
        if self._most_out is not None:
            most = min(most, self._most_out - len(self._sent))
        room = min(max_bytes or GROUP_BYTES, GROUP_BYTES)
        while self._ready and len(group) < most:
            entry = self._ready[0]
            if group and size + entry.size_bytes > room:
                break
            self._ready.popleft()
            self._sent[entry.message.ref] = entry
            entry.attempts += 1
            group.append(entry)
            size += entry.size_bytes
        if not self._ready or not group:
            self.work.clear()
        if group and self.waiting_since is None:
            self.waiting_since = asyncio.get_running_loop().time()
        return group

    def answered(self, ref: str) -> Entry | None:
        """Take out the sent entry of that ref. Return None for one that was not asked or has its answer."""
        entry = self._sent.pop(ref, None)
        self.waiting_since = asyncio.get_running_loop().time() if self._sent else None
        if self._most_out is not None and not self._sent:
            # None of these ends a stream: twice as many may go now.
            self._most_out = self._most_out * 2 if self._most_out < GROUP_ITEMS else None
            self.work.set()
        return entry

    def narrow(self) -> Entry | None:
        """Send half as many at once as are out now, since one of them may have ended the stream; it, if it is alone."""
        if self._sent:
            self._most_out = max(1, len(self._sent) // 2)
        return next(iter(self._sent.values())) if len(self._sent) == 1 else None

    def give_up(self, entry: Entry) -> None:
        """Send this entry no more; its place is kept until its result is taken."""
        self._sent.pop(entry.message.ref, None)
        self._most_out = None

    def send_again(self, entry: Entry, delay_s: float) -> None:
        """Send an entry after a delay, unless the window is closed before."""

        def due() -> None:
            del self._later[entry.message.ref]
            self._ready.append(entry)
            self.work.set()

        self._later[entry.message.ref] = asyncio.get_running_loop().call_later(delay_s, due)

    def unsend(self) -> int:
        """Let what was sent and not answered wait again, oldest first: its stream ended. Return how many wait."""
        self._ready = deque(sorted([*self._sent.values(), *self._ready], key=lambda entry: entry.index))
        self._sent.clear()
        self.waiting_since = None
        return len(self._ready)

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
