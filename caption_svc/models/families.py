"""The families of captioners that are served. A new one is a module with a `load` like `load_blip`, and a line here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_chassis.errors import NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    from caption_svc.model import CaptionModel

FAMILIES = {"blip": ("caption_svc.models.blip", "load_blip")}
"""`model_type` of a model's config.json -> the module and the function that load it. Imported when it is used: the mock
has to start without torch."""


def loader_of(folder: Path) -> Callable[..., CaptionModel]:
    """Return the function that loads the model in a folder. It takes the folder, `name`, `kind` and `compute`.

    Raises ``NotFound`` without a config.json that can be read, and ``PreconditionFailed`` for a model of another type.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise NotFound(
            Reason.MODEL_NOT_SERVED, f"{folder} is no model folder: its config.json cannot be read ({error})."
        ) from error
    told = config.get("model_type") if isinstance(config, dict) else None
    if told not in FAMILIES:
        raise PreconditionFailed(
            Reason.MODEL_NOT_SERVED,
            f"{folder} holds a model of type {told!r}: captioners of these types are served: {', '.join(FAMILIES)}.",
        )
    module, function = FAMILIES[told]
    load: Callable[..., CaptionModel] = getattr(importlib.import_module(module), function)
    return load
