"""The pool: nobody waits for a connection that cannot be had, and those that are open are used."""

import asyncio
from typing import Any

import pytest

from search_svc.postgres.pool import Pool

pytestmark = pytest.mark.both_loops


class FakeConnection:
    """As much of a connection as the pool looks at."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return False

    def terminate(self) -> None:
        self.closed = True

    async def close(self, **_: float) -> None:
        self.closed = True


class Server:
    """Opens up to `room` connections; beyond that it hangs for `hangs_s` and refuses."""

    def __init__(self, room: int, hangs_s: float = 0.0) -> None:
        self.room = room
        self.hangs_s = hangs_s
        self.opened: list[FakeConnection] = []
        self.tries = 0

    async def open(self) -> Any:
        self.tries += 1
        await asyncio.sleep(0)
        if sum(not each.closed for each in self.opened) >= self.room:
            await asyncio.sleep(self.hangs_s)
            raise ConnectionRefusedError
        self.opened.append(FakeConnection())
        return self.opened[-1]


async def use(pool: Pool) -> None:
    connection = await pool.acquire()
    await asyncio.sleep(0.001)
    pool.release(connection)


async def test_all_work_is_done_by_the_connections_there_are() -> None:
    server = Server(room=2)
    pool = Pool(server.open, size=10)
    await asyncio.gather(*(use(pool) for _ in range(100)))
    assert len(server.opened) == 2
    assert pool.failure is not None
    assert pool.size == 2
    await pool.close(1)


async def test_an_open_connection_that_comes_free_is_not_kept_waiting_by_one_that_hangs() -> None:
    server = Server(room=1, hangs_s=30)
    pool = Pool(server.open, size=10)
    held = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.01)
    pool.release(held)
    assert await asyncio.wait_for(waiting, 10) is held
    pool.release(held)
    await pool.close(1)


async def test_all_who_wait_are_told_where_none_can_be_opened() -> None:
    pool = Pool(Server(room=0).open, size=3)
    outcomes = await asyncio.gather(*(pool.acquire() for _ in range(8)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [ConnectionRefusedError] * 8
    await pool.close(1)


async def test_a_caller_who_leaves_takes_no_connection_along() -> None:
    pool = Pool(Server(room=1).open, size=1)
    held = await pool.acquire()
    leaving = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    pool.release(held)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert await asyncio.wait_for(pool.acquire(), 10) is held
    await pool.close(0)


async def test_expired_connections_are_closed_idle_ones_at_once() -> None:
    server = Server(room=9)
    pool = Pool(server.open, size=2)
    idle, used = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    pool.expire()
    assert (idle.is_closed(), used.is_closed()) == (True, False)
    pool.release(used)
    assert used.is_closed()
    assert await pool.acquire() not in (idle, used)
    await pool.close(0)


async def test_a_closed_pool_refuses() -> None:
    pool = Pool(Server(room=1).open, size=1)
    await pool.close(0)
    with pytest.raises(Exception, match="closed"):
        await pool.acquire()
