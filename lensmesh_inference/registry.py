"""The served models of a process: started, asked their canaries, watched, found by name and stopped."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Batcher
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.canary import Canaries
from lensmesh_inference.devices import DeviceFacts
from lensmesh_inference.engine import EngineResources, ModelEngine
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.images.pool import DecodePool, open_pool
from lensmesh_inference.models import ModelFacts
from lensmesh_inference.observer import ModelObserver
from lensmesh_inference.options import BatchingOptions, DecodeOptions

_log = logging.getLogger(__name__)


class LoadedModel(Protocol):
    """The interface of any loaded model."""

    @property
    def facts(self) -> ModelFacts:
        """The facts of the model."""

    def devices(self) -> Sequence[DeviceFacts]:
        """Return the devices where it runs, with their memory as of now."""


M = TypeVar("M", bound=LoadedModel)
Value = TypeVar("Value")
A = TypeVar("A")
L = TypeVar("L", bound=LoadedModel)


class ServedModel(ABC, Generic[M, Value, A]):
    """A model with its engine, and the canary that it is trusted by once the registry has started.

    `Value` is what its engine makes of an item, `A` what it answers to the canary.
    """

    canary: Canaries[A] | None = None

    def __init__(self, model: M, engine: ModelEngine[Any, Any, Value]) -> None:
        self.model = model
        self.engine = engine

    @property
    def batcher(self) -> Batcher[Any, Any]:
        """The batcher of its engine."""
        return self.engine.batcher

    @property
    def canary_age_s(self) -> float | None:
        """The seconds since the canary last passed; None where none has."""
        return None if self.canary is None else self.canary.age_s

    @abstractmethod
    async def ask(self, device: int) -> A:
        """Ask one device the canary's question by `ModelEngine.probe`. The question is always the same."""

    @abstractmethod
    def same(self, known: A, answer: A) -> bool:
        """Tell whether two answers to the canary are equal. An invalid answer is not equal to itself."""


E = TypeVar("E", bound=ServedModel[Any, Any, Any])


class ModelRegistry(Generic[E]):
    """The served models in their order; the first is the default."""

    def __init__(
        self,
        models: Sequence[L],
        serve: Callable[[L, EngineResources], E],
        *,
        decoding: DecodeOptions,
        batching: BatchingOptions,
        health: ModelHealth,
        cache: TieredCache,
        observer: ModelObserver,
        pools: Sequence[DecodePool] = (),
    ) -> None:
        """Open the decoding pool and serve all models. `serve` makes a model's engine.

        `pools` prepare items beside the pool that decodes, and end with it.
        """
        self._health = health
        self.pool = open_pool(decoding, [device for model in models for device in model.devices()])
        self._pools = (self.pool, *pools)
        observer.watch_decoding(self.pool.decoder.counts)
        resources = EngineResources(self.pool, batching, cache, observer)
        self.served = [serve(model, resources) for model in models]

    async def start(self) -> None:
        """Start the device threads. Each model then answers its canary, so that no caller is the first."""
        for pool in self._pools:
            self._health.watch(pool)
        self._health.start()
        for served in self.served:
            await served.batcher.start()
            served.canary = await self._health.trust(
                served.engine, served.ask, served.same, parity=served.model.facts.parity_cosine
            )
            _log.info("%s is warm", served.model.facts.name)

    async def stop(self) -> None:
        """Fail what is queued and end all threads."""
        await self._health.stop_asking()
        await asyncio.gather(*(served.batcher.stop() for served in self.served))
        await asyncio.gather(*(pool.close() for pool in self._pools))
        self._health.stop()

    @property
    def default(self) -> E:
        """The first model."""
        return self.served[0]

    def named(self, name: str, *, field: str = "options.model") -> E:
        """Return the model of this `ModelInfo.name`; "" is the default.

        Raises ``PreconditionFailed`` that names what is served, and the request's `field`.
        """
        if not name:
            return self.default
        names = [served.model.facts.name for served in self.served]
        if name in names:
            return self.served[names.index(name)]
        known = ", ".join(names)
        raise PreconditionFailed(
            Reason.MODEL_NOT_SERVED,
            f"Model {name!r} is not served here. Served: {known}. Leave {field} empty for the first.",
            field=field,
            metadata={"model": name, "served": known},
        )
