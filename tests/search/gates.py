"""Replicas that work on jobs, and a gate at which a worker waits in one of its steps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from search_svc.app import SearchApp
from tests.search.conftest import settings_for
from tests.search.support import Stub

LEASE = {"job_lease_seconds": "1", "store_idle_seconds": "30"}


@asynccontextmanager
async def replica(url: str, **options: Any) -> AsyncIterator[Stub]:
    """Another replica, in this process."""
    settings = settings_for(url, store_check_seconds=0.05, **{"job_lease_seconds": 1, **options})
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        yield search_pb2_grpc.SearchServiceStub(channel)


class Gate:
    """Lets a worker wait in one of its steps, whichever process it is in."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._table = "jobs"

    async def close(self, when: str, table: str = "jobs") -> None:
        """From now on each change of a job, or of a row of another table, waits where the row is to be so."""
        await self._connection.execute("SELECT pg_advisory_lock(7)")
        await self._connection.execute(
            f"""
            CREATE FUNCTION lensmesh.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF {when} THEN PERFORM pg_advisory_lock_shared(7); PERFORM pg_advisory_unlock_shared(7); END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER wait BEFORE UPDATE ON lensmesh.{table} FOR EACH ROW EXECUTE FUNCTION lensmesh.wait();
            """
        )
        self._table = table

    async def is_reached(self) -> bool:
        return bool(
            await self._connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        )

    async def count(self, query: str) -> int:
        """What a query counts."""
        return int(await self._connection.fetchval(query))

    async def run(self, statement: str) -> None:
        """Does what a statement says."""
        await self._connection.execute(statement)

    async def open(self) -> None:
        """Lets all go on. What waits for a process that is gone is ended."""
        await self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
        await self._connection.execute(f"SELECT pg_advisory_unlock(7); DROP TRIGGER wait ON lensmesh.{self._table}")
