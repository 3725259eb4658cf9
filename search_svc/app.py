"""The search service, put together."""

from collections.abc import Sequence
from typing import Any

import grpc

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.tls.credentials import peer_security
from search_svc.metered import MeteredStore
from search_svc.postgres import PostgresStore
from search_svc.postgres.database import Database
from search_svc.qdrant.address import is_qdrant, parse_address
from search_svc.service import SearchServicer
from search_svc.settings import SearchSettings
from search_svc.statement_spans import StatementSpans
from search_svc.store import Store
from search_svc.threads import Threads
from search_svc.watch import StoreWatch

SERVICE: str = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name


def make_store(settings: SearchSettings, tracer_provider: Any | None = None) -> Store:
    """The store that the settings name; nothing is connected yet. With a provider calls to Qdrant have spans."""
    url = settings.store_url.get_secret_value()
    if not is_qdrant(url):
        database = Database(
            url,
            pool_size=settings.pool_size,
            connect_s=settings.store_connect_seconds,
            idle_s=settings.store_idle_seconds,
        )
        return PostgresStore(database, hnsw_ef=settings.hnsw_ef)
    # Imported here: its client is large, and who uses PostgreSQL needs none of it.
    from search_svc.qdrant.engine import make_engine
    from search_svc.qdrant.layout import Tuning
    from search_svc.qdrant.store import QdrantStore

    address = parse_address(url)
    return QdrantStore(
        make_engine(address, peer_security(settings), tracer_provider),
        prefix=address.prefix,
        tuning=Tuning(settings.qdrant_quantization, settings.qdrant_on_disk),
        hnsw_ef=settings.hnsw_ef,
        connect_s=settings.store_connect_seconds,
    )


class SearchApp:
    """SearchService over one store. Starts without it too: it then says why it does not serve, and recovers alone."""

    def __init__(self, runtime: Runtime[SearchSettings]) -> None:
        self._store = MeteredStore(make_store(runtime.settings, runtime.tracer_provider), runtime.registry)
        self._statements = StatementSpans(runtime.tracer_provider)
        self._threads = Threads()
        self._watch = StoreWatch(self._store, runtime.health, SERVICE, runtime.settings.store_check_seconds)
        self._servicer = SearchServicer(self._store, self._threads, runtime.settings, runtime.server_info)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        search_pb2_grpc.add_SearchServiceServicer_to_server(self._servicer, server)
        return [SERVICE]

    async def start(self) -> None:
        self._statements.start()
        await self._watch.start()

    async def stop(self) -> None:
        await self._watch.stop()
        await self._store.close()
        self._statements.stop()
        self._threads.stop()
