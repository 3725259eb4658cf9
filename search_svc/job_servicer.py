"""The calls of SearchService about jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from opentelemetry import propagate

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import remaining_s
from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, Unavailable
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import request_bytes, request_id
from search_svc.filters import Filter
from search_svc.jobs.errors import no_job
from search_svc.jobs.model import Job, JobSelection, NewJob
from search_svc.model import Definition
from search_svc.refusals import no_collection
from search_svc.settings import SearchSettings
from search_svc.store import Store
from search_svc.threads import Threads
from search_svc.wire.calibrate_jobs import read_start_calibrate
from search_svc.wire.collections import is_collection_name
from search_svc.wire.filters import read_filter
from search_svc.wire.jobs import (
    is_job_id,
    read_job_id,
    read_kind,
    read_states,
    wanted_indexes,
    write_job,
    write_parameters,
)
from search_svc.wire.pages import Room, read_count, read_token, write_token
from search_svc.words.texts import check_words

_PAGE_SIZE = 100
# Between two looks at a job that is watched.
_LOOK_S = 0.5


class JobServicer(search_pb2_grpc.SearchServiceServicer):
    """The part of SearchService that starts, tells and cancels jobs.

    Args:
        store: where collections and jobs are.
        threads: where large messages are translated.
        settings: limits.
        draining: set when this replica ends: watches end with it.
        started: called when a job was started, so that this replica looks at once.
    """

    def __init__(
        self,
        store: Store,
        threads: Threads,
        settings: SearchSettings,
        draining: asyncio.Event,
        started: Callable[[], None],
    ) -> None:
        self._store = store
        self._threads = threads
        self._settings = settings
        self._draining = draining
        self._job_started = started

    async def StartDeleteItems(
        self, request: search_pb2.StartDeleteItemsRequest, context: Any
    ) -> search_pb2.StartDeleteItemsResponse:
        if not request.HasField("filter"):
            raise InvalidInput(
                Reason.QUERY_INVALID, "filter is not set: set one (all: {} for all items)", field="filter"
            )
        check_filters({"filter": request.filter}, self._settings.max_filter_values)

        def read() -> tuple[Filter, str]:
            return read_filter(request.filter), write_parameters(request, "filter")

        chosen, parameters = await self._threads.run(read, request_bytes.get())
        job = await self._start(
            "delete_items", request, parameters, context, lambda definition: check_words(chosen, definition)
        )
        return search_pb2.StartDeleteItemsResponse(job=write_job(job, with_parameters=True))

    async def StartRebuildIndexes(
        self, request: search_pb2.StartRebuildIndexesRequest, context: Any
    ) -> search_pb2.StartRebuildIndexesResponse:
        parameters = write_parameters(request, "spaces")
        job = await self._start(
            "rebuild_indexes", request, parameters, context, lambda definition: wanted_indexes(request, definition)
        )
        return search_pb2.StartRebuildIndexesResponse(job=write_job(job, with_parameters=True))

    async def StartCalibrate(
        self, request: search_pb2.StartCalibrateRequest, context: Any
    ) -> search_pb2.StartCalibrateResponse:
        parameters = await self._threads.run(lambda: write_parameters(request, "texts"), request_bytes.get())
        job = await self._start(
            "calibrate",
            request,
            parameters,
            context,
            lambda definition: read_start_calibrate(request, definition),
        )
        return search_pb2.StartCalibrateResponse(job=write_job(job, with_parameters=True))

    async def GetJob(self, request: search_pb2.GetJobRequest, context: Any) -> search_pb2.GetJobResponse:
        job = await self._store.jobs.get(id_of(request.id), timeout_s=self._time_left(context))
        return search_pb2.GetJobResponse(job=write_job(job, with_parameters=True))

    async def ListJobs(self, request: search_pb2.ListJobsRequest, context: Any) -> search_pb2.ListJobsResponse:
        count = read_count(request.page_size, self._settings.max_page_size, _PAGE_SIZE, "page_size")
        chosen = JobSelection(request.collection, read_kind(request.kind), read_states(request.states))
        binding = f"jobs of {request.collection!r} {chosen.kind} {sorted(chosen.states)}"
        after = read_token(binding, request.page_token)
        if request.collection and not is_collection_name(request.collection):
            # A store may not even be able to compare it.
            return search_pb2.ListJobsResponse()
        jobs = self._store.jobs
        found = await jobs.list(chosen, after=after, count=count + 1, timeout_s=self._time_left(context))
        response = search_pb2.ListJobsResponse()
        room = Room(self._settings.max_message_bytes)
        for job in found[:count]:
            message = write_job(job)
            if not room.take(message):
                break
            response.jobs.append(message)
        if len(response.jobs) < len(found):
            response.next_page_token = write_token(binding, jobs.position(found[len(response.jobs) - 1]))
        return response

    async def CancelJob(self, request: search_pb2.CancelJobRequest, context: Any) -> search_pb2.CancelJobResponse:
        job = await self._store.jobs.cancel(
            id_of(request.id), keep_s=self._settings.job_keep_seconds, timeout_s=self._time_left(context)
        )
        # It may be this replica's to end it.
        self._job_started()
        return search_pb2.CancelJobResponse(job=write_job(job))

    async def WatchJob(
        self, request: search_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[search_pb2.WatchJobResponse]:
        job_id = id_of(request.id)
        job = await self._store.jobs.get(job_id, timeout_s=self._time_left(context))
        while True:
            yield search_pb2.WatchJobResponse(job=write_job(job))
            told = job
            while job == told:
                if job.state.has_ended:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._draining.wait()
                if self._draining.is_set():
                    raise Unavailable(Reason.DRAINING, "this replica is ending: watch the job again at another one")
                # A store that is away comes back, and the job goes on then.
                with suppress(Unavailable, DeadlineExceeded):
                    job = await self._store.jobs.get(job_id, timeout_s=self._settings.call_seconds)

    async def _start(
        self,
        kind: str,
        request: Any,
        parameters: str,
        context: Any,
        check: Callable[[Definition], object] | None = None,
    ) -> Job:
        """Keep a job on the collection that a request names. `check` raises what is wrong for that collection."""
        if not request.collection:
            raise InvalidInput(Reason.COLLECTION_INVALID, "collection is empty: name a collection", field="collection")
        if not is_collection_name(request.collection):
            raise no_collection(request.collection)
        job_id = read_job_id(request.job_id, request_id.get(), kind, parameters)
        collection = await self._store.find_collection(
            request.collection, fresh=True, timeout_s=self._time_left(context)
        )
        if check is not None:
            await self._threads.run(lambda: check(collection.definition), request_bytes.get())
        trace: dict[str, str] = {}
        propagate.inject(trace)
        new = NewJob(job_id, kind, request.collection, collection.key, parameters, trace.get("traceparent", ""))
        job = await self._store.jobs.start(new, timeout_s=self._time_left(context))
        self._job_started()
        return job

    def _time_left(self, context: Any) -> float:
        return remaining_s(context, self._settings.call_seconds)


def id_of(job_id: str) -> str:
    """Return an id that a job may have. Raises NotFound (JOB_NOT_FOUND) for any other text."""
    if not is_job_id(job_id):
        raise no_job(job_id)
    return job_id
