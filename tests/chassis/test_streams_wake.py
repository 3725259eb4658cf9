"""The stream engine ends even if its consumer never suspends between two groups."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lensmesh_chassis.rpc.streams import answer_as_ready

pytestmark = pytest.mark.both_loops


async def test_the_last_answer_ends_the_iteration() -> None:
    async def items() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def answer(number: int) -> int:
        await asyncio.sleep(0.01 * number)
        return number

    async def collect() -> list[int]:
        stream = answer_as_ready(
            items(), answer, size_of=lambda _: 1, max_items=10, max_bytes=100, draining=asyncio.Event()
        )
        return [number async for group in stream for number in group]

    assert sorted(await asyncio.wait_for(collect(), timeout=30)) == [0, 1, 2]
