"""The encoder as the chassis runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import grpc

from encoder_svc.engine import Engine
from encoder_svc.model import EncoderModel
from encoder_svc.registry import open_models
from encoder_svc.service import EncoderServicer
from encoder_svc.settings import EncoderSettings
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.cache_metrics import CacheMetrics
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.background import in_daemon_thread
from lensmesh_inference.cache.opening import open_cache
from lensmesh_inference.health import ModelHealth

SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name


class EncoderApp:
    """EncoderService with the models that its settings name; `open_models` loads them, and blocks."""

    def __init__(
        self,
        runtime: Runtime[EncoderSettings],
        open_models: Callable[[EncoderSettings], Sequence[EncoderModel]] = open_models,
    ) -> None:
        self._runtime = runtime
        self._open_models = open_models
        self._engine: Engine | None = None
        self._metrics = EngineMetrics(runtime.registry)
        settings, cache_metrics = runtime.settings, CacheMetrics(runtime.registry)
        self._cache = open_cache(settings, cache_metrics)
        cache_metrics.watch(self._cache)
        self._fetcher = Fetcher(settings.fetch_policy(settings.max_image_bytes))

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(
            EncoderServicer(self._runtime, self.engine, self._fetcher), server
        )
        return [SERVICE]

    async def start(self) -> None:
        # In a thread: health is asked, and answers, while gigabytes are read, and a process that is told to stop does
        # not wait for them.
        models = await in_daemon_thread(self._open_models, self._runtime.settings)
        runtime = self._runtime
        tell = functools.partial(runtime.health.tell, SERVICE)
        health = ModelHealth(runtime.settings, tell, runtime.give_up, self._metrics)
        await self._cache.start()
        self._engine = Engine(models, runtime.settings, self._metrics, health, self._cache)
        await self._engine.start()

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.stop()
        await self._cache.close()
        await self._fetcher.aclose()

    def engine(self) -> Engine:
        """The engine; raises NOT_READY before `start` has made it."""
        if self._engine is None:
            raise Unavailable(Reason.NOT_READY, "The models are being loaded: try again in a moment.", retry_after_s=1)
        return self._engine
