"""Waiting of work for a service that is away or has too much to do."""

import asyncio
import contextlib
import random

from lensmesh_chassis.errors import LensmeshError
from router_svc.call_scope import CallScope
from router_svc.upstreams.errors import is_away, is_busy

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
# An absence that nobody met for so long is over: the next one is another.
_FORGET_S = 60.0


class Absence:
    """Since when nobody of one kind has taken work, as those who wait for it have noticed."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._met_at = float("-inf")

    def end(self) -> None:
        """Note that somebody did the work."""
        self._since = None

    def met(self, now: float) -> float:
        """Note that nobody took the work, and return since when that is so, in loop time."""
        if self._since is None or now - self._met_at > _FORGET_S:
            self._since = now
        self._met_at = now
        return self._since


class Waiting:
    """The pauses between the tries of one piece of work, for as long as its patience lasts.

    While the router drains nothing waits: the try that follows is the last.
    """

    def __init__(self, scope: CallScope, absence: Absence, draining: asyncio.Event, *, comes_back: bool) -> None:
        """Begin to wait. `comes_back`: whether there is anybody at all to wait for."""
        self._scope = scope
        self._absence = absence
        self._draining = draining
        self._comes_back = comes_back
        self._started = asyncio.get_running_loop().time()
        self._pause = FIRST_PAUSE_S

    async def after(self, error: LensmeshError) -> bool:
        """Pause after a try that failed; False, and at once, where the same is not to be tried again."""
        now, patience = asyncio.get_running_loop().time(), self._scope.patience
        if is_busy(error):
            give_up, wait = self._started + patience.busy_s, error.retry_after_s or self._pause
        elif is_away(error) and self._comes_back:
            # Never later than from its own start: others may succeed meanwhile with other models.
            give_up, wait = min(self._started, self._absence.met(now)) + patience.away_s, self._pause
        else:
            return False
        wait = min(wait, LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)
        if self._draining.is_set() or now + wait > min(give_up, self._scope.deadline or give_up):
            return False
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        await pause(self._draining, wait)
        return True


async def pause(draining: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until the router drains."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await draining.wait()
