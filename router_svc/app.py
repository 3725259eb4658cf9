"""Wires the router together."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.concurrency import Budget
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.messages.piecewise import PiecewiseChannel
from lensmesh_chassis.process.cpus import cpu_count
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.telemetry.client_metrics import ClientMetrics
from lensmesh_chassis.tls.credentials import peer_security
from router_svc.caption_proxy import CaptionerProxy
from router_svc.collection_cache import CollectionCache
from router_svc.cut import CallLimits
from router_svc.encoder_proxy import EncoderProxy
from router_svc.ingest.dependencies import Dependencies
from router_svc.ingest.ingestion import Ingestion
from router_svc.ingest.metrics import IngestMetrics
from router_svc.limits import JoinedLimits
from router_svc.matching.handler import MatchHandler
from router_svc.matching.metrics import MatchMetrics
from router_svc.matching.verification import Verification
from router_svc.media.media import Media
from router_svc.media.store import MediaStore
from router_svc.model_directory import ModelDirectory
from router_svc.search import SearchHandler
from router_svc.search_proxy import SearchProxy
from router_svc.service import RouterServicer
from router_svc.settings import RouterSettings
from router_svc.status import MeshStatus
from router_svc.stream import StreamLimits
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Captioners, Encoders
from router_svc.upstreams.monitor import ReplicaMonitor
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.tries import Upstream

# As often as the service config of the other channels tries a call.
MODEL_TRIES = 4
MOST_VERIFY_THREADS = 4
ROUTER_SERVICE = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name


class RouterApp:
    """A router. It serves as soon as it runs: how its neighbours are, GetStatus tells, and never its own health."""

    def __init__(self, runtime: Runtime[RouterSettings], media_store: MediaStore | None = None) -> None:
        """Build the parts. `media_store` is used in place of the one that the settings name."""
        self._runtime = runtime
        self._settings = settings = runtime.settings
        self._targets = settings.targets()
        self._security = peer_security(settings)
        self._channels: list[grpc.aio.Channel] = []
        self._calls = ClientMetrics(runtime.registry)
        # Two are enough: hashing is faster than any network that brings the bytes.
        self._hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="digest")
        self._match_metrics = MatchMetrics(runtime.registry)
        threads = settings.verify_threads or min(MOST_VERIFY_THREADS, cpu_count())
        self._verification = Verification(threads, self._match_metrics)
        self._fetcher = Fetcher(settings.fetch_policy(settings.max_image_bytes))
        self._media = Media(settings, runtime.health, runtime.registry, media_store)
        self._monitor = ReplicaMonitor(
            self._targets,
            security=self._security,
            probe_s=settings.probe_seconds,
            refresh_s=settings.refresh_seconds,
        )

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Add RouterService and the contracts that are passed on."""
        settings, runtime, monitor = self._settings, self._runtime, self._monitor
        directory = ModelDirectory(
            monitor,
            default_space=settings.default_space,
            own_limits=CallLimits(settings.max_items, settings.max_message_bytes),
        )
        encoders = Encoders(self._pool(Kind.ENCODER, encoder_pb2_grpc.EncoderServiceStub), directory)
        captioners = Captioners(self._pool(Kind.CAPTIONER, caption_pb2_grpc.CaptionerServiceStub), directory)
        stores = self._pool(Kind.SEARCH, search_pb2_grpc.SearchServiceStub)
        collection_cache = CollectionCache(
            stores, directory, default=settings.default_collection, believed_s=settings.collection_cache_seconds
        )
        limits = JoinedLimits(settings, monitor)
        streams = StreamLimits(
            max_items=settings.max_items,
            in_flight_items=settings.stream_in_flight_items,
            in_flight_bytes=settings.stream_in_flight_bytes,
            all_streams=Budget(settings.all_in_flight_bytes),
            draining=runtime.draining,
        )
        dependencies = Dependencies(
            settings,
            encoders,
            captioners,
            stores,
            directory,
            collection_cache,
            self._hashing,
            self._fetcher,
            self._media,
        )
        router = RouterServicer(
            settings,
            MeshStatus(monitor, limits, runtime, settings.default_collection, self._media),
            Ingestion(dependencies, streams, IngestMetrics(runtime.registry, streams.held_bytes)),
            SearchHandler(encoders, stores, collection_cache, self._fetcher),
            MatchHandler(
                encoders,
                stores,
                directory,
                collection_cache,
                self._fetcher,
                self._hashing,
                self._match_metrics,
                self._verification,
                max_message_bytes=settings.max_message_bytes,
            ),
            self._media,
            runtime.draining,
        )
        router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(
            EncoderProxy(settings, runtime, encoders, directory, limits, streams), server
        )
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(
            CaptionerProxy(settings, runtime, captioners, directory, limits, streams), server
        )
        # Its methods are made from the contract, which no type checker sees.
        search_proxy = cast(search_pb2_grpc.SearchServiceServicer, SearchProxy(runtime, stores, limits))
        search_pb2_grpc.add_SearchServiceServicer_to_server(search_proxy, server)
        return (ROUTER_SERVICE, *(kind.service for kind in Kind))

    async def start(self) -> None:
        """Learn what the mesh serves, as far as it answers now."""
        self._media.start()
        await self._monitor.start()

    async def stop(self) -> None:
        """Close every connection."""
        await self._monitor.stop()
        await self._media.stop()
        for channel in self._channels:
            await channel.close()
        self._hashing.shutdown(wait=False)
        self._verification.close()
        await self._fetcher.aclose()

    def _pool(self, kind: Kind, stub: Callable[[grpc.aio.Channel], Any]) -> UpstreamPool:
        upstreams = []
        # gRPC would send a call whose replica ended under it to the next one, which it may end as well: see Suspects.
        own_tries = kind is not Kind.SEARCH
        for target in self._targets[kind]:
            channel = open_channel(
                target,
                security=self._security,
                max_message_bytes=self._settings.max_message_bytes,
                health_check=kind.service,
                services=() if own_tries else None,
                metrics=self._calls,
                tracer_provider=self._runtime.tracer_provider,
            )
            self._channels.append(channel)
            upstreams.append(Upstream(target, stub(cast(grpc.aio.Channel, PiecewiseChannel(channel)))))
        return UpstreamPool(
            kind,
            upstreams,
            draining=self._runtime.draining,
            call_s=self._settings.call_seconds,
            unreachable=functools.partial(self._monitor.unreachable, kind),
            tries=MODEL_TRIES if own_tries else 1,
            why=functools.partial(self._monitor.why, kind),
        )
