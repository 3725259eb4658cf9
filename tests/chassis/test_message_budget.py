"""What all calls hold together: what waits, what is given up, and who is not stopped by it.

Answers: test_answers_unread.py.
"""

import asyncio
from typing import Any

import pytest

from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.messages.budget import SMALL_BYTES, MessageBudget
from lensmesh_chassis.reasons import Reason
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

LARGE = SMALL_BYTES * 4


def budget(total: int = LARGE, **changes: Any) -> MessageBudget:
    return MessageBudget(total, **({"message_bytes": LARGE, "patience_s": 60.0} | changes))


async def nothing_comes() -> None:
    await asyncio.Event().wait()


async def over(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_reads_that_bring_nothing_make_room_for_others() -> None:
    """Each may still bring a large message, and there is room for two of them."""
    bounds = budget(lasting_bytes=2 * LARGE, slow_s=0.0)
    reads = [asyncio.create_task(bounds.receive("a", nothing_comes)) for _ in range(9)]
    await until(lambda: sum(read.done() for read in reads) == 7)
    ended = await over(reads)
    assert [type(one) for one in ended] == [Overloaded] * 7 + [asyncio.CancelledError] * 2, "the oldest go first"
    assert ended[0].reason is Reason.OVERLOADED
    assert ended[0].retry_after_s


async def test_young_reads_stay_and_the_newcomer_is_refused() -> None:
    bounds = budget(lasting_bytes=2 * LARGE, slow_s=1000.0)
    reads = [asyncio.create_task(bounds.receive("a", nothing_comes)) for _ in range(4)]
    await until(lambda: sum(read.done() for read in reads) == 2)
    assert not reads[0].done()
    await over(reads)


async def test_idle_streams_of_small_messages_are_left_alone() -> None:
    bounds = budget(lasting_bytes=LARGE, slow_s=0.0)
    reads = [asyncio.create_task(bounds.receive("a", nothing_comes, largest=100, patient=True)) for _ in range(30)]
    # A message that comes meanwhile is read: they hold nobody up.
    await asyncio.sleep(0.5)
    assert await bounds.receive("a", lambda: asyncio.sleep(0, "message")) == "message"
    assert not any(read.done() for read in reads)
    await over(reads)


async def test_messages_wait_until_there_is_room_to_work_on_them() -> None:
    bounds = budget(total=2 * LARGE)
    with bounds.account("a") as first, bounds.account("a") as second, bounds.account("a") as third:
        await first.work_on(LARGE)
        await second.work_on(LARGE)
        waiting = asyncio.create_task(third.work_on(LARGE))
        await asyncio.sleep(0)
        assert bounds.held == 3 * LARGE
        assert not waiting.done()
        # Large calls of one method hold up no small one, and none of another method.
        assert await bounds.receive("b", lambda: asyncio.sleep(0, "message")) == "message"
        with bounds.account("a") as small:
            await small.work_on(100)
        first.drop()
        await waiting
    assert bounds.held == 0


async def test_a_call_that_waits_for_too_long_is_refused() -> None:
    bounds = budget(patience_s=0.05)
    with bounds.account("a") as first, bounds.account("a") as second:
        await first.work_on(LARGE)
        with pytest.raises(Overloaded) as caught:
            await second.work_on(LARGE)
    assert caught.value.retry_after_s
    assert caught.value.metadata["limit_bytes"] == str(LARGE)
    assert bounds.refused == 1
    assert bounds.held == 0


async def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    bounds = budget()
    with bounds.account("a") as first, bounds.account("a") as second:
        await first.work_on(LARGE)
        [ended] = await over([asyncio.create_task(second.work_on(LARGE))])
        assert isinstance(ended, asyncio.CancelledError)
    assert bounds.held == 0
    reads = [asyncio.create_task(bounds.receive("a", nothing_comes)) for _ in range(6)]
    await asyncio.sleep(0)
    await over(reads)
    assert await bounds.receive("a", lambda: asyncio.sleep(0, "message")) == "message"


async def test_a_message_that_waits_while_memory_is_short_goes_on_when_it_is_not() -> None:
    used = 95
    bounds = budget(4 * LARGE, memory_bytes=100, resident=lambda: used)
    with bounds.account("a") as long, bounds.account("a") as waits:
        await long.work_on(LARGE)
        waiting = asyncio.create_task(waits.work_on(LARGE))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        used = 50
        await until(waiting.done, "nobody told it")
    assert bounds.held == 0


async def test_short_memory_ends_what_is_slow() -> None:
    used, trimmed = 95, 0

    def trim() -> None:
        nonlocal trimmed
        trimmed += 1

    bounds = budget(memory_bytes=100, resident=lambda: used, trim=trim, lasting_bytes=100 * LARGE, slow_s=0.0)
    reads = [asyncio.create_task(bounds.receive("a", nothing_comes)) for _ in range(3)]
    await until(lambda: all(read.done() for read in reads))
    assert all(isinstance(one, Overloaded) for one in await over(reads))
    assert bounds.given_up == 3
    assert trimmed
