"""What a service and its decoding processes say to each other, pickled; pictures and pixels follow as they are."""

from __future__ import annotations

from dataclasses import dataclass

from lensmesh_chassis.errors import InvalidInput, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.transform import Transform
from lensmesh_inference.pictures.transparency import Transparency

READY = b"ready"


@dataclass(frozen=True)
class Asked:
    """What is to be made of the picture that follows."""

    transform: Transform
    limits: ImageLimits
    field: str
    scaled: bool
    transparency: Transparency = Transparency.DROP


@dataclass(frozen=True)
class Refused:
    """An ``InvalidInput``, which does not survive pickling."""

    reason: Reason
    message: str
    violations: tuple[Violation, ...]
    metadata: dict[str, str]

    @classmethod
    def of(cls, error: InvalidInput) -> Refused:
        """As it was raised."""
        return cls(error.reason, error.message, tuple(error.violations), error.metadata)

    def error(self) -> InvalidInput:
        """As it was raised, once more."""
        return InvalidInput(self.reason, self.message, violations=self.violations, metadata=self.metadata)


@dataclass(frozen=True)
class Answer:
    """Pixels follow, or the picture was refused, or `bug` is the trace of an error that nobody expected.

    `low_content` and `fully_transparent` are as in `Prepared`.
    """

    refused: Refused | None = None
    bug: str = ""
    low_content: bool = False
    fully_transparent: bool = False
