"""A write that came too late, or whose process stood still, is never committed; what ends a transaction is typed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.postgres.database import Database
from search_svc.postgres.faults import translate
from search_svc.stalls import SETTLE_S

pytestmark = pytest.mark.both_loops

IDLE_S = 0.4


def stand_still(seconds: float) -> None:
    """Nothing runs meanwhile, as in a process that was stopped."""
    time.sleep(seconds)


class StoppedAtTheEnd(Database):
    """One whose process is stopped right before it sends the end of a transaction."""

    stopped_s = 0.0

    def _commit(self, write: bool, begun: float, deadline: float) -> str:
        message = super()._commit(write, begun, deadline)
        stand_still(self.stopped_s)
        return message


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[StoppedAtTheEnd]:
    """One connection, so that each transaction finds what the one before left of it."""
    made = StoppedAtTheEnd(database_url, pool_size=1, connect_s=20, idle_s=60)
    await made.open()
    await made.run(lambda c: c.execute("CREATE TABLE IF NOT EXISTS lensmesh.probe (n int)"), timeout_s=60, write=True)
    yield made
    await made.close()


async def count(database: Database) -> int:
    found: int = await database.run(lambda c: c.fetchval("SELECT count(*) FROM lensmesh.probe"), timeout_s=60)
    return found


async def write(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO lensmesh.probe VALUES (1)")


async def test_a_deadline_that_passes_between_two_statements_leaves_nothing(database: StoppedAtTheEnd) -> None:
    async def stopped(connection: asyncpg.Connection) -> None:
        await write(connection)
        stand_still(0.5)

    with pytest.raises(DeadlineExceeded):
        await database.run(stopped, timeout_s=0.4, write=True)
    assert await count(database) == 0


async def test_the_server_refuses_an_end_that_comes_after_the_deadline(database: StoppedAtTheEnd) -> None:
    # Less than the grace in which this process itself would notice, so that only the server's clock can tell.
    database.stopped_s = 0.45
    with pytest.raises(DeadlineExceeded):
        await database.run(write, timeout_s=0.4, write=True)
    database.stopped_s = 0.0
    assert await count(database) == 0
    await database.run(write, timeout_s=60, write=True)
    assert await count(database) == 1


async def test_a_process_that_stood_still_commits_nothing_of_before(database_url: str) -> None:
    database = Database(database_url, pool_size=2, connect_s=20, idle_s=IDLE_S)
    await database.open()
    await database.run(lambda c: c.execute("CREATE TABLE lensmesh.probe (n int)"), timeout_s=60, write=True)

    async def stopped(connection: asyncpg.Connection) -> None:
        await write(connection)
        stand_still(2 * IDLE_S)

    with pytest.raises(Unavailable) as caught:
        await database.run(stopped, timeout_s=60, write=True)
    assert caught.value.reason is Reason.NOT_READY
    # What lay unread while it stood still looks new, and may be given up by its caller.
    with pytest.raises(Unavailable):
        await database.run(write, timeout_s=60, write=True)
    assert await count(database) == 0
    await asyncio.sleep(SETTLE_S)
    await database.run(write, timeout_s=60, write=True)
    assert await count(database) == 1
    await database.close()


async def test_the_server_ends_what_a_silent_process_began(database_url: str) -> None:
    database = Database(database_url, pool_size=1, connect_s=20, idle_s=IDLE_S)
    await database.open()

    async def silent(connection: asyncpg.Connection) -> None:
        await asyncio.sleep(2 * IDLE_S)
        await connection.fetchval("SELECT 1")

    with pytest.raises(Unavailable) as caught:
        await database.run(silent, timeout_s=60)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    await database.run(lambda c: c.fetchval("SELECT 1"), timeout_s=60)
    await database.close()


async def test_a_refusal_inside_a_transaction_is_no_error_of_the_log(
    database: StoppedAtTheEnd, caplog: pytest.LogCaptureFixture
) -> None:
    pids = set()

    async def refuse(connection: asyncpg.Connection) -> None:
        pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
        raise InvalidInput(Reason.OPTION_INVALID, "no", field="items[0].id")

    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            with pytest.raises(InvalidInput):
                await database.run(refuse, timeout_s=60, write=True)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    # The connection is as good as before.
    assert len(pids) == 1


CODES = {
    "25006": (Reason.STORE_READ_ONLY, "takes no writes"),
    "25P03": (Reason.STORE_UNAVAILABLE, "stood still"),
    "53100": (Reason.STORE_FULL, "no room left on its disk"),
    "53200": (Reason.STORE_UNAVAILABLE, "no memory left"),
    "42501": (Reason.STORE_UNAVAILABLE, "a right that it needs"),
    "53300": (Reason.STORE_UNAVAILABLE, "no connection left"),
    "57P01": (Reason.STORE_UNAVAILABLE, "shutting down"),
    "57P02": (Reason.STORE_UNAVAILABLE, "shutting down"),
    "57P03": (Reason.STORE_UNAVAILABLE, "starting, stopping or recovering"),
    "58030": (Reason.STORE_UNAVAILABLE, "cannot read or write its files"),
    "58P01": (Reason.STORE_UNAVAILABLE, "cannot read or write its files"),
    "08006": (Reason.STORE_UNAVAILABLE, "not reachable"),
}


@pytest.mark.parametrize("code", CODES)
def test_each_reason_of_the_database_has_its_words(code: str) -> None:
    error = translate(asyncpg.PostgresError.new({"S": "ERROR", "C": code, "M": "secret"}))
    reason, words = CODES[code]
    assert isinstance(error, Unavailable)
    assert error.reason is reason
    assert words in error.message
    assert "secret" not in error.message
    assert error.retry_after_s is not None
