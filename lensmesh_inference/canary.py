"""A question with a known answer that a model is asked at start and on a timer, to prove that it still works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, Overloaded
from lensmesh_chassis.reasons import Reason

A = TypeVar("A")

# A model that failed is asked again so soon, whatever the timer says: it is told as well once it is.
AGAIN_S = 5.0
# One that failed on an item is asked whether it was the item; so many seconds lie between two such questions at least.
SUSPECT_S = 1.0

_log = logging.getLogger(__name__)


class Canary(Generic[A]):
    """The canary of one model on one device.

    `ask` sends a fixed input on the way that callers' inputs go, past any cache of results. Later answers are compared
    with the first one, by `same`. `tell` is called with the reason why the model cannot be trusted, and with "" once it
    answers as before. `batches` counts the batches that the device has begun. A device that does other work meanwhile
    is only too busy for the question, and is not reported.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[A]],
        same: Callable[[A, A], bool],
        tell: Callable[[str], None],
        *,
        name: str,
        every_s: float,
        timeout_s: float,
        batches: Callable[[], int] = lambda: 0,
    ) -> None:
        self._ask = ask
        self._same = same
        self._tell = tell
        self._name = name
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._batches = batches
        self._known: A | None = None
        self._passed: float | None = None
        self._failing = False
        self._suspected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> A | None:
        """The first answer; None before it."""
        return self._known

    @property
    def age_s(self) -> float | None:
        """The seconds since the last question that passed; None before the first."""
        return None if self._passed is None else time.monotonic() - self._passed

    @property
    def passes(self) -> bool:
        """True where the last question passed. A question that was refused, or met a busy device, does not count.

        False before the first.
        """
        return self._passed is not None and not self._failing

    async def start(self) -> A:
        """Ask for the first time, then on the timer (never, where `every_s` is 0). Raises what the model raises."""
        answer = await self._ask()
        if not self._same(answer, answer):
            raise InternalFault(Reason.MODEL_FAILED, f"{self._name} computes what is no answer, such as NaN")
        self._known = answer
        self._passed = time.monotonic()
        if self._every_s > 0:
            self._task = asyncio.create_task(self._repeat(), name=f"canary-{self._name}")
        return answer

    async def stop(self) -> None:
        """Stop asking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def suspect(self) -> None:
        """Ask soon: the model failed on a caller's item, and the answer tells whether that was the item's fault."""
        self._suspected.set()

    async def check(self) -> None:
        """Ask once, and report the result to `tell`."""
        assert self._known is not None, "start() comes first"
        done = self._batches()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask()
            trouble = "" if self._same(self._known, answer) else f"{self._name} no longer answers as it did at start"
        except (Overloaded, DeadlineExceeded):
            return
        except TimeoutError:
            if self._batches() != done:
                return
            trouble = f"{self._name} has not answered its canary for {self._timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a broken model raises is the finding
            _log.warning("the canary of %s failed: %r", self._name, error)
            trouble = f"{self._name} fails on its canary"
        if not trouble:
            self._passed = time.monotonic()
        if trouble or self._failing:
            self._failing = bool(trouble)
            self._tell(trouble)

    async def _repeat(self) -> None:
        while True:
            pause_s = min(self._every_s, AGAIN_S) if self._failing else self._every_s
            least_s = min(pause_s, SUSPECT_S)
            await asyncio.sleep(least_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s - least_s):
                    await self._suspected.wait()
            await self.check()
            # Only now: a canary that fails makes itself suspect.
            self._suspected.clear()


class Canaries(Generic[A]):
    """The canaries of one model, one for each device."""

    def __init__(self, canaries: Sequence[Canary[A]]) -> None:
        self._canaries = canaries

    @property
    def known(self) -> A | None:
        """The first device's first answer."""
        return self._canaries[0].known

    @property
    def age_s(self) -> float | None:
        """The seconds since the last question that passed, on the device where that is longest ago."""
        ages = [age_s for canary in self._canaries if (age_s := canary.age_s) is not None]
        return max(ages) if len(ages) == len(self._canaries) else None

    @property
    def passes(self) -> bool:
        """True where all canaries pass."""
        return all(canary.passes for canary in self._canaries)

    async def start(self) -> None:
        """Start one canary after another. Raises what the model raises."""
        for canary in self._canaries:
            await canary.start()

    async def stop(self) -> None:
        """Stop asking."""
        await asyncio.gather(*(canary.stop() for canary in self._canaries))

    def suspect(self) -> None:
        """Ask all devices soon: the model failed on a caller's item, and it is not known on which device."""
        for canary in self._canaries:
            canary.suspect()
