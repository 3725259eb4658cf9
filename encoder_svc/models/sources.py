"""Names of models, as people configure them, and where their weights lie on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from encoder_svc.models.mock import DIMENSIONS
from lensmesh_inference.models import model_error

FORMS: Final = (
    "auto, shapes, mock, mock-768, ARCH/TAG such as ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/NAME, local-dir:/PATH, "
    "ARCH@/PATH/TO/CHECKPOINT or ARCH/random"
)


class Form(Enum):
    """The forms that a model's name can have."""

    MOCK = auto()
    SHAPES = auto()
    FOLDER = auto()
    HUB = auto()
    TAG = auto()
    CHECKPOINT = auto()
    RANDOM = auto()


@dataclass(frozen=True)
class Source:
    """The parts of one model's name. `where` is a tag, a repository or a path, as `form` says."""

    name: str
    form: Form
    architecture: str = ""
    where: str = ""


def parse_source(name: str) -> Source:
    """Take a model's name apart.

    Raises ``PreconditionFailed`` for a name that could only mean random weights, or that means nothing.
    """
    if name in DIMENSIONS:
        return Source(name, Form.MOCK)
    if name == "shapes":
        return Source(name, Form.SHAPES)
    if name.startswith("local-dir:") and len(name) > len("local-dir:"):
        return Source(name, Form.FOLDER, where=name.removeprefix("local-dir:"))
    if name.startswith("hf-hub:") and len(name) > len("hf-hub:"):
        return Source(name, Form.HUB, where=name.removeprefix("hf-hub:"))
    architecture, at, path = name.partition("@")
    if at and architecture and path:
        return Source(name, Form.CHECKPOINT, architecture, path)
    architecture, _, tag = name.rpartition("/")
    if architecture and tag == "random":
        return Source(name, Form.RANDOM, architecture)
    if architecture and tag and not at:
        return Source(name, Form.TAG, architecture, tag)
    raise model_error(
        f"{name!r} names no weights, and a model without weights answers noise: use one of {FORMS}."
        if name
        else f"A model's name is empty: use one of {FORMS}."
    )


def cached_on_hub(repository: str, *filenames: str) -> Path | None:
    """Return the first of a hub repository's files that this machine's cache holds, or None. Asks no network."""
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        found = try_to_load_from_cache(repository, filename)
        if isinstance(found, str):
            return Path(found)
    return None
