"""The loading of the models that the setting `model` names, and the choice that `auto` makes on this machine.

Torch is imported only where a model needs it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import lensmesh_shapes
from encoder_svc.model import EncoderModel
from encoder_svc.models.mock import MockModel
from encoder_svc.models.sources import FORMS, Form, Source, parse_source
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_inference.models import missing_packages, model_error, split_names

_NEEDED = ("torch", "open_clip")
_log = logging.getLogger(__name__)


def load_models(settings: EncoderSettings) -> list[EncoderModel]:
    """Load the models that `settings.model` names, in its order. Blocks for seconds.

    Raises ``PreconditionFailed`` where a model that is named cannot be served; `auto` always finds something.
    """
    names = split_names(settings.model, FORMS)
    models = [_auto(settings) if name == "auto" else load_model(name, settings) for name in names]
    for model in models:
        facts = model.facts
        _log.info("serving %s: %s, %s, default space %s", facts.name, facts.kind, facts.precision, facts.spaces[0].id)
    return models


def load_model(name: str, settings: EncoderSettings, *, allow_download: bool | None = None) -> EncoderModel:
    """Load one model by its name; `allow_download` of None means what the settings say.

    Raises ``PreconditionFailed`` for a model that cannot be served.
    """
    source = parse_source(name)
    if source.form is Form.MOCK:
        _log.warning("%s answers with vectors derived from digests: for developing callers, useless for search", name)
        return MockModel(name)
    if missing := missing_packages(*_NEEDED):
        raise model_error(f"{name} needs {missing}: install lensmesh[encoder], or use mock.")
    return _open_clip(source, settings, settings.allow_download if allow_download is None else allow_download)


def _open_clip(source: Source, settings: EncoderSettings, allow_download: bool) -> EncoderModel:
    # Imported here: torch takes seconds and half a gigabyte, which the mock does without.
    from encoder_svc.models.openclip_load import load

    compute = settings.compute_options
    return load(source, compute, calibration_dir=settings.calibration_dir, allow_download=allow_download)


def _auto(settings: EncoderSettings) -> EncoderModel:
    """Load what `auto` means on this machine, and log which model that is and why.

    It is the real model where all that it needs is here, else the bundled pack, else the mock.
    """
    if missing := missing_packages(*_NEEDED):
        _log.warning("model auto: mock, because %s is not installed; install lensmesh[encoder]", missing)
        return load_model("mock", settings)
    try:
        model = load_model(settings.real_model, settings, allow_download=False)
    except PreconditionFailed as error:
        why = error.message
    else:
        _log.info("model auto: %s, because torch and its weights are here", settings.real_model)
        return model
    if Path(lensmesh_shapes.CLIP_DIR).is_dir():
        _log.warning(
            "model auto: shapes, the bundled demonstration model, which knows drawn scenes only, because: %s "
            "Set LENSMESH_ENCODER_MODEL=%s to fetch and serve the real one",
            why,
            settings.real_model,
        )
        return load_model("shapes", settings)
    _log.warning("model auto: mock, because the bundled pack is not installed and: %s", why)
    return load_model("mock", settings)
