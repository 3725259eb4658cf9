"""Two ways to load a service. A closed loop has a fixed number of calls open; an open loop calls at fixed times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from lensmesh_cli.load.figures import CallSample, ItemTimes


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """The answer to one call."""

    items: int
    errors: tuple[str, ...] = ()
    steps: tuple[ItemTimes, ...] = ()


Call: TypeAlias = Callable[[], Awaitable[LoadAnswer]]


async def closed_loop(call: Call, *, concurrency: int, seconds: float) -> list[CallSample]:
    """Run `concurrency` callers for `seconds`. Each sends its next call when it has the answer to its last."""
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    samples: list[CallSample] = []

    async def caller() -> None:
        while (began := clock()) < end:
            samples.append(_sample(began, clock, await call()))

    async with asyncio.TaskGroup() as callers:
        for _ in range(concurrency):
            callers.create_task(caller())
    return samples


async def open_loop(call: Call, *, rate: float, seconds: float) -> list[CallSample]:
    """Send `rate` calls a second at even distances for `seconds`, whether or not answers come. Wait for all answers.

    A call's time counts from when it was due: a client that cannot keep up makes the figures worse, never better.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    samples: list[CallSample] = []

    async def one(due: float) -> None:
        samples.append(_sample(due, clock, await call()))

    async with asyncio.TaskGroup() as calls:
        for number in range(max(1, round(rate * seconds))):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - clock()))
            calls.create_task(one(due))
    return samples


def _sample(began: float, clock: Callable[[], float], answer: LoadAnswer) -> CallSample:
    return CallSample(began, clock(), answer.items, answer.errors, answer.steps)
