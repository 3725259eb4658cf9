"""The decode pool: bounded, interactive first, and quick to forget what nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from lensmesh_chassis.errors import Unavailable
from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.devices import cpu_count
from lensmesh_inference.images import threads
from lensmesh_inference.images.pool import DecodePool
from tests.support.waiting import until


async def test_it_runs_functions_elsewhere_and_raises_what_they_raise() -> None:
    pool = DecodePool(2)
    assert await pool.run(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)
    await pool.close()


def test_as_many_threads_as_cpus_unless_told() -> None:
    assert DecodePool().threads == cpu_count()
    assert DecodePool(3).threads == 3


async def test_never_more_jobs_than_threads() -> None:
    pool, running, most, lock = DecodePool(2), 0, 0, threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    await asyncio.gather(*(pool.run(job) for _ in range(30)))
    assert most == 2
    await pool.close()


async def test_interactive_jobs_overtake_waiting_bulk_jobs() -> None:
    pool, free, order = DecodePool(1), threading.Event(), list[str]()
    first = asyncio.create_task(pool.run(free.wait, 30))
    await asyncio.sleep(0)
    bulk = [asyncio.create_task(pool.run(order.append, "bulk", lane=Lane.BULK)) for _ in range(3)]
    await until(lambda: pool.waiting == 3)
    interactive = asyncio.create_task(pool.run(order.append, "interactive", lane=Lane.INTERACTIVE))
    await until(lambda: pool.waiting == 4)
    free.set()
    await asyncio.gather(first, interactive, *bulk)
    assert order == ["interactive", "bulk", "bulk", "bulk"]
    await pool.close()


class Noted:
    """A job that notes its number, and does what it is told."""

    def __init__(self, number: int, order: list[int], work: Callable[[], object] = lambda: None) -> None:
        self.number, self.order, self.work = number, order, work
        self.wanted, self.long = True, False
        self.refused: Exception | None = None

    def run(self) -> None:
        self.order.append(self.number)
        self.work()

    def refuse(self, error: Exception) -> None:
        self.refused = error


async def test_idle_threads_share_a_chunk() -> None:
    pool, told = DecodePool(3), list[Noted]()
    # Each of the first three goes on only when all three are there.
    together = threading.Barrier(3, timeout=30)
    jobs = [Noted(number, [], together.wait if number < 3 else int) for number in range(9)]
    pool.start(jobs, told.extend, lane=Lane.BULK)
    await until(lambda: len(told) == 9)
    assert set(told) == set(jobs)
    await pool.close()


async def test_what_is_interactive_goes_in_the_middle_of_a_bulk_chunk() -> None:
    pool, free, order, told = DecodePool(1), threading.Event(), list[int](), list[Noted]()
    pool.start([Noted(0, order, lambda: free.wait(30)), Noted(1, order), Noted(2, order)], told.extend, lane=Lane.BULK)
    await until(lambda: order == [0])
    pool.start([Noted(10, order)], told.extend, lane=Lane.INTERACTIVE)
    free.set()
    await until(lambda: len(told) == 4)
    assert order == [0, 10, 1, 2]
    await pool.close()


async def test_chunks_of_one_lane_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that each turn is over with its first job.
    monkeypatch.setattr(threads, "TURN_S", -1.0)
    pool, free, order, told = DecodePool(1), threading.Event(), list[int](), list[Noted]()
    first = [Noted(0, order, lambda: free.wait(30)), *(Noted(number, order) for number in (1, 2, 3))]
    pool.start(first, told.extend, lane=Lane.BULK)
    await until(lambda: order == [0])
    pool.start([Noted(10, order), Noted(11, order)], told.extend, lane=Lane.BULK)
    free.set()
    await until(lambda: len(told) == 6)
    assert order == [0, 10, 1, 11, 2, 3]
    await pool.close()


async def test_no_job_of_a_chunk_begins_that_nobody_wants() -> None:
    pool, free, order, told = DecodePool(1), threading.Event(), list[int](), list[Noted]()
    jobs = [Noted(0, order, lambda: free.wait(30)), *(Noted(number, order) for number in (1, 2, 3))]
    pool.start(jobs, told.extend, lane=Lane.BULK)
    await until(lambda: order == [0])
    for job in jobs[:3]:
        job.wanted = False
    assert pool.waiting == 1
    pool.prune()
    free.set()
    await until(lambda: jobs[3] in told)
    assert order == [0, 3]
    await pool.close()


async def test_a_job_that_raises_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    pool, order, told = DecodePool(1), list[int](), list[Noted]()
    jobs = [Noted(0, order, lambda: 1 / 0), Noted(1, order)]
    pool.start(jobs, told.extend, lane=Lane.BULK)
    await until(lambda: told == jobs)
    assert [type(job.refused) for job in jobs] == [ZeroDivisionError, type(None)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    await pool.close()


async def test_what_waits_when_the_pool_closes_is_told_so() -> None:
    pool, free, order, told = DecodePool(1), threading.Event(), list[int](), list[Noted]()
    jobs = [Noted(0, order, lambda: free.wait(30)), Noted(1, order)]
    pool.start(jobs, told.extend, lane=Lane.BULK)
    await until(lambda: order == [0])
    closing = asyncio.create_task(pool.close())
    await until(lambda: told == [jobs[1]])
    free.set()
    await closing
    pool.start([Noted(2, order)], told.extend, lane=Lane.BULK)
    await until(lambda: len(told) == 3)
    assert [type(job.refused) for job in told] == [Unavailable, type(None), Unavailable]
    assert order == [0]


async def test_what_is_cancelled_while_it_waits_is_never_run() -> None:
    pool, free, ran = DecodePool(1), threading.Event(), list[int]()
    first = asyncio.create_task(pool.run(free.wait, 30))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(pool.run(ran.append, number)) for number in range(4)]
    await until(lambda: pool.waiting == 4)
    for task in tasks[:3]:
        task.cancel()
    await until(lambda: pool.waiting == 1)
    free.set()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    assert ran == [3]
    await pool.close()


async def test_a_thread_is_taken_until_its_job_ends_even_if_nobody_waits_for_it() -> None:
    pool, free, begun = DecodePool(1), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        free.wait(30)

    abandoned = asyncio.create_task(pool.run(job))
    await until(begun.is_set)
    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)
    next_ = asyncio.create_task(pool.run(int, "7"))
    await until(lambda: pool.waiting == 1)
    free.set()
    assert await asyncio.wait_for(next_, 30) == 7
    assert pool.waiting == 0
    await pool.close()


async def test_what_fails_after_everybody_left_is_no_error_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pool, free, begun = DecodePool(1), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        free.wait(30)
        raise ValueError("a bad image")

    abandoned = asyncio.create_task(pool.run(job))
    await until(begun.is_set)
    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)
    del abandoned
    free.set()
    await pool.run(int, "7")
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    await pool.close()


async def test_cancelling_at_the_moment_of_its_turn_loses_no_thread() -> None:
    pool, free = DecodePool(1), threading.Event()
    first = asyncio.create_task(pool.run(free.wait, 30))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.run(int, "1"))
    await until(lambda: pool.waiting == 1)
    first.add_done_callback(lambda _: second.cancel())
    free.set()
    await asyncio.gather(first, second, return_exceptions=True)
    assert await asyncio.wait_for(pool.run(int, "2"), 30) == 2
    await pool.close()
