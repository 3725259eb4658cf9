"""Large results of jobs in Qdrant: points of a collection of their own, whose ids go by number.

Qdrant has no transactions: the lease is looked at before each write. What a replica wrote that lost it in between
carries its own token, and is read by nobody.
"""

import hashlib
import uuid
from collections.abc import Sequence
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from search_svc.jobs.model import Lease
from search_svc.jobs.store import LeaseLost, ResultPart
from search_svc.qdrant import job_points
from search_svc.qdrant.engine import QdrantEngine, Work
from search_svc.qdrant.faults import CollectionGone
from search_svc.qdrant.layout import parts_collection
from search_svc.qdrant.predicates import any_of
from search_svc.refusals import unavailable

T = TypeVar("T")
_STRONG = models.WriteOrdering.STRONG


class QdrantParts:
    """Large results in Qdrant; see `PartStore`."""

    def __init__(self, engine: QdrantEngine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix
        self._name = parts_collection(prefix)

    async def write(self, lease: Lease, part: ResultPart, *, timeout_s: float) -> None:
        payload = {"job": lease.job_id, "token": lease.token, "number": part.number, "first": part.first}
        payload["content"] = part.content
        point = models.PointStruct(id=_point_id(lease.job_id, lease.token, part.number), vector={}, payload=payload)

        async def work(client: AsyncQdrantClient) -> None:
            await job_points.hold(client, self._prefix, lease)
            await client.upsert(self._name, [point], wait=True, ordering=_STRONG)

        await self._run(work, timeout_s)

    async def read(self, job_id: str, token: str, number: int, *, timeout_s: float) -> ResultPart | None:
        async def work(client: AsyncQdrantClient) -> ResultPart | None:
            records = await client.retrieve(self._name, [_point_id(job_id, token, number)], with_payload=True)
            payload = records[0].payload if records else None
            return ResultPart(payload["number"], payload["first"], payload["content"]) if payload else None

        return await self._run(work, timeout_s)

    async def find(self, job_id: str, token: str, first: int, *, timeout_s: float) -> int:
        async def work(client: AsyncQdrantClient) -> int:
            # They are numbered without gaps, and `first` never falls.
            before = models.FieldCondition(key="first", range=models.Range(lte=first))
            chosen = models.Filter(must=[any_of("job", [job_id]), any_of("token", [token]), before])
            return (await client.count(self._name, count_filter=chosen, exact=True)).count - 1

        return await self._run(work, timeout_s)

    async def remove(self, job_ids: Sequence[str], *, but: str = "", timeout_s: float) -> None:
        chosen = models.Filter(must=[any_of("job", [*job_ids])], must_not=[any_of("token", [but])] if but else None)

        async def work(client: AsyncQdrantClient) -> None:
            await client.delete(
                self._name, points_selector=models.FilterSelector(filter=chosen), wait=True, ordering=_STRONG
            )

        if job_ids:
            await self._run(work, timeout_s)

    async def _run(self, work: Work[T], timeout_s: float) -> T:
        try:
            return await self._engine.run(work, timeout_s=timeout_s)
        except CollectionGone:
            raise unavailable("Qdrant is not prepared, or lost its collections") from None
        except job_points.JobGone:
            raise LeaseLost from None


def _point_id(job_id: str, token: str, number: int) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(f"{job_id} {token} {number}".encode()).digest()[:16]))
