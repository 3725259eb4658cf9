"""All models of the process: loaded, warmed up, watched. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from caption_svc.captioner import CaptionModel, Kind
from caption_svc.engine import Captioner
from caption_svc.models.sources import choose_models, load_model
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.canary import Canary
from lensmesh_inference.devices import cpu_count
from lensmesh_inference.pictures.pool import DecodePool

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One model with its canary."""

    captioner: Captioner
    canary: Canary[str]


class Serving:
    """What the service answers with. The first model is the default.

    `tell` is called with why captions cannot be trusted, and with "" once they can again.
    """

    def __init__(self, settings: CaptionSettings, tell: Callable[[str], None], metrics: EngineMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tell = tell
        self._troubles: dict[str, str] = {}
        self._pool = DecodePool(settings.decode_threads)
        self.served: dict[str, Served] = {}

    async def add(self, model: CaptionModel) -> None:
        """Start the model's queue, and have it caption the canary's picture, so that no caller is the first."""
        name, settings = model.facts.name, self._settings
        captioner = Captioner(model, self._pool, settings, self._metrics)
        canary = captioner.canary(
            lambda trouble: self._hear(name, trouble),
            every_s=settings.canary_seconds,
            timeout_s=settings.canary_timeout_seconds,
            max_tokens=settings.usual_caption_tokens,
        )
        if settings.canary_seconds:
            self._metrics.watch_canary(name, canary)
        self.served[name] = Served(captioner, canary)
        await captioner.batcher.start()
        _log.info("%s is warm and says of the canary's picture: %s", name, await canary.start())

    async def stop(self) -> None:
        """Fail what is queued and end all threads."""
        await asyncio.gather(*(one.canary.stop() for one in self.served.values()))
        await asyncio.gather(*(one.captioner.batcher.stop() for one in self.served.values()))
        await self._pool.close()

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

    def _hear(self, name: str, trouble: str) -> None:
        if trouble:
            self._troubles[name] = trouble
        else:
            self._troubles.pop(name, None)
        self._tell("; ".join(self._troubles.values()))


def load_models(settings: CaptionSettings) -> list[CaptionModel]:
    """Load what `settings.model` names, in its order, and say what it became and why. Blocks for seconds.

    Raises a ``LensmeshError`` where a model that is named cannot be served; `auto` always finds something.
    """
    models: list[CaptionModel] = []
    for choice in choose_models(settings.model, settings.real_model):
        _log.log(
            logging.INFO if choice.kind is Kind.LOCAL else logging.WARNING,
            "model %s (%s), %s%s",
            choice.name,
            choice.kind.value,
            choice.why,
            _NOTES[choice.kind],
        )
        models.append(
            load_model(
                choice,
                device=settings.device,
                precision=settings.precision,
                threads=settings.threads or cpu_count(),
                allow_download=settings.allow_download,
            )
        )
        _log.info("loaded %s in %s on %s", models[-1].facts.label, models[-1].facts.precision, models[-1].devices())
    return models


_NOTES = {
    Kind.LOCAL: "",
    Kind.DEMONSTRATION: ". It knows drawn scenes only; for photographs set LENSMESH_CAPTION_MODEL to a real model, "
    "such as Salesforce/blip-image-captioning-base",
    Kind.MOCK: ". Its captions are made up from digests: for developing callers only",
}
