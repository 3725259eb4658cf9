"""The captioner as the chassis runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import grpc

from caption_svc.captioner import CaptionModel
from caption_svc.service import CaptionerService
from caption_svc.serving import Serving, load_models
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.telemetry.cache_metrics import CacheMetrics
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.background import in_daemon_thread
from lensmesh_inference.cache.opening import open_cache
from lensmesh_inference.health import ModelHealth

SERVICE = caption_pb2.DESCRIPTOR.services_by_name["CaptionerService"].full_name


class CaptionApp:
    """Loads the models at start; health follows their canaries.

    `load` blocks and is called in a thread.
    """

    def __init__(
        self,
        runtime: Runtime[CaptionSettings],
        load: Callable[[CaptionSettings], Sequence[CaptionModel]] = load_models,
    ) -> None:
        self._runtime = runtime
        self._load = load
        metrics, tell = EngineMetrics(runtime.registry), functools.partial(runtime.health.tell, SERVICE)
        health = ModelHealth(runtime.settings, tell, runtime.give_up, metrics)
        cache_metrics = CacheMetrics(runtime.registry)
        cache = open_cache(runtime.settings, cache_metrics)
        cache_metrics.watch(cache)
        self.serving = Serving(runtime.settings, metrics, health, cache)
        self._fetcher = Fetcher(runtime.settings.fetch_policy(runtime.settings.max_image_bytes))

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Add the servicer."""
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(
            CaptionerService(self.serving, self._runtime, self._fetcher), server
        )
        return [SERVICE]

    async def start(self) -> None:
        """Load, then caption once with each model."""
        await self.serving.cache.start()
        models = await in_daemon_thread(self._load, self._runtime.settings)
        self.serving.health.start()
        for model in models:
            await self.serving.add(model)

    async def stop(self) -> None:
        """End all threads."""
        await self.serving.stop()
        await self._fetcher.aclose()
