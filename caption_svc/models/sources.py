"""The choice and loading of the models that the settings name. Torch is imported only for a model that needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from caption_svc.model import CaptionModel
from caption_svc.models.families import loader_of
from caption_svc.models.mock import MockCaptioner
from caption_svc.models.weights import cached_folder, fetch_folder, has_weights
from lensmesh_chassis.errors import NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.models import ModelKind, missing_packages, model_error, split_names
from lensmesh_inference.options import ComputeOptions
from lensmesh_shapes import CAPTIONER_DIR

_FORMS = "auto, shapes, mock, ORG/NAME of a BLIP captioner on the hub, local-dir:/PATH or a path"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_NEEDED = ("torch", "transformers")


@dataclass(frozen=True)
class ModelChoice:
    """A model to load.

    `folder` is None for a mock, and for weights that are yet to be found or fetched. `why` is for the log.
    """

    name: str
    kind: ModelKind
    folder: Path | None = None
    why: str = "configured"


def choose_models(names: str, real_model: str) -> list[ModelChoice]:
    """Take the comma-separated names of the setting apart. "auto" becomes the best model that this machine has.

    Raises ``PreconditionFailed`` for an empty list, a name that means nothing, or one that is there twice.
    """
    choices = [_choose(name, real_model) for name in split_names(names, _FORMS)]
    # "auto" may have become what is named beside it.
    split_names(",".join(choice.name for choice in choices), _FORMS)
    return choices


def load_model(choice: ModelChoice, compute: ComputeOptions, *, allow_download: bool) -> CaptionModel:
    """Load one model. Blocks for seconds, so it is not to be called on the event loop.

    Raises a ``LensmeshError`` that says what to do.
    """
    if choice.kind is ModelKind.MOCK:
        return MockCaptioner(choice.name)
    if missing := missing_packages(*_NEEDED):
        raise model_error(f"{choice.name!r} needs {missing}: install lensmesh[caption], or set the model to mock.")
    folder = choice.folder or cached_folder(choice.name)
    if folder is None:
        if not allow_download:
            raise NotFound(
                Reason.MODEL_NOT_SERVED,
                f"The weights of {choice.name!r} are not in the hub cache, and allow_download is off: run `hf download "
                f"{choice.name}`, or set the model to a folder or to shapes.",
            )
        folder = fetch_folder(choice.name)
    return loader_of(folder)(folder, name=choice.name, kind=choice.kind, compute=compute)


def _choose(name: str, real_model: str) -> ModelChoice:
    if name == "auto":
        return _best(real_model)
    if name == "mock":
        return ModelChoice(name, ModelKind.MOCK)
    if name == "shapes":
        return ModelChoice(name, ModelKind.DEMONSTRATION, CAPTIONER_DIR)
    folder = _folder(name)
    if folder is not None:
        if not folder.is_dir():
            raise model_error(f"{name!r} is no folder: give one with config.json and weights of a BLIP captioner.")
        return ModelChoice(name, ModelKind.LOCAL, folder)
    if not _HUB_NAME.fullmatch(name):
        raise model_error(f"{name!r} names no model: use one of {_FORMS}.")
    return ModelChoice(name, ModelKind.LOCAL)


def _folder(name: str) -> Path | None:
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:")).expanduser()
    return Path(name).expanduser() if name.startswith(("/", "./", "../", "~")) else None


def _best(real_model: str) -> ModelChoice:
    """Choose what "auto" means on this machine: the real model, else shapes, else mock.

    `why` of the choice says why it is not the one before.
    """
    missing = missing_packages(*_NEEDED)
    if missing:
        return ModelChoice(
            "mock",
            ModelKind.MOCK,
            why=f"auto: {missing} not installed, so no model can run (lensmesh[caption] has them)",
        )
    folder = _folder(real_model) or cached_folder(real_model)
    if folder is not None and has_weights(folder):
        return ModelChoice(real_model, ModelKind.LOCAL, folder, why=f"auto: its weights are in {folder}")
    why = f"auto: no weights of {real_model} on this machine (`hf download {real_model}` fetches them)"
    if has_weights(CAPTIONER_DIR):
        return ModelChoice("shapes", ModelKind.DEMONSTRATION, CAPTIONER_DIR, why=why)
    return ModelChoice("mock", ModelKind.MOCK, why=f"{why}, and the shapes pack is missing too")
