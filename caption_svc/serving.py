"""All models of the process: loaded, warmed up, watched. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from caption_svc.captioner import CaptionModel
from caption_svc.engine import Captioner
from caption_svc.models.sources import choose_models, load_model
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.canary import Canaries
from lensmesh_inference.compute import Compute
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.images.pool import DecodePool, open_pool
from lensmesh_inference.models import Kind

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One model with its canary."""

    captioner: Captioner
    canary: Canaries[str]


class Serving:
    """What the service answers with. The first model is the default."""

    def __init__(self, settings: CaptionSettings, metrics: EngineMetrics, health: ModelHealth, cache: Cache) -> None:
        self._settings = settings
        self._metrics = metrics
        self.health = health
        self.cache = cache
        self._pool: DecodePool | None = None
        # A thread of its own: no image waits for a prompt, however long.
        self._prompts = DecodePool(1, name="tokenize")
        self._captioners: list[Captioner] = []
        self.served: dict[str, Served] = {}

    async def add(self, model: CaptionModel) -> None:
        """Start the model's queue, and have it caption the canary's image, so that no caller is the first."""
        name, settings = model.facts.name, self._settings
        if self._pool is None:
            self._pool = open_pool(settings, model.devices())
            self._metrics.decoding.watch(self._pool.decoder.counts)
            self.health.watch(self._pool)
            self.health.watch(self._prompts)
        captioner = Captioner(model, self._pool, self._prompts, settings, self._metrics, self.cache)
        await captioner.batcher.start()
        self._captioners.append(captioner)
        ask = captioner.canary(max_tokens=settings.usual_caption_tokens)
        canary = await self.health.trust(captioner.engine, ask, str.__eq__, parity=model.facts.parity_cosine)
        self.served[name] = Served(captioner, canary)
        _log.info("%s is warm and says of the canary's image: %s", name, canary.known)

    async def stop(self) -> None:
        """Fail what is queued and end all threads."""
        await self.health.stop_asking()
        await asyncio.gather(*(captioner.batcher.stop() for captioner in self._captioners))
        await self._prompts.close()
        if self._pool is not None:
            await self._pool.close()
        await self.cache.close()
        self.health.stop()

    def select(self, name: str) -> Captioner:
        """The model with this `ModelInfo.name`; "" is the default. Raises ``PreconditionFailed`` naming what is
        served."""
        if not name:
            return next(iter(self.served.values())).captioner
        if name in self.served:
            return self.served[name].captioner
        names = ", ".join(self.served)
        raise PreconditionFailed(
            Reason.MODEL_NOT_SERVED,
            f"Model {name!r} is not served here. Served: {names}. Leave options.model empty for the first.",
            field="options.model",
            metadata={"model": name, "served": names},
        )


def load_models(settings: CaptionSettings) -> list[CaptionModel]:
    """Load what `settings.model` names, in its order, and say what it became and why. Blocks for seconds.

    Raises a ``LensmeshError`` where a model that is named cannot be served; `auto` always finds something.
    """
    models: list[CaptionModel] = []
    compute = Compute.of(settings)
    for choice in choose_models(settings.model, settings.real_model):
        _log.log(
            logging.INFO if choice.kind is Kind.LOCAL else logging.WARNING,
            "model %s (%s), %s%s",
            choice.name,
            choice.kind.value,
            choice.why,
            _NOTES[choice.kind],
        )
        models.append(load_model(choice, compute, allow_download=settings.allow_download))
        facts = models[-1].facts
        _log.info("loaded %s: %s %s on %s", facts.label, facts.backend, facts.precision, models[-1].devices())
    return models


_NOTES = {
    Kind.LOCAL: "",
    Kind.DEMONSTRATION: ". It knows drawn scenes only; for photographs set LENSMESH_CAPTION_MODEL to a real model, "
    "such as Salesforce/blip-image-captioning-base",
    Kind.MOCK: ". Its captions are made up from digests: for developing callers only",
}
