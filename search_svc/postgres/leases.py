"""Leases of jobs, as each transaction of a worker holds them."""

import asyncpg

from search_svc.jobs.model import Lease
from search_svc.jobs.store import LeaseLost


async def hold(connection: asyncpg.Connection, lease: Lease) -> None:
    """Lock a job's row until the transaction ends, so that nobody takes the job meanwhile.

    Raises:
        LeaseLost: somebody did.
    """
    there = await connection.fetchval(
        "SELECT true FROM lensmesh.jobs WHERE id = $1 AND token = $2::text::uuid FOR UPDATE", lease.job_id, lease.token
    )
    if not there:
        raise LeaseLost
