"""The outcome of each step of a smoke test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepGrade(StrEnum):
    """The way a step ended."""

    OK = "ok"
    FAIL = "fail"
    SKIP = "skip"
    """Not tried: what it needs failed before."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The outcome of one step."""

    step: str
    grade: StepGrade
    seconds: float
    found: str
    look: str = ""
    """Place to look, if it failed."""

    def as_json(self) -> dict[str, object]:
        """Return the outcome for programs."""
        return {
            "step": self.step,
            "grade": self.grade.value,
            "seconds": round(self.seconds, 3),
            "found": self.found,
            "look": self.look,
        }


class Broken(Exception):  # noqa: N818 - reads better where it is raised: the mesh is broken here
    """A step found something wrong. `look` says where to look; "" means the general advice for the step."""

    def __init__(self, found: str, look: str = "") -> None:
        super().__init__(found)
        self.found, self.look = found, look
