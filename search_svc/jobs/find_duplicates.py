"""The job that finds groups of images that look the same, in three phases: it reads, compares, and writes the groups.

It changes nothing of the collection, and holds what it compares in memory. So an attempt begins anew where another
ended: nothing of that one is of use to it, and nothing of it is read.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.duplicates.grouping import GroupSearch
from search_svc.duplicates.items import MAX_ITEMS, CollectedItems
from search_svc.filters import All, Filter, TimeRange
from search_svc.jobs.context import JobContext
from search_svc.jobs.model import JobSelection
from search_svc.jobs.store import ResultPart
from search_svc.wire.duplicates import find_duplicates_result, read_find_duplicates, write_part

KIND = "find_duplicates"
# Items of a page, and of a part of the result: some hundred kilobytes.
PAGE = 2_000
PART_ITEMS = 1_000
# Jobs of a collection whose groups are kept, beside the one that ends.
KEPT_BESIDE = 4
# Where a page is not read in a call's time, the next one is smaller.
_SMALLER = 8
# Progress is saved so often, and a thread is held for so long.
_SAVE_S = 0.5
_SLICE_S = 0.05
# Between two slices it pauses for a quarter of one, so that calls are served meanwhile.
_PAUSE = 0.25


async def work(context: JobContext) -> str:
    """Find the groups, and keep them with the job."""
    asked = read_find_duplicates(context.job.parameters)
    parts = context.jobs.parts
    await parts.remove([context.job.id], but=context.lease.token, timeout_s=context.timeout_s)
    until = TimeRange(("$create_time",), at_most=context.job.create_time)
    chosen = until if asked.filter is None else All((asked.filter, until))
    progress = _Progress(context)
    collected = await _read(context, chosen, progress)
    search = GroupSearch(collected, asked.max_distance)
    await _compare(search, progress, collected.count + collected.skipped)
    await _write(context, search, progress)
    return find_duplicates_result(
        group_count=search.group_count,
        item_count=search.item_count,
        compared_count=collected.count,
        skipped_count=collected.skipped,
        token=context.lease.token,
    )


async def undo(context: JobContext) -> None:
    """Remove the groups that a job has written that failed or was cancelled."""
    await context.jobs.parts.remove([context.job.id], timeout_s=context.timeout_s)


class _Progress:
    """Progress of an attempt, saved now and then. None of it lasts."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._saved = float("-inf")

    async def tell(self, done: int, total: int, message: str, *, at_once: bool = False) -> None:
        """Save how far it is, unless that was saved a moment ago."""
        now = time.monotonic()
        if at_once or now - self._saved > _SAVE_S:
            self._saved = now
            await self._context.save(done, total, message=message, lasting=False)


async def _read(context: JobContext, chosen: Filter, progress: _Progress) -> CollectedItems:
    """Read what is to be compared. Raises InvalidInput (TOO_MANY_ITEMS)."""
    total = 0
    # A count that takes too long is no reason not to begin.
    with suppress(DeadlineExceeded):
        total = await context.store.count_matching(context.collection, chosen, timeout_s=context.timeout_s)
    _check_count(total)
    await progress.tell(0, 2 * total, "reading hashes", at_once=True)
    collected = CollectedItems()
    after: str | None = ""
    count = PAGE
    while after is not None:
        try:
            page = await context.store.list_hashes(
                context.collection, chosen, after=after, count=count, timeout_s=context.timeout_s
            )
        except DeadlineExceeded:
            if count == 1:
                raise
            count = max(1, count // _SMALLER)
            continue
        collected.add(page.items)
        seen = collected.count + collected.skipped
        _check_count(seen)
        after = page.next_after
        await progress.tell(seen, 2 * max(total, seen), "reading hashes")
        await asyncio.sleep(0)
    return collected


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"the filter chooses {count:,} items or more, and {MAX_ITEMS:,} are compared at most: start several jobs,"
            " each with a filter for a part of them",
            field="filter",
            metadata={"count": count, "limit": MAX_ITEMS},
        )


async def _compare(search: GroupSearch, progress: _Progress, count: int) -> None:
    await progress.tell(count, 2 * count, "comparing hashes", at_once=True)
    steps = search.steps()
    share: float | None = 0.0
    while share is not None:
        begun = time.monotonic()
        share = await asyncio.to_thread(_slice, steps)
        if share is not None:
            await progress.tell(count + int(share * count), 2 * count, "comparing hashes")
        await asyncio.sleep(_PAUSE * (time.monotonic() - begun))


def _slice(steps: Iterator[float]) -> float | None:
    """Do some steps. Return which share is done, None once all is."""
    until = time.monotonic() + _SLICE_S
    for share in steps:
        if time.monotonic() > until:
            return share
    return None


async def _write(context: JobContext, search: GroupSearch, progress: _Progress) -> None:
    """Write the groups part by part, and leave no more than those of some older jobs beside them."""
    jobs = context.jobs
    others = await jobs.list(
        JobSelection(context.job.collection, KIND), after="", count=1_000, timeout_s=context.timeout_s
    )
    ended = [job.id for job in others if job.state.has_ended and job.id != context.job.id]
    await jobs.parts.remove(ended[KEPT_BESIDE:], timeout_s=context.timeout_s)
    parts = search.parts(PART_ITEMS)
    number = 0
    while groups := await asyncio.to_thread(next, parts, None):
        # The first that begins here: of a part that only goes on with a group, the one behind that.
        first = groups[0].number + (1 if groups[0].first_item else 0)
        content = await asyncio.to_thread(write_part, groups)
        await jobs.parts.write(context.lease, ResultPart(number, first, content), timeout_s=context.timeout_s)
        number += 1
        await progress.tell(
            context.done, context.total, f"writing groups: {groups[-1].number + 1:,} of {search.group_count:,}"
        )
    await progress.tell(context.total, context.total, "", at_once=True)
