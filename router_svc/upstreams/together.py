"""Several awaits at the same time, where the first failure ends all."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


async def together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results, in order. The first error cancels the others, waits for their end, and is raised as it is."""
    if not jobs:
        return []
    if len(jobs) == 1:
        # Nearly always: one needs no task.
        return [await jobs[0]]
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """Return two results of different kinds, as `together`."""
    jobs: list[Coroutine[Any, Any, Any]] = [one, other]
    first, second = await together(jobs)
    return first, second
