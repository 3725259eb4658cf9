"""Jobs in PostgreSQL: the table lensmesh.jobs. Leases go by the database's clock.

Whatever a worker writes is written in a transaction that locks the job's row and looks at the token. So of two replicas
that take themselves for the job's worker, one is a moment late and writes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from search_svc.jobs.errors import error_from_json, error_to_json, no_job, other_job, too_many_jobs
from search_svc.jobs.model import (
    MAX_OPEN_JOBS,
    Job,
    JobEnd,
    JobProgress,
    JobSelection,
    JobState,
    Lease,
    LeasedJob,
    NewJob,
)
from search_svc.jobs.store import LeaseLost
from search_svc.postgres.database import Database
from search_svc.postgres.job_parts import PostgresParts

_LISTED = (
    "id, kind, collection, collection_key, trace, state, cancel_requested, done, total, rate, message, checkpoint,"
    " error, result, attempts, idle_attempts, create_time, start_time, end_time, expire_time"
)
_ALL = f"{_LISTED}, parameters"
_LOCK = 0x6C656E73
# Any number that is rarely the hash of a collection's or an index' name, for which others lock too.
_TAKE = 0x6A6F6273
_DUE = "kind = ANY($1::text[]) AND end_time IS NULL AND (state = 'pending' OR lease_until < clock_timestamp())"


class PostgresJobs:
    """Jobs in PostgreSQL; see `JobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.parts = PostgresParts(database)

    async def start(self, new: NewJob, *, timeout_s: float) -> Job:
        async def work(connection: asyncpg.Connection) -> Job:
            made = await connection.fetchrow(
                f"""
                INSERT INTO lensmesh.jobs (id, kind, collection, collection_key, parameters, trace)
                VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING RETURNING {_ALL}
                """,
                new.id,
                new.kind,
                new.collection,
                int(new.collection_key),
                new.parameters,
                new.trace,
            )
            if made is not None:
                open_jobs = "SELECT FROM lensmesh.jobs WHERE end_time IS NULL LIMIT $1"
                count = await connection.fetchval(f"SELECT count(*) FROM ({open_jobs}) AS open_jobs", MAX_OPEN_JOBS + 1)
                if count > MAX_OPEN_JOBS:
                    raise too_many_jobs()
                return _job(made)
            there = await _read(connection, new.id)
            if (there.kind, there.collection, there.parameters) != (new.kind, new.collection, new.parameters):
                raise other_job(new.id)
            return there

        return await self._database.run(work, timeout_s=timeout_s, write=True)

    async def get(self, job_id: str, *, timeout_s: float) -> Job:
        return await self._database.run(lambda c: _read(c, job_id), timeout_s=timeout_s, single=True)

    async def list(self, chosen: JobSelection, *, after: str, count: int, timeout_s: float) -> Sequence[Job]:
        moment, _, last = after.partition(" ")

        async def work(connection: asyncpg.Connection) -> list[Job]:
            rows = await connection.fetch(
                f"""
                SELECT {_LISTED} FROM lensmesh.jobs
                WHERE ($1 = '' OR collection = $1) AND ($2 = '' OR kind = $2)
                    AND (cardinality($3::text[]) = 0 OR state = ANY($3::text[]))
                    AND ($4::timestamptz IS NULL OR (create_time, id) < ($4::timestamptz, $5))
                ORDER BY create_time DESC, id DESC LIMIT $6
                """,
                chosen.collection,
                chosen.kind,
                [str(state) for state in chosen.states],
                datetime.fromisoformat(moment) if moment else None,
                last,
                count,
            )
            return [_job(row) for row in rows]

        return await self._database.run(work, timeout_s=timeout_s, single=True)

    def position(self, job: Job) -> str:
        return f"{job.create_time.isoformat()} {job.id}"

    async def cancel(self, job_id: str, *, keep_s: float, timeout_s: float) -> Job:
        async def work(connection: asyncpg.Connection) -> Job:
            # What somebody began with may have left something: whoever takes it up next takes that away.
            await connection.execute(
                """
                UPDATE lensmesh.jobs SET cancel_requested = true,
                    state = CASE WHEN attempts = 0 THEN 'cancelled' ELSE state END,
                    end_time = CASE WHEN attempts = 0 THEN clock_timestamp() END,
                    expire_time = CASE WHEN attempts = 0 THEN clock_timestamp() + make_interval(secs => $2) END
                WHERE id = $1 AND end_time IS NULL
                """,
                job_id,
                keep_s,
            )
            return await _read(connection, job_id)

        return await self._database.run(work, timeout_s=timeout_s, write=True)

    async def take(self, kinds: Sequence[str], *, lease_s: float, timeout_s: float) -> LeasedJob | None:
        async def is_due(connection: asyncpg.Connection) -> bool:
            found: bool = await connection.fetchval(
                f"SELECT EXISTS (SELECT FROM lensmesh.jobs WHERE {_DUE})", list(kinds)
            )
            return found

        async def work(connection: asyncpg.Connection) -> LeasedJob | None:
            # One replica takes at a time: two jobs of one kind and collection are never taken at once.
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", _LOCK, _TAKE)
            row = await connection.fetchrow(
                f"""
                UPDATE lensmesh.jobs SET state = 'running', token = gen_random_uuid(),
                    lease_until = clock_timestamp() + make_interval(secs => $2), rate = 0,
                    attempts = attempts + 1, idle_attempts = idle_attempts + 1,
                    start_time = coalesce(start_time, clock_timestamp())
                WHERE id = (
                    SELECT id FROM lensmesh.jobs AS due WHERE {_DUE} AND NOT EXISTS (
                        SELECT FROM lensmesh.jobs AS other WHERE other.kind = due.kind
                            AND other.collection_key = due.collection_key AND other.id <> due.id
                            AND other.state = 'running'
                    ) ORDER BY create_time, id LIMIT 1 FOR UPDATE SKIP LOCKED
                ) RETURNING token, {_ALL}
                """,
                list(kinds),
                lease_s,
            )
            return LeasedJob(_job(row), Lease(row["id"], str(row["token"]))) if row else None

        # Read first: a look that finds nothing writes nothing, on a standby too.
        if not await self._database.run(is_due, timeout_s=timeout_s, single=True):
            return None
        return await self._database.run(work, timeout_s=timeout_s, write=True)

    async def renew(self, lease: Lease, *, lease_s: float, timeout_s: float) -> bool:
        async def work(connection: asyncpg.Connection) -> bool:
            wanted: bool = await _update(
                connection, lease, "lease_until = clock_timestamp() + make_interval(secs => $3)", lease_s
            )
            return wanted

        return await self._database.run(work, timeout_s=timeout_s, write=True)

    async def save(self, lease: Lease, progress: JobProgress, *, lasting: bool = True, timeout_s: float) -> None:
        await self._database.run(lambda c: save(c, lease, progress, lasting=lasting), timeout_s=timeout_s, write=True)

    async def hand_back(self, lease: Lease, *, timeout_s: float) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            # An attempt that was broken off in good order is none that was lost.
            await connection.execute(
                """
                UPDATE lensmesh.jobs SET state = 'pending', token = NULL, lease_until = NULL,
                    idle_attempts = greatest(idle_attempts - 1, 0)
                WHERE id = $1 AND token = $2::text::uuid
                """,
                lease.job_id,
                lease.token,
            )

        await self._database.run(work, timeout_s=timeout_s, write=True)

    async def end(self, lease: Lease, end: JobEnd, *, keep_s: float, timeout_s: float) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await _update(
                connection,
                lease,
                "state = $3, error = $4, result = $5, message = '', token = NULL, lease_until = NULL,"
                " end_time = clock_timestamp(), expire_time = clock_timestamp() + make_interval(secs => $6)",
                str(end.state),
                error_to_json(end.error),
                end.result,
                keep_s,
            )

        await self._database.run(work, timeout_s=timeout_s, write=True)

    async def remove_expired(self, *, timeout_s: float) -> int:
        expired = "lensmesh.jobs WHERE expire_time < clock_timestamp()"

        async def work(connection: asyncpg.Connection) -> int:
            return len(await connection.fetch(f"DELETE FROM {expired} RETURNING 1"))

        is_any = await self._database.run(
            lambda c: c.fetchval(f"SELECT EXISTS (SELECT FROM {expired})"), timeout_s=timeout_s, single=True
        )
        return await self._database.run(work, timeout_s=timeout_s, write=True) if is_any else 0


async def save(connection: asyncpg.Connection, lease: Lease, progress: JobProgress, *, lasting: bool = True) -> None:
    """Save progress in the caller's transaction. Raises LeaseLost."""
    await _update(
        connection,
        lease,
        "done = $3, total = $4, rate = $5, message = $6, checkpoint = $7,"
        " idle_attempts = CASE WHEN $8 THEN 0 ELSE idle_attempts END",
        progress.done,
        progress.total,
        progress.rate,
        progress.message,
        progress.checkpoint,
        lasting,
    )


async def _update(connection: asyncpg.Connection, lease: Lease, what: str, *values: object) -> bool:
    """Change a job under its lease, and return whether it shall be cancelled. Raises LeaseLost."""
    wanted = await connection.fetchval(
        f"UPDATE lensmesh.jobs SET {what} WHERE id = $1 AND token = $2::text::uuid RETURNING cancel_requested",
        lease.job_id,
        lease.token,
        *values,
    )
    if wanted is None:
        raise LeaseLost
    return bool(wanted)


async def _read(connection: asyncpg.Connection, job_id: str) -> Job:
    row = await connection.fetchrow(f"SELECT {_ALL} FROM lensmesh.jobs WHERE id = $1", job_id)
    if row is None:
        raise no_job(job_id)
    return _job(row)


def _job(row: asyncpg.Record) -> Job:
    return Job(
        id=row["id"],
        kind=row["kind"],
        collection=row["collection"],
        collection_key=str(row["collection_key"]),
        parameters=row.get("parameters", ""),
        state=JobState(row["state"]),
        create_time=row["create_time"],
        progress=JobProgress(row["done"], row["total"], row["rate"], row["message"], row["checkpoint"]),
        cancel_requested=row["cancel_requested"],
        error=error_from_json(row["error"]),
        result=row["result"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        expire_time=row["expire_time"],
        attempts=row["attempts"],
        idle_attempts=row["idle_attempts"],
        trace=row["trace"],
    )
