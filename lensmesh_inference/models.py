"""The facts that every model service tells of a model. Knows no torch, no gRPC and no protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason


class ModelKind(StrEnum):
    """The purpose of a model."""

    LOCAL = "local"
    DEMONSTRATION = "demonstration"
    MOCK = "mock"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The facts that do not change while a model is served.

    `weights_digest` is the hexadecimal SHA-256 of the tensors as loaded. `parity_cosine` is the lowest cosine between
    its answers and those of the library that it comes from, in float32, measured at start; None where there is no
    reference.
    """

    name: str
    weights_digest: str
    kind: ModelKind
    backend: str
    precision: str
    requested_device: str
    parity_cosine: float | None = None


def model_error(message: str) -> PreconditionFailed:
    """Return the error for a model that cannot be served as it is configured."""
    return PreconditionFailed(Reason.OPTION_INVALID, message, field="model")


def split_names(model: str, forms: str) -> list[str]:
    """Return the comma-separated names of the setting `model`, in order. `forms` tells what a name may be.

    Raises ``PreconditionFailed`` for an empty list and for a name that is there twice.
    """
    names = [name.strip() for name in model.split(",") if name.strip()]
    if not names:
        raise model_error(f"No model is configured: use one of {forms}.")
    for name in names:
        if names.count(name) > 1:
            raise model_error(f"{name!r} is configured twice: leave one out.")
    return names


def missing_packages(*packages: str) -> str:
    """Return those that are not installed, as "torch and open_clip"; "" if all are."""
    return " and ".join(package for package in packages if find_spec(package) is None)
