"""Large results of jobs in PostgreSQL: the table lensmesh.job_parts. They go with the row of their job."""

from collections.abc import Sequence

import asyncpg

from search_svc.jobs.model import Lease
from search_svc.jobs.store import ResultPart
from search_svc.postgres.database import Database
from search_svc.postgres.leases import hold


class PostgresParts:
    """Large results in PostgreSQL; see `PartStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, lease: Lease, part: ResultPart, *, timeout_s: float) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await hold(connection, lease)
            await connection.execute(
                """
                INSERT INTO lensmesh.job_parts (job_id, token, number, first, content)
                VALUES ($1, $2::text::uuid, $3, $4, $5)
                ON CONFLICT (job_id, token, number) DO UPDATE SET first = excluded.first, content = excluded.content
                """,
                lease.job_id,
                lease.token,
                part.number,
                part.first,
                part.content,
            )

        await self._database.run(work, timeout_s=timeout_s, write=True)

    async def read(self, job_id: str, token: str, number: int, *, timeout_s: float) -> ResultPart | None:
        row = await self._database.run(
            lambda c: c.fetchrow(
                "SELECT number, first, content FROM lensmesh.job_parts"
                " WHERE job_id = $1 AND token = $2::text::uuid AND number = $3",
                job_id,
                token,
                number,
            ),
            timeout_s=timeout_s,
            single=True,
        )
        return None if row is None else ResultPart(row["number"], row["first"], row["content"])

    async def find(self, job_id: str, token: str, first: int, *, timeout_s: float) -> int:
        last: int | None = await self._database.run(
            lambda c: c.fetchval(
                "SELECT max(number) FROM lensmesh.job_parts"
                " WHERE job_id = $1 AND token = $2::text::uuid AND first <= $3",
                job_id,
                token,
                first,
            ),
            timeout_s=timeout_s,
            single=True,
        )
        return -1 if last is None else last

    async def remove(self, job_ids: Sequence[str], *, but: str = "", timeout_s: float) -> None:
        await self._database.run(
            lambda c: c.execute(
                "DELETE FROM lensmesh.job_parts WHERE job_id = ANY($1::text[]) AND token::text <> $2", [*job_ids], but
            ),
            timeout_s=timeout_s,
            write=True,
        )
