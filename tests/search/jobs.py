"""Jobs that remove items, and what is asked of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

from lensmesh.search.v1 import search_pb2
from search_svc.jobs.context import JobContext
from search_svc.jobs.kinds import JobType
from search_svc.jobs.store import LeaseLost
from search_svc.store import Store
from tests.search.support import Stub, create, item, upsert
from tests.support.waiting import until

EVERYTHING = search_pb2.Filter(all=search_pb2.FilterList())
ENDED = (search_pb2.JOB_STATE_SUCCEEDED, search_pb2.JOB_STATE_FAILED, search_pb2.JOB_STATE_CANCELLED)


async def filled(stub: Stub, count: int, *, create_it: bool = True) -> None:
    """A collection of so many items."""
    if create_it:
        await create(stub)
    items = [item(f"i{i:04}", metadata={"even": i % 2 == 0}) for i in range(count)]
    for begin in range(0, count, 1000):
        await upsert(stub, *items[begin : begin + 1000])


async def start(stub: Stub, job_id: str = "", chosen: search_pb2.Filter = EVERYTHING, **fields: Any) -> search_pb2.Job:
    """Starts to remove items of a collection."""
    request = search_pb2.StartDeleteItemsRequest(
        **{"collection": "pictures", "filter": chosen, "job_id": job_id, **fields}
    )
    return (await stub.StartDeleteItems(request)).job


async def get(stub: Stub, job_id: str) -> search_pb2.Job:
    return (await stub.GetJob(search_pb2.GetJobRequest(id=job_id))).job


async def cancel(stub: Stub, job_id: str) -> search_pb2.Job:
    return (await stub.CancelJob(search_pb2.CancelJobRequest(id=job_id))).job


async def watched(stub: Stub, job_id: str) -> list[search_pb2.Job]:
    """All that a watch tells, to its end."""
    return [answer.job async for answer in stub.WatchJob(search_pb2.WatchJobRequest(id=job_id))]


async def ended(stub: Stub, job_id: str) -> search_pb2.Job:
    """Waits for the end of a job, by asking."""
    seen: list[search_pb2.Job] = []

    async def has_ended() -> bool:
        seen.append(await get(stub, job_id))
        return seen[-1].state in ENDED

    await until(has_ended)
    return seen[-1]


async def listed(stub: Stub, **fields: Any) -> list[str]:
    """Ids of the jobs of all pages."""
    ids: list[str] = []
    request = search_pb2.ListJobsRequest(**fields)
    while True:
        page = await stub.ListJobs(request)
        ids += [job.id for job in page.jobs]
        if not page.next_page_token:
            return ids
        request.page_token = page.next_page_token


class Held:
    """A kind whose worker waits where a test says so, and counts what is done with it."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.undone = self.saved = 0
        self.finish = asyncio.Event()
        self.faults: list[Exception] = []
        self.cancelled = 0
        self.lost = 0

    async def work(self, context: JobContext) -> str:
        self.begun.append(context.checkpoint.get("step", 0))
        if self.faults:
            raise self.faults.pop(0)
        try:
            await context.save(len(self.begun), 10, message="at work", checkpoint={"step": len(self.begun)})
            self.saved += 1
            await self.finish.wait()
            await context.save(10, 10)
        except LeaseLost:
            self.lost += 1
            raise
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return '{"deleted_count": 10}'

    async def undo(self, context: JobContext) -> None:
        self.undone += 1

    def kinds(self) -> dict[str, JobType]:
        """In the place of the one that removes items."""
        return {"delete_items": JobType("delete_items", self.work, self.undo)}


async def states(store: Store, ids: Sequence[str]) -> list[str]:
    return [str((await store.jobs.get(job_id, timeout_s=60)).state) for job_id in ids]
