"""The code that is measured: this checkout's, and with --against another one's beside it in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.stage import Stage

BEFORE = "before_"


@dataclass(frozen=True, slots=True)
class Side:
    """A checkout. `prefix` begins the names of its figures and processes, `environment` makes processes use it."""

    prefix: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def sides(stage: Stage) -> Sequence[Side]:
    """Return the checkouts that are measured, this one first."""
    other = stage.options.against
    return (Side(), Side(BEFORE, {"PYTHONPATH": f"{other}:{other}/gen"})) if other else (Side(),)


def before(key: str) -> str:
    """Return the name of the other checkout's figure: "calls/info" has "calls/before_info"."""
    group, _, name = key.partition("/")
    return f"{group}/{BEFORE}{name}"
