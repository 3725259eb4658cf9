"""Waiting lines: the order, and turns of callers that are cancelled; bytes that wait for others to be given back."""

import asyncio

import pytest

from lensmesh_chassis.concurrency import Budget, WaitingLine


async def lined_up(line: WaitingLine, *sizes: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(line.wait(size)) for size in sizes]
    await asyncio.sleep(0)
    return tasks


async def test_callers_are_woken_in_their_order() -> None:
    line = WaitingLine(lambda _: None)
    first, second = await lined_up(line, 1, 2)
    assert (len(line), line.first) == (2, 1)
    line.wake()
    await first
    assert (line.first, second.done()) == (2, False)
    line.wake()
    await second
    assert not line


async def test_a_cancelled_caller_is_passed_over() -> None:
    line = WaitingLine(lambda _: None)
    gone, next_one = await lined_up(line, 1, 2)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert line.first == 2
    line.wake()
    await next_one


async def test_a_turn_of_a_caller_that_was_cancelled_meanwhile_is_given_back() -> None:
    given_back: list[int] = []
    line = WaitingLine(given_back.append)
    (task,) = await lined_up(line, 7)
    line.wake()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given_back == [7]


async def test_room_behind_a_large_caller_that_leaves_is_handed_out_at_once() -> None:
    budget = Budget(10)
    await budget.take(6)
    large, small = (asyncio.create_task(budget.take(size)) for size in (9, 2))
    await asyncio.sleep(0)
    assert not small.done()
    large.cancel()
    async with asyncio.timeout(10):
        assert await small == 2
    assert budget.held == 8


async def test_while_memory_is_short_one_large_request_at_a_time_has_bytes() -> None:
    short = True
    budget = Budget(100, lambda: short)
    assert [budget.take_free(4) for _ in range(4)] == [4, 4, 4, None], "small ones go together"
    budget.give(12)
    assert await budget.take(10) == 10
    second, third = (asyncio.create_task(budget.take(10)) for _ in range(2))
    await asyncio.sleep(0)
    assert budget.held == 10
    budget.give(10)
    await second
    assert budget.held == 10
    short = False
    assert budget.take_free(10) is None, "others come before"
    fourth = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    assert [await third, await fourth, budget.take_free(80)] == [10, 10, 80]


async def test_who_waits_for_memory_is_given_bytes_when_it_is_no_longer_short() -> None:
    short = True
    budget = Budget(100, lambda: short)
    assert await budget.take(20) == 20
    waits = asyncio.create_task(budget.take(20))
    await asyncio.sleep(0)
    short = False
    budget.hand_out()
    assert await waits == 20
