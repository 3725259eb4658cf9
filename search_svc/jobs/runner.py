"""The part of a replica that looks for jobs and works on them, a few at a time, beside serving."""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Mapping

from opentelemetry import propagate, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.jobs.attempt import Attempt, JobSettings
from search_svc.jobs.kinds import JobType
from search_svc.jobs.metrics import JobMetrics
from search_svc.jobs.model import LeasedJob
from search_svc.store import Store, StoreRefused

_log = get_logger(__name__)
# Between two looks for jobs that were kept long enough.
_TIDY_S = 60.0


class JobRunner:
    """Worker of the jobs of a store.

    Args:
        store: where jobs and collections are.
        kinds: what it can do; jobs of other kinds wait for another replica.
        settings: how many at a time, and how long leases are.
        metrics: where attempts are counted.
        is_ready: tells whether the store may be used now.
        tracer: makes the spans of attempts.
    """

    def __init__(
        self,
        store: Store,
        kinds: Mapping[str, JobType],
        settings: JobSettings,
        metrics: JobMetrics,
        is_ready: Callable[[], bool],
        tracer: trace.Tracer,
    ) -> None:
        self._tracer = tracer
        self._is_ready = is_ready
        self._store = store
        self._kinds = kinds
        self._settings = settings
        self._metrics = metrics
        self._awake = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._tidied = float("-inf")

    def start(self, draining: asyncio.Event) -> None:
        """Begin to work, until this replica drains or `stop` is called."""
        if self._settings.parallel:
            # Outside of any call's trace.
            self._looking = asyncio.create_task(self._until(draining), context=contextvars.Context())

    def wake(self) -> None:
        """Look for jobs now: one was started or cancelled."""
        self._awake.set()

    async def stop(self) -> None:
        """Hand back what is worked on, and end."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._hand_back()

    async def _until(self, draining: asyncio.Event) -> None:
        # Looks go on for ever, and a job's statements for hours: they belong to no trace.
        with suppress_instrumentation():
            looks = asyncio.create_task(self._keep_looking())
        try:
            await draining.wait()
        finally:
            looks.cancel()
            await asyncio.wait([looks])
        await self._hand_back()

    async def _hand_back(self) -> None:
        attempts = list(self._attempts)
        for attempt in attempts:
            # Once: a second time would cut off the handing back itself.
            if not attempt.cancelling():
                attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)

    async def _keep_looking(self) -> None:
        while True:
            self._awake.clear()
            try:
                if self._is_ready():
                    while len(self._attempts) < self._settings.parallel and await self._take():
                        pass
                    await self._tidy()
            except (LensmeshError, StoreRefused):
                # The watch of the store tells what is wrong with it.
                pass
            except Exception:  # noqa: BLE001 - the next look may do better, and the log says what it was
                _log.exception("looking for jobs failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.check_s):
                    await self._awake.wait()

    async def _take(self) -> bool:
        """Take a job, and begin to work on it. False: there is none."""
        leased = await self._store.jobs.take(
            list(self._kinds), lease_s=self._settings.lease_s, timeout_s=self._settings.call_s
        )
        if leased is None:
            return False
        task = asyncio.create_task(self._work(leased))
        self._attempts.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an attempt at a job failed", exc_info=error)
        self.wake()

    async def _work(self, leased: LeasedJob) -> None:
        job, kind = leased.job, self._kinds[leased.job.kind]
        begun, outcome = time.monotonic(), "failed"
        self._metrics.begin(kind.name)
        _log.info("a job is taken up", job=job.id, kind=kind.name, collection=job.collection, attempt=job.attempts)
        span = self._span(leased)
        try:
            outcome = await Attempt(leased, kind, self._store, self._settings).run()
        except asyncio.CancelledError:
            outcome = "handed_back"
            raise
        finally:
            self._metrics.end(kind.name, outcome, time.monotonic() - begun)
            span.set_attribute("lensmesh.job.outcome", outcome)
            span.end()

    def _span(self, leased: LeasedJob) -> trace.Span:
        """Begin the span of an attempt, in a trace of its own that is linked with the call that started the job."""
        caller = trace.get_current_span(propagate.extract({"traceparent": leased.job.trace})).get_span_context()
        return self._tracer.start_span(
            f"lensmesh job {leased.job.kind}",
            attributes={
                "lensmesh.job.id": leased.job.id,
                spans.COLLECTION: leased.job.collection,
                spans.ATTEMPT: leased.job.attempts,
            },
            links=[trace.Link(caller)] if caller.is_valid else [],
        )

    async def _tidy(self) -> None:
        if time.monotonic() - self._tidied < _TIDY_S:
            return
        count = await self._store.jobs.remove_expired(timeout_s=self._settings.call_s)
        self._tidied = time.monotonic()
        if count:
            _log.info("jobs that ended long ago are forgotten", count=count)
