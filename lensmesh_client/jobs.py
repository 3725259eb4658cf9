"""Jobs, as a client reaches them: `Client.jobs`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate_jobs
from lensmesh_client.connection import Connection
from lensmesh_client.duplicates import DuplicateGroup, reread
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building, check_text
from lensmesh_client.job_types import Job, JobKind, JobState
from lensmesh_client.requests import chosen
from lensmesh_client.types import Embedding
from lensmesh_client.watching import rewatched


class JobCalls:
    """Work of the mesh that takes longer than a call. It goes on whoever stops watching it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def start_delete(
        self,
        filter: FilterLike,
        *,
        collection: str = "",
        job_id: str = "",
        timeout_s: float | None = None,
    ) -> Job:
        """Begin to remove all items that a filter chooses, in small batches. Items that are made later stay.

        Args:
            filter: Which items, as in `Client.search`.
            collection: Its name; empty means the mesh's default.
            job_id: A name for the job: a start that is sent again with it starts once. Empty means a new one.
            timeout_s: Seconds until an answer; None is the client's own. The job has no limit.

        Returns:
            The job as it stands.

        Raises:
            InvalidInput: The filter or the id is none.
            AlreadyExists: The id is that of a job with other parameters.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("start_delete"):
            request = search_pb2.StartDeleteItemsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                filter=parse_filter(filter),
                job_id=_new_id(job_id),
            )
        answer = await self._connection.call(self._connection.search.StartDeleteItems, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def start_rebuild(
        self,
        *,
        collection: str = "",
        spaces: Iterable[str] | str = (),
        hnsw_m: int = 0,
        hnsw_ef_construction: int = 0,
        job_id: str = "",
        timeout_s: float | None = None,
    ) -> Job:
        """Begin to build indexes anew, with other parameters if these are given. Searches and writes go on meanwhile.

        Args:
            collection: Its name; empty means the mesh's default.
            spaces: Names of the spaces whose index is built anew; none means of all that have one.
            hnsw_m: Links of the index for each item from now on, 2 to 100; 0 leaves it as it is.
            hnsw_ef_construction: Candidates while it is built, 4 to 1,000 and at least twice the links; 0 leaves it.
            job_id: A name for the job: a start that is sent again with it starts once. Empty means a new one.
            timeout_s: Seconds until an answer; None is the client's own. The job has no limit.

        Returns:
            The job as it stands.

        Raises:
            InvalidInput: A space, a parameter or the id is none.
            AlreadyExists: The id is that of a job with other parameters.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("start_rebuild"):
            request = search_pb2.StartRebuildIndexesRequest(
                collection=await self._connection.collection(collection, timeout_s),
                spaces=[spaces] if isinstance(spaces, str) else [*spaces],
                job_id=_new_id(job_id),
            )
            if hnsw_m or hnsw_ef_construction:
                request.hnsw.CopyFrom(search_pb2.HnswIndex(m=hnsw_m, ef_construction=hnsw_ef_construction))
        answer = await self._connection.call(self._connection.search.StartRebuildIndexes, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def start_calibrate(
        self,
        texts: Mapping[str, Embedding] | None = None,
        *,
        collection: str = "",
        space: str = "",
        job_id: str = "",
        timeout_s: float | None = None,
    ) -> Job:
        """Begin to measure what cosines mean in a collection: then hits have a relevance.

        Args:
            texts: Vectors of texts, each under the id of the item that it is about: 20 to 256, of the space. None
                measures queries by images alone.
            collection: Its name; empty means the mesh's default.
            space: The collection's name for the space; empty means its first.
            job_id: A name for the job: a start that is sent again with it starts once. Empty means a new one.
            timeout_s: Seconds until an answer; None is the client's own. The job has no limit.

        Returns:
            The job as it stands.

        Raises:
            InvalidInput: The space, a text or the id is none.
            AlreadyExists: The id is that of a job with other parameters.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("start_calibrate"):
            request = search_pb2.StartCalibrateRequest(
                collection=await self._connection.collection(collection, timeout_s),
                space=check_text(space, "space", Reason.SPACE_UNKNOWN),
                texts=[_calibration_text(item_id, each) for item_id, each in (texts or {}).items()],
                job_id=_new_id(job_id),
            )
        answer = await self._connection.call(self._connection.search.StartCalibrate, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def start_find_duplicates(
        self,
        *,
        collection: str = "",
        filter: FilterLike | None = None,
        max_distance: int | None = None,
        job_id: str = "",
        timeout_s: float | None = None,
    ) -> Job:
        """Begin to find the groups of images that look the same, by their perceptual hashes. Nothing is changed.

        Args:
            collection: Its name; empty means the mesh's default.
            filter: Which items, as in `Client.search`; None means all. Up to 1,000,000 are compared.
            max_distance: Bits in which an image may differ from the one that stands for its group, 0 to 31; None
                means 31.
            job_id: A name for the job: a start that is sent again with it starts once. Empty means a new one.
            timeout_s: Seconds until an answer; None is the client's own. The job has no limit.

        Returns:
            The job as it stands. `read_duplicates` yields the groups when it has succeeded.

        Raises:
            InvalidInput: The filter, the distance or the id is none.
            AlreadyExists: The id is that of a job with other parameters.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("start_find_duplicates"):
            request = search_pb2.StartFindDuplicatesRequest(
                collection=await self._connection.collection(collection, timeout_s),
                filter=None if filter is None else parse_filter(filter),
                max_distance=max_distance,
                job_id=_new_id(job_id),
            )
        answer = await self._connection.call(self._connection.search.StartFindDuplicates, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def read_duplicates(
        self, job_id: str, *, first_group: int = 0, patience_s: float = 60.0, timeout_s: float | None = None
    ) -> AsyncGenerator[DuplicateGroup]:
        """Yield the groups that a job of `start_find_duplicates` found, largest first.

        A stream that breaks, since its router or service ends, is begun again where it was.

        Args:
            job_id: The job's id.
            first_group: Place of the first group that is yielded.
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.

        Returns:
            A generator of the groups, each whole.

        Raises:
            NotFound: There is no such job, or no more.
            PreconditionFailed: It has not ended, failed or was cancelled, or its groups are kept no more.
            InvalidInput: It is a job of another kind, or there are fewer groups than `first_group`.
            Unavailable: The mesh cannot be reached, or not again in time.
            DeadlineExceeded: Not all came within `timeout_s`.
            LensmeshError: Any other failure.
        """
        with building("read_duplicates"):
            request = search_pb2.ReadDuplicatesRequest(job_id=_id(job_id), first_group=first_group)
        groups = reread(self._connection, request, patience_s=patience_s, timeout_s=timeout_s)
        async with aclosing(groups):
            async for group in groups:
                yield group

    async def get(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Tell how far a job is.

        Args:
            job_id: Its id.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The job as it stands.

        Raises:
            NotFound: There is no such job, or no more.
            LensmeshError: Any other failure.
        """
        request = search_pb2.GetJobRequest(id=_id(job_id))
        answer = await self._connection.call(self._connection.search.GetJob, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def list(
        self,
        *,
        collection: str = "",
        states: Iterable[JobState | str] | JobState | str = (),
        kind: JobKind | str | None = None,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Job]:
        """Walk through the jobs of the mesh, newest first. Pages are asked for as they are needed.

        Args:
            collection: Only those of this collection; empty means of all.
            states: Only those in one of these states ("running"); none means in any.
            kind: Only those of this kind; None means of any.
            page_size: Jobs of a page, up to `Limits.max_page_size`; 0 means 100.
            timeout_s: Seconds until the answer of each page; None is the client's own.

        Returns:
            A generator of the jobs.

        Raises:
            InvalidInput: A state, the kind or the page's size is none.
            LensmeshError: Any other failure.
        """
        wanted = [states] if isinstance(states, str) else states
        with building("list"):
            request = search_pb2.ListJobsRequest(
                collection=check_text(collection, "collection", Reason.COLLECTION_INVALID),
                states=[chosen("states", each, JobState, translate_jobs.STATES) for each in wanted],
                kind=chosen("kind", kind, JobKind, translate_jobs.KINDS) if kind else search_pb2.JOB_KIND_UNSPECIFIED,
                page_size=page_size,
            )
        while True:
            page = await self._connection.call(self._connection.search.ListJobs, request, timeout_s)
            for each in page.jobs:
                yield translate_jobs.job(each)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """End a job that has not ended, within seconds. One that has ended or is cancelled already is no error.

        Args:
            job_id: Its id.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The job as it stands: where `cancel_requested` is set and it runs, it is about to end.

        Raises:
            NotFound: There is no such job, or no more.
            LensmeshError: Any other failure.
        """
        request = search_pb2.CancelJobRequest(id=_id(job_id))
        answer = await self._connection.call(self._connection.search.CancelJob, request, timeout_s)
        return translate_jobs.job(answer.job)

    async def watch(
        self, job_id: str, *, patience_s: float = 60.0, timeout_s: float | None = None
    ) -> AsyncGenerator[Job]:
        """Tell how far a job is, again and again until it has ended. The last one says how it ended.

        A watch that breaks, since its router or service ends, is begun again.

        Args:
            job_id: Its id.
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.

        Returns:
            A generator of the job as it stands, now and after each change, at most twice a second.

        Raises:
            NotFound: There is no such job, or no more.
            Unavailable: The mesh cannot be reached, or not again in time.
            DeadlineExceeded: It has not ended within `timeout_s`. It goes on.
            LensmeshError: Any other failure.
        """
        request = search_pb2.WatchJobRequest(id=_id(job_id))
        answers = rewatched(self._connection, request, patience_s=patience_s, timeout_s=timeout_s)
        async with aclosing(answers):
            async for answer in answers:
                yield translate_jobs.job(answer.job)

    async def wait(self, job_id: str, *, patience_s: float = 60.0, timeout_s: float | None = None) -> Job:
        """Wait until a job has ended.

        Args:
            job_id: Its id.
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.

        Returns:
            The job, which succeeded or was cancelled.

        Raises:
            NotFound: There is no such job, or no more.
            DeadlineExceeded: It has not ended within `timeout_s`. It goes on.
            LensmeshError: Why the job failed, or any other failure.
        """
        last: Job | None = None
        async with aclosing(self.watch(job_id, patience_s=patience_s, timeout_s=timeout_s)) as looks:
            async for look in looks:
                last = look
        if last is None:
            raise Unavailable(Reason.UNKNOWN, f"the mesh told nothing of the job {job_id}: ask for it again")
        if last.error is not None:
            raise last.error
        return last


def _id(job_id: str) -> str:
    return check_text(job_id, "job_id", Reason.JOB_INVALID)


def _new_id(job_id: str) -> str:
    # Chosen here, so that a start that is sent again starts once.
    return _id(job_id) or str(uuid.uuid4())


def _calibration_text(item_id: str, text: Embedding) -> search_pb2.CalibrationText:
    from lensmesh_client import vectors

    embedding = vectors.embedding(text.vector, check_text(text.space_id, "texts.space_id"))
    return search_pb2.CalibrationText(
        item_id=check_text(item_id, "texts", Reason.ITEM_ID_INVALID), embedding=vectors.halved(embedding)
    )
