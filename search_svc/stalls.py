"""Detection of stalls: this process was stopped, its machine slept, or its event loop was blocked.

Whoever called a replica gives it up after half a minute of silence, or when the call's deadline passes, and lets
another replica do the work. A write that the silent one still holds must not be done when it wakes: it could replace a
newer one. gRPC counts a deadline from when a call is read, so calls that lay unread in a socket would look new then.
"""

import asyncio

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason

_TICKS = 8
# After a stall, for so long no new write is taken: calls whose connection is gone are told so within this time.
SETTLE_S = 1.0


class Stalls:
    """A clock that ticks on the event loop. Times are the loop's, which go on while a process is stopped.

    Args:
        longest_s: a gap between two ticks that is longer than this, in seconds, is a stall.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._last = float("-inf")
        self._ended = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick; nothing happens where the clock ticks already."""
        if self._timer is None:
            self._last = asyncio.get_running_loop().time()
            self._tick()

    def stop(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self, since: float) -> None:
        """Refuse work that began at the loop time `since` if the process stood still after, or just before that.

        Raises:
            Unavailable: NOT_READY; another replica, or this one a second later, can do it.
        """
        self._look()
        if self._ended > since - SETTLE_S:
            raise Unavailable(
                Reason.NOT_READY,
                f"this replica stood still for longer than {self._longest_s:g} s, so that others may have done its work"
                " meanwhile; nothing was written: send the call again",
                retry_after_s=SETTLE_S,
            )

    def _tick(self) -> None:
        self._look()
        self._timer = asyncio.get_running_loop().call_later(self._longest_s / _TICKS, self._tick)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._timer is not None and now - self._last > self._longest_s:
            self._ended = now
        self._last = now
