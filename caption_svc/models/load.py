"""The loading of the models that the settings name, with a log of what each name became and why."""

from __future__ import annotations

import logging

from caption_svc.model import CaptionModel
from caption_svc.models.sources import choose_models, load_model
from caption_svc.settings import CaptionSettings
from lensmesh_inference.models import ModelKind

_log = logging.getLogger(__name__)


def load_models(settings: CaptionSettings) -> list[CaptionModel]:
    """Load the models that `settings.model` names, in its order; log what each became and why. Blocks for seconds.

    Raises a ``LensmeshError`` where a model that is named cannot be served; `auto` always finds something.
    """
    models: list[CaptionModel] = []
    compute = settings.compute_options
    for choice in choose_models(settings.model, settings.real_model):
        _log.log(
            logging.INFO if choice.kind is ModelKind.LOCAL else logging.WARNING,
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
    ModelKind.LOCAL: "",
    ModelKind.DEMONSTRATION: ". It knows drawn scenes only; for photographs set LENSMESH_CAPTION_MODEL to a real "
    "model, such as Salesforce/blip-image-captioning-base",
    ModelKind.MOCK: ". Its captions are made up from digests: for developing callers only",
}
