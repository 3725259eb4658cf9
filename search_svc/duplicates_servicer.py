"""The calls of SearchService about groups of near-duplicates."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, Unavailable
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import request_bytes
from search_svc.duplicates.grouping import GroupPart
from search_svc.job_servicer import JobServicer, id_of
from search_svc.jobs import find_duplicates
from search_svc.jobs.errors import no_job, no_result, not_ended
from search_svc.jobs.model import Job, JobState
from search_svc.jobs.store import ResultPart
from search_svc.wire.duplicates import (
    FoundDuplicates,
    read_part,
    read_result,
    read_start_find_duplicates,
    write_groups,
)
from search_svc.wire.jobs import write_job, write_parameters
from search_svc.words.texts import check_words


class DuplicatesServicer(JobServicer):
    """The part of SearchService that finds and tells groups of near-duplicates."""

    async def StartFindDuplicates(
        self, request: search_pb2.StartFindDuplicatesRequest, context: Any
    ) -> search_pb2.StartFindDuplicatesResponse:
        if request.HasField("filter"):
            check_filters({"filter": request.filter}, self._settings.max_filter_values)
        asked, parameters = await self._threads.run(
            lambda: (read_start_find_duplicates(request), write_parameters(request, "filter")), request_bytes.get()
        )
        job = await self._start(
            find_duplicates.KIND,
            request,
            parameters,
            context,
            lambda definition: None if asked.filter is None else check_words(asked.filter, definition),
        )
        return search_pb2.StartFindDuplicatesResponse(job=write_job(job, with_parameters=True))

    async def ReadDuplicates(
        self, request: search_pb2.ReadDuplicatesRequest, context: Any
    ) -> AsyncIterator[search_pb2.ReadDuplicatesResponse]:
        job = await self._job(request.job_id, context)
        found = _checked(job, request.first_group)
        if request.first_group == found.group_count:
            return
        parts = self._store.jobs.parts
        left = self._time_left
        number = max(0, await parts.find(job.id, found.token, request.first_group, timeout_s=left(context)))
        while True:
            part = await parts.read(job.id, found.token, number, timeout_s=left(context))
            if part is None:
                # It may have been forgotten by now.
                await self._job(job.id, context)
                raise no_result(job.id, "newer jobs have replaced its groups")
            responses, last = await self._threads.run(
                partial(_told, part, request.first_group, self._settings.max_message_bytes), len(part.content)
            )
            for response in responses:
                if self._draining.is_set():
                    raise Unavailable(Reason.DRAINING, "this replica is ending: go on with first_group")
                yield response
            if last.number + 1 == found.group_count and last.first_item + len(last.items) == last.item_count:
                return
            number += 1

    async def _job(self, job_id: str, context: Any) -> Job:
        try:
            return await self._store.jobs.get(id_of(job_id), timeout_s=self._time_left(context))
        except NotFound:
            raise no_job(job_id, "job_id") from None


def _checked(job: Job, first_group: int) -> FoundDuplicates:
    """Return what is to be told of a job. Raises what is wrong with asking for it."""
    if job.kind != find_duplicates.KIND:
        raise InvalidInput(
            Reason.JOB_INVALID,
            f"the job {job.id} is of the kind {job.kind}: name one that StartFindDuplicates began",
            field="job_id",
            metadata={"job_id": job.id, "kind": job.kind},
        )
    if not job.state.has_ended:
        raise not_ended(job.id)
    if job.state is not JobState.SUCCEEDED:
        why = "it was cancelled" if job.error is None else f"it failed: {job.error.message}"
        raise no_result(job.id, why)
    found = read_result(job.result)
    if first_group > found.group_count:
        raise InvalidInput(
            Reason.LIMIT_OUT_OF_RANGE,
            f"first_group is {first_group}, and the job {job.id} found {found.group_count} groups",
            field="first_group",
            metadata={"value": first_group, "limit": found.group_count},
        )
    return found


def _told(
    part: ResultPart, first_group: int, max_message_bytes: int
) -> tuple[list[search_pb2.ReadDuplicatesResponse], GroupPart]:
    """Return the messages of a part, without the groups before the one that was asked for, and its last group."""
    groups = read_part(part.content)
    return write_groups([group for group in groups if group.number >= first_group], max_message_bytes), groups[-1]
