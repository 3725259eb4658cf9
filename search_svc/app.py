"""The search service: its store, threads and servicer put together."""

from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry import trace

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.process.server import Runtime
from search_svc.jobs.attempt import JobSettings
from search_svc.jobs.kinds import KINDS
from search_svc.jobs.metrics import JobMetrics
from search_svc.jobs.runner import JobRunner
from search_svc.metered import MeteredStore
from search_svc.service import SearchServicer
from search_svc.settings import SearchSettings
from search_svc.statement_spans import StatementSpans
from search_svc.store import Store
from search_svc.stores import store_kind
from search_svc.threads import Threads
from search_svc.watch import StoreWatch

SERVICE: str = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name


def make_store(settings: SearchSettings, tracer_provider: Any | None = None) -> Store:
    """Make the store that the settings name. Nothing is connected yet. With a provider calls to Qdrant have spans."""
    return store_kind(settings.store_url.get_secret_value()).open(settings, tracer_provider)


def make_runner(store: Store, runtime: Runtime[SearchSettings]) -> JobRunner:
    """Make the worker of the store's jobs. Nothing is taken up yet."""
    settings = runtime.settings
    chosen = JobSettings(
        parallel=settings.job_parallel,
        lease_s=settings.job_lease_seconds,
        keep_s=settings.job_keep_seconds,
        call_s=settings.call_seconds,
        check_s=settings.store_check_seconds,
    )
    return JobRunner(
        store,
        KINDS,
        chosen,
        JobMetrics(runtime.registry, KINDS),
        is_ready=lambda: runtime.health.is_serving(SERVICE),
        tracer=trace.get_tracer("lensmesh", tracer_provider=runtime.tracer_provider),
    )


class SearchApp:
    """SearchService over one store.

    It starts without the store too: then it says why it does not serve, and recovers alone.
    """

    def __init__(self, runtime: Runtime[SearchSettings]) -> None:
        self._store = MeteredStore(make_store(runtime.settings, runtime.tracer_provider), runtime.registry)
        self._statements = StatementSpans(runtime.tracer_provider)
        self._threads = Threads()
        self._watch = StoreWatch(self._store, runtime.health, SERVICE, runtime.settings.store_check_seconds)
        self._draining = runtime.draining
        self._jobs = make_runner(self._store, runtime)
        self._servicer = SearchServicer(
            self._store,
            self._threads,
            runtime.settings,
            runtime.server_info,
            draining=runtime.draining,
            job_started=self._jobs.wake,
        )

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        search_pb2_grpc.add_SearchServiceServicer_to_server(self._servicer, server)
        return [SERVICE]

    async def start(self) -> None:
        self._statements.start()
        await self._watch.start()
        self._jobs.start(self._draining)

    async def stop(self) -> None:
        await self._jobs.stop()
        await self._watch.stop()
        await self._store.close()
        self._statements.stop()
        self._threads.stop()
