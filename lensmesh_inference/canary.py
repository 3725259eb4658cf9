"""A question with a known answer, asked at start and on a timer: the proof that a model still works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from lensmesh_chassis.errors import DeadlineExceeded, Overloaded

A = TypeVar("A")

_log = logging.getLogger(__name__)


class Canary(Generic[A]):
    """One model's canary.

    `ask` sends a fixed input the way callers' inputs go; its first answer is the one that later ones are held
    against, by `same`. `tell` is called with why the model cannot be trusted, and with "" once it answers as before.
    A model that is only too busy to take the question is left alone.
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
    ) -> None:
        self._ask = ask
        self._same = same
        self._tell = tell
        self._name = name
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._known: A | None = None
        self._passed: float | None = None
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since the last one that passed; None before the first."""
        return None if self._passed is None else time.monotonic() - self._passed

    @property
    def passes(self) -> bool:
        """Whether it passed when it last got an answer or none in time; False before the first."""
        return self._passed is not None and not self._failing

    async def start(self) -> A:
        """Ask for the first time, then on the timer (never, where `every_s` is 0). Raises what the model raises."""
        self._known = await self._ask()
        self._passed = time.monotonic()
        if self._every_s > 0:
            self._task = asyncio.create_task(self._repeat(), name=f"canary-{self._name}")
        return self._known

    async def stop(self) -> None:
        """Ask no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def check(self) -> None:
        """Ask now, and tell."""
        assert self._known is not None, "start() comes first"
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask()
            trouble = "" if self._same(self._known, answer) else f"{self._name} no longer answers as it did at start"
        except (Overloaded, DeadlineExceeded):
            return
        except TimeoutError:
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
            await asyncio.sleep(self._every_s)
            await self.check()
