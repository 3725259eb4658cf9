"""Wires the router together."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import grpc

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.budget import Budget
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.messages.piecewise import PiecewiseChannel
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.telemetry.client_metrics import ClientMetrics
from lensmesh_chassis.tls.credentials import peer_security
from router_svc.caption import CaptionerProxy
from router_svc.catalog import Catalog
from router_svc.cut import CallLimits
from router_svc.directory import Directory
from router_svc.encoder import EncoderProxy
from router_svc.ingest.front import Ingestion
from router_svc.ingest.mesh import Mesh
from router_svc.ingest.meter import IngestMeter
from router_svc.limits import JoinedLimits
from router_svc.peers.fleet import Fleet, Peer
from router_svc.peers.kinds import Kind
from router_svc.peers.models import Captioners, Encoders
from router_svc.peers.roster import Roster
from router_svc.peers.stores import Stores
from router_svc.peers.stubs import CaptionerStub, EncoderStub, SearchStub
from router_svc.search import Searching
from router_svc.search_proxy import SearchProxy
from router_svc.service import RouterServicer
from router_svc.settings import RouterSettings
from router_svc.status import MeshStatus
from router_svc.stream import StreamLimits

S = TypeVar("S")
# As often as the service config of the other channels tries a call.
MODEL_TRIES = 4
ROUTER_SERVICE = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name


class RouterApp:
    """One router. It serves as soon as it runs: how its neighbours are, GetStatus tells, and never its own health."""

    def __init__(self, runtime: Runtime[RouterSettings]) -> None:
        self._runtime = runtime
        self._settings = settings = runtime.settings
        self._targets = settings.targets()
        self._security = peer_security(settings)
        self._channels: list[grpc.aio.Channel] = []
        self._calls = ClientMetrics(runtime.registry)
        # Two are enough: hashing is faster than any network that brings the bytes.
        self._hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="digest")
        self._fetcher = Fetcher(settings.fetch_policy(settings.max_image_bytes))
        self._roster = Roster(
            self._targets,
            security=self._security,
            probe_s=settings.probe_seconds,
            refresh_s=settings.refresh_seconds,
        )

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds RouterService and the contracts that are passed on."""
        settings, runtime, roster = self._settings, self._runtime, self._roster
        directory = Directory(
            roster,
            default_space=settings.default_space,
            own_limits=CallLimits(settings.max_items, settings.max_message_bytes),
        )
        encoders = Encoders(self._fleet(Kind.ENCODER, EncoderStub), directory)
        captioners = Captioners(self._fleet(Kind.CAPTIONER, CaptionerStub), directory)
        stores = Stores(self._fleet(Kind.SEARCH, SearchStub))
        catalog = Catalog(
            stores, directory, default=settings.default_collection, believed_s=settings.collection_cache_seconds
        )
        limits = JoinedLimits(settings, roster)
        streams = StreamLimits(
            max_items=settings.max_items,
            max_message_bytes=settings.max_message_bytes,
            in_flight_items=settings.stream_in_flight_items,
            in_flight_bytes=settings.stream_in_flight_bytes,
            all_streams=Budget(settings.all_in_flight_bytes),
            draining=runtime.draining,
        )
        mesh = Mesh(settings, encoders, captioners, stores, directory, catalog, self._hashing, self._fetcher)
        router = RouterServicer(
            settings,
            MeshStatus(roster, limits, runtime, settings.default_collection),
            Ingestion(mesh, streams, IngestMeter(runtime.registry, lambda: streams.all_streams.held)),
            Searching(encoders, stores, catalog, self._fetcher),
            runtime.draining,
        )
        router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(
            EncoderProxy(settings, runtime, encoders, directory, limits, streams), server
        )
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(
            CaptionerProxy(settings, runtime, captioners, directory, limits, streams), server
        )
        search_pb2_grpc.add_SearchServiceServicer_to_server(SearchProxy(runtime, stores, limits), server)
        return (ROUTER_SERVICE, *(kind.service for kind in Kind))

    async def start(self) -> None:
        """Learns what the mesh serves, as far as it answers now."""
        await self._roster.start()

    async def stop(self) -> None:
        """Closes every connection."""
        await self._roster.stop()
        for channel in self._channels:
            await channel.close()
        self._hashing.shutdown(wait=False)
        await self._fetcher.aclose()

    def _fleet(self, kind: Kind, stub: Callable[[grpc.aio.Channel], S]) -> Fleet[S]:
        peers = []
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
            peers.append(Peer(target, stub(cast(grpc.aio.Channel, PiecewiseChannel(channel)))))
        return Fleet(
            kind,
            peers,
            draining=self._runtime.draining,
            call_s=self._settings.call_seconds,
            unreachable=functools.partial(self._roster.unreachable, kind),
            tries=MODEL_TRIES if own_tries else 1,
            why=functools.partial(self._roster.why, kind),
        )
