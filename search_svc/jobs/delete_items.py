"""The job that removes the items a filter chooses, in batches, in the order in which the store lists them."""

import asyncio
import json
import time
from contextlib import suppress

from lensmesh_chassis.errors import DeadlineExceeded
from search_svc.filters import All, TimeRange
from search_svc.jobs.context import JobContext
from search_svc.jobs.model import JobProgress
from search_svc.jobs.store import LeasedWrite
from search_svc.model import DeletedBatch
from search_svc.wire.jobs import read_delete_items

# Items of a batch. A batch locks its items until it is done, which takes some ten milliseconds.
BATCH = 500
# Where a batch is not done in a call's time, the next one is smaller.
_SMALLER = 8
# Between two batches it pauses as long as one took, so that it takes half of a connection's time, and at least so long.
_LEAST_PAUSE_S = 0.005


async def work(context: JobContext) -> str:
    """Remove the items. What an earlier attempt has removed counts too."""
    # Later ones stay, or a job that is slower than those who write would never end.
    until = TimeRange(("$create_time",), at_most=context.job.create_time)
    chosen = All((read_delete_items(context.job.parameters), until))
    kept = context.checkpoint
    after: str | None = kept.get("after", "")
    if "after" not in kept:
        total = 0
        # A count that takes too long is no reason not to begin.
        with suppress(DeadlineExceeded):
            total = await context.store.count_matching(context.collection, chosen, timeout_s=context.timeout_s)
        await context.save(0, total, checkpoint={"after": ""})
    count = BATCH
    while after is not None:
        begun = time.monotonic()
        saved: list[JobProgress] = []

        def progress(batch: DeletedBatch, saved: list[JobProgress] = saved) -> JobProgress:
            # Asked again where the transaction collided with another.
            saved[:] = [
                context.progress(context.done + batch.count, context.total, checkpoint={"after": batch.next_after})
            ]
            return saved[0]

        try:
            batch = await context.store.delete_batch(
                context.collection,
                chosen,
                after=after,
                count=count,
                within=LeasedWrite(context.lease, progress),
                timeout_s=context.timeout_s,
            )
        except DeadlineExceeded:
            if count == 1:
                raise
            count = max(1, count // _SMALLER)
            continue
        context.saved(saved[0])
        after = batch.next_after
        await asyncio.sleep(max(_LEAST_PAUSE_S, time.monotonic() - begun))
    return json.dumps({"deleted_count": context.done})
