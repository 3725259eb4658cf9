"""What a smoke test found: one outcome for each step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepGrade(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAIL = "fail"
    SKIP = "skip"
    """Not tried: what it needs failed before."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """One step."""

    step: str
    grade: StepGrade
    seconds: float
    found: str
    look: str = ""
    """Where to look, if it failed."""

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "step": self.step,
            "grade": self.grade.value,
            "seconds": round(self.seconds, 3),
            "found": self.found,
            "look": self.look,
        }


class Broken(Exception):  # noqa: N818 - reads better where it is raised: the mesh is broken here
    """A step that found something wrong. `look` says where to look, "" for what is said of the step in general."""

    def __init__(self, found: str, look: str = "") -> None:
        super().__init__(found)
        self.found, self.look = found, look
