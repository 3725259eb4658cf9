"""An attempt at a job: its worker runs under a lease that is renewed, until either of them ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.jobs.context import JobContext
from search_svc.jobs.errors import JobFailed
from search_svc.jobs.kinds import JobType
from search_svc.jobs.model import JobEnd, JobState, LeasedJob
from search_svc.jobs.store import LeaseLost
from search_svc.refusals import no_collection, why_of
from search_svc.store import StaleCollection, Store, StoreRefused

_log = get_logger(__name__)
T = TypeVar("T")

# Between two renewals; so long it may take until a running job sees that it is cancelled.
_RENEW_S = 2.0
# Between two tries while the store is away.
_PAUSES_S = (0.25, 10.0)
# So often a worker may run into a call's deadline, or end with its process, without saving anything.
_MOST_IDLE = 5
_HAND_BACK_S = 2.0
_UNDO_S = 30.0


@dataclass(frozen=True)
class JobSettings:
    """Settings of how jobs are worked on; see `SearchSettings`."""

    parallel: int
    lease_s: float
    keep_s: float
    call_s: float
    check_s: float
    """Between two looks for jobs."""


class Attempt:
    """An attempt of this replica at a job that it has a lease on."""

    def __init__(self, leased: LeasedJob, kind: JobType, store: Store, settings: JobSettings) -> None:
        self._job, self._lease = leased.job, leased.lease
        self._kind = kind
        self._store = store
        self._settings = settings
        self._context: JobContext | None = None

    async def run(self) -> str:
        """Work until the job ends, another replica has it, or this task is cancelled. Return the outcome's name.

        Where the task is cancelled the job is handed back before CancelledError is raised.
        """
        try:
            end = await self._attended()
            await self._persistently(
                lambda: self._store.jobs.end(
                    self._lease, end, keep_s=self._settings.keep_s, timeout_s=self._settings.call_s
                )
            )
        except LeaseLost:
            _log.warning("a job is another replica's by now", job=self._job.id, kind=self._kind.name)
            return "lost"
        except asyncio.CancelledError:
            with contextlib.suppress(LensmeshError, StoreRefused):
                await self._store.jobs.hand_back(self._lease, timeout_s=_HAND_BACK_S)
            raise
        _log.info("a job has ended", job=self._job.id, kind=self._kind.name, state=str(end.state))
        return str(end.state)

    async def _attended(self) -> JobEnd:
        """Run the worker while the lease is renewed. Return how the job ends."""
        if self._job.cancel_requested:
            return await self._broken_off(JobEnd(JobState.CANCELLED))
        work = asyncio.create_task(self._worked())
        try:
            while not (await asyncio.wait([work], timeout=min(_RENEW_S, self._settings.lease_s / 3)))[0]:
                # A store that is away says so to the worker, which waits.
                with contextlib.suppress(LensmeshError, StoreRefused):
                    if await self._store.jobs.renew(
                        self._lease, lease_s=self._settings.lease_s, timeout_s=self._settings.lease_s / 3
                    ):
                        await _stopped(work)
                        return await self._broken_off(JobEnd(JobState.CANCELLED))
        finally:
            await _stopped(work)
        end = work.result()
        return end if end.error is None else await self._broken_off(end)

    async def _worked(self) -> JobEnd:
        """Do the work, or what is left of it, and say how that ended."""
        try:
            if self._job.idle_attempts > _MOST_IDLE:
                raise InternalFault(
                    Reason.INTERNAL, f"its worker ended {_MOST_IDLE} times without any progress: the logs say why"
                )
            return JobEnd(JobState.SUCCEEDED, result=await self._patiently())
        except (LeaseLost, asyncio.CancelledError):
            raise
        except StaleCollection:
            return JobEnd(JobState.FAILED, no_collection(self._job.collection))
        except JobFailed as failed:
            return JobEnd(JobState.FAILED, failed.error)
        except LensmeshError as error:
            return JobEnd(JobState.FAILED, error)
        except Exception:  # noqa: BLE001 - whatever it is, the job ends, and the log says what it was
            _log.exception("a job failed", job=self._job.id, kind=self._kind.name)
            return JobEnd(
                JobState.FAILED,
                InternalFault(Reason.INTERNAL, "an unexpected error: the log of the search service says which"),
            )

    async def _patiently(self) -> str:
        """Do the work, again from where it was while the store is away or too slow."""
        pause_s, late = _PAUSES_S[0], 0
        while True:
            saves = self._context.saves if self._context else 0
            try:
                context = await self._opened()
                return await self._kind.work(context)
            except (Unavailable, DeadlineExceeded, StoreRefused) as error:
                if self._context is not None and self._context.saves > saves:
                    pause_s, late = _PAUSES_S[0], 0
                late += isinstance(error, DeadlineExceeded)
                if late > _MOST_IDLE:
                    raise
                await self._say(f"waits: {why_of(str(error))}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSES_S[1])

    async def _opened(self) -> JobContext:
        """Return what the worker is given, with the very collection that the job is about.

        Raises:
            StaleCollection: it is gone, or another one has its name.
        """
        if self._context is None:
            collection = await self._store.find_collection(
                self._job.collection, fresh=True, timeout_s=self._settings.call_s
            )
            if collection.key != self._job.collection_key:
                raise StaleCollection
            self._context = JobContext(
                self._job,
                self._lease,
                collection,
                self._store,
                self._store.jobs,
                timeout_s=self._settings.call_s,
            )
        return self._context

    async def _broken_off(self, end: JobEnd) -> JobEnd:
        """Take away what the job leaves, where it leaves anything. What cannot be is only logged."""
        if self._kind.undo is None:
            return end
        try:
            async with asyncio.timeout(_UNDO_S):
                await self._store.jobs.renew(
                    self._lease, lease_s=self._settings.lease_s + _UNDO_S, timeout_s=self._settings.call_s
                )
                await self._kind.undo(await self._opened())
        except (StaleCollection, LensmeshError) as error:
            _log.info("nothing is left of a job, or it cannot be removed", job=self._job.id, why=str(error))
        except TimeoutError:
            _log.warning("what a job left could not be removed in time", job=self._job.id, kind=self._kind.name)
        return end

    async def _say(self, message: str) -> None:
        with contextlib.suppress(LensmeshError, StoreRefused):
            if self._context is not None:
                await self._context.say(message)

    async def _persistently(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, again and again while the store is away. The lease is held in between."""
        pause_s = _PAUSES_S[0]
        while True:
            try:
                return await write()
            except (Unavailable, DeadlineExceeded, StoreRefused) as error:
                _log.warning("the end of a job could not be written yet", job=self._job.id, why=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSES_S[1])


async def _stopped(work: asyncio.Task[T]) -> None:
    """Cancel a task and wait for its end, whatever it is. What it raised is still its result's."""
    work.cancel()
    await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
