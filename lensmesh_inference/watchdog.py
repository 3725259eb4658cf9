"""The end of a process whose device, decoding or event loop hangs.

A hung thread can be neither cancelled nor killed alone.

A separate thread looks at them, because what hangs cannot report itself. Time is counted in that thread's own ticks,
not by a clock: a process that was stopped for an hour (SIGSTOP, a suspended machine) has not hung for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from lensmesh_inference.batching.running import Running

TICK_S = 0.5
# So many times its prediction a batch may take.
PREDICTIONS = 5.0
# So many times that the first batch of its kind and size may take, whose prediction is a guess and which may warm
# something up.
FIRST = 3.0
# So many times `hang_s` a batch may take before anything is known of the model, and one item to be decoded.
UNKNOWN = 24.0
# And so many times `hang_s` the event loop may keep a callback waiting.
LOOP = 6.0
# Between saying so and the end: for whoever watches health, and for calls that can still be answered.
LAST_S = 2.0

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """A model's engine, or a pool of threads. The watchdog's thread reads it, so it must be safe to read from there."""

    @property
    def name(self) -> str:
        """The name of the model or of the pool."""

    def running(self) -> Sequence[Running]:
        """Return what its devices or threads work on."""

    @property
    def lost(self) -> bool:
        """True where no device is left."""


class Watchdog:
    """A watchdog over the running event loop, and over the engines and pools that it is given.

    `tell` is called on the event loop with what is wrong. `end` is called in the watchdog's thread a moment later, and
    ends the process. `hang_s` is the time that the shortest batch may take.
    """

    def __init__(
        self, tell: Callable[[str], None], end: Callable[[], None], *, hang_s: float, tick_s: float = TICK_S
    ) -> None:
        self._tell = tell
        self._end = end
        self._hang_s = hang_s
        self._tick_s = tick_s
        self._engines: tuple[Watched, ...] = ()
        # Of each batch in a device, or item in a thread: for how many ticks it has been there.
        self._ticks: dict[tuple[str, int], int] = {}
        self._answered = threading.Event()
        self._loop_ticks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._stopped = threading.Event()

    def watch(self, engine: Watched) -> None:
        """Watch this engine or pool too."""
        self._engines = (*self._engines, engine)

    def start(self) -> None:
        """Start watching. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        self._ping()
        while not self._stopped.wait(self._tick_s):
            trouble = self._loop_trouble() or self._device_trouble()
            if trouble:
                self._say(trouble)
                if not self._stopped.wait(LAST_S):
                    self._end()
                return

    def _ping(self) -> None:
        self._loop_ticks = 0
        self._answered.clear()
        if not self._on_loop(self._answered.set):
            # The loop is closed: the process ends in good order, or the test has.
            self._stopped.set()

    def _loop_trouble(self) -> str:
        if self._answered.is_set():
            self._ping()
            return ""
        self._loop_ticks += 1
        seconds = self._loop_ticks * self._tick_s
        if seconds <= LOOP * self._hang_s:
            return ""
        return f"the event loop has answered nothing for {seconds:g} s{_stack(self._loop_thread)}"

    def _device_trouble(self) -> str:
        now: dict[tuple[str, int], int] = {}
        trouble = ""
        for engine in self._engines:
            if engine.lost:
                return f"{engine.name} has no device left"
            for batch in engine.running():
                key = (engine.name, batch.number)
                now[key] = self._ticks.get(key, 0) + 1
                seconds, predicted_s = now[key] * self._tick_s, batch.predicted_s
                most_s = UNKNOWN * self._hang_s
                if predicted_s is not None:
                    most_s = max(self._hang_s, PREDICTIONS * predicted_s) * (FIRST if batch.first else 1)
                if seconds > most_s and not trouble:
                    expected = "nothing was predicted" if predicted_s is None else f"{predicted_s:.3g} s predicted"
                    trouble = f"{engine.name} hangs: {batch.what} for {seconds:g} s, {expected}{_stack(batch.thread)}"
        self._ticks = now
        return trouble

    def _say(self, trouble: str) -> None:
        reason = trouble.partition("\n")[0]
        self._on_loop(lambda: self._tell(reason))
        # In a thread that nobody waits for: what hangs may hold the log's lock, or be whoever reads the log.
        threading.Thread(
            target=_log.critical,
            args=("the process ends, for its supervisor to start it again: %s", trouble),
            daemon=True,
        ).start()

    def _on_loop(self, callback: Callable[[], None]) -> bool:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True


def _stack(thread: int | None) -> str:
    """Return where a thread is now, on separate lines. They hold names of code and no values."""
    frame = sys._current_frames().get(thread or 0)
    return "" if frame is None else "\n" + "".join(traceback.format_stack(frame)).rstrip()
