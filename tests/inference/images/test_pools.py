"""The decode pool: bounded, interactive first, and quick to forget what nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.devices import cpu_count
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
