"""A model service as the chassis runs it: what is the same for every one."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.background import in_daemon_thread
from lensmesh_inference.cache.tiered import open_cache
from lensmesh_inference.engine import EngineResources
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.registry import LoadedModel, ModelRegistry, ServedModel
from lensmesh_serving.metrics.cache import CacheMetrics
from lensmesh_serving.metrics.engine import EngineMetrics
from lensmesh_serving.settings import ModelServiceSettings

S = TypeVar("S", bound=ModelServiceSettings)
M = TypeVar("M", bound=LoadedModel)
E = TypeVar("E", bound=ServedModel[Any, Any, Any])


class ModelServiceApp(ABC, Generic[S, M, E]):
    """An `App` that loads models, serves each by an engine, and whose health follows their canaries.

    It owns the cache, the fetcher of images by address, the metrics and the end of all of them. A subclass adds the
    servicer, and makes of a loaded model one that is served.
    """

    def __init__(
        self,
        runtime: Runtime[S],
        service: str,
        load: Callable[[S], Sequence[M]],
        *,
        pools: Sequence[DecodePool] = (),
    ) -> None:
        """Take the full name of the contract's service, and what loads the models: `load` blocks, and runs in a thread.

        `pools` prepare items beside the pool that decodes images: tokenizers, say.
        """
        self.runtime = runtime
        self.settings = runtime.settings
        self.fetcher = Fetcher(runtime.settings.fetch_policy(runtime.settings.max_image_bytes))
        self._service = service
        self._load = load
        self._pools = pools
        self._metrics = EngineMetrics(runtime.registry)
        cache_metrics = CacheMetrics(runtime.registry)
        self._cache = open_cache(runtime.settings.cache_options, cache_metrics)
        cache_metrics.watch(self._cache)
        self._models: ModelRegistry[E] | None = None

    @abstractmethod
    def add_servicer(self, server: grpc.aio.Server) -> None:
        """Add the servicer of the contract. Its methods are called once `start` has returned."""

    @abstractmethod
    def serve(self, model: M, resources: EngineResources) -> E:
        """Give a model its engine."""

    @property
    def models(self) -> ModelRegistry[E]:
        """The served models. Raises NOT_READY before `start` has made them."""
        if self._models is None:
            raise Unavailable(Reason.NOT_READY, "The models are being loaded: try again in a moment.", retry_after_s=1)
        return self._models

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Add the servicer, and name its service."""
        self.add_servicer(server)
        return [self._service]

    async def start(self) -> None:
        """Load the models, and have each answer its canary."""
        runtime, settings = self.runtime, self.settings
        # In a thread: health is asked, and answers, while gigabytes are read, and a process that is told to stop does
        # not wait for them.
        models = await in_daemon_thread(self._load, settings)
        tell = functools.partial(runtime.health.set_reason, self._service)
        health = ModelHealth(settings.health_options, tell, runtime.give_up, self._metrics)
        await self._cache.start()
        self._models = ModelRegistry(
            models,
            self.serve,
            decoding=settings.decode_options,
            batching=settings.batching_options,
            health=health,
            cache=self._cache,
            observer=self._metrics,
            pools=self._pools,
        )
        await self._models.start()

    async def stop(self) -> None:
        """Fail what is queued, and end all threads and connections."""
        if self._models is not None:
            await self._models.stop()
        else:
            await asyncio.gather(*(pool.close() for pool in self._pools))
        await self._cache.close()
        await self.fetcher.aclose()
