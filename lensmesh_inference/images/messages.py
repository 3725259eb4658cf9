"""The messages between a service and its decoding processes.

They are pickled; images and pixels follow as raw bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from lensmesh_chassis.errors import InvalidInput, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import LocalFeatures
from lensmesh_inference.images.perceptual import PerceptualHash
from lensmesh_inference.images.thumbnail import Thumbnail
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency

READY = b"ready"
# The process has the image, and begins with it.
BEGUN = b"begun"


@dataclass(frozen=True)
class DecodeRequest:
    """A request: what to make of the image that follows, and what it may cost.

    Without a `transform`, the whole image is decoded and returned. `hashed` asks for the perceptual hash too, and
    `featured` for local features, and `thumbnail_px` for a thumbnail whose longer side has so many pixels; 0: for none.
    A limit of 0 means none. `memory_bytes` come on top of what the process has before it begins; `cpu_s` are seconds on
    a processor.
    """

    transform: Transform | None
    limits: ImageLimits
    field: str
    scaled: bool
    transparency: Transparency = Transparency.DROP
    hashed: bool = False
    featured: bool = False
    thumbnail_px: int = 0
    memory_bytes: int = 0
    cpu_s: float = 0


@dataclass(frozen=True)
class DecodeRefusal:
    """The content of an ``InvalidInput`` for one image. The exception itself does not survive pickling."""

    reason: Reason
    message: str
    violations: tuple[Violation, ...]
    metadata: dict[str, str]

    @classmethod
    def of(cls, error: InvalidInput) -> DecodeRefusal:
        """Take over the content of an error."""
        return cls(error.reason, error.message, tuple(error.violations), error.metadata)

    def error(self) -> InvalidInput:
        """Return the error as it was raised."""
        return InvalidInput(self.reason, self.message, violations=self.violations, metadata=self.metadata)

    def error_of(self, field: str) -> InvalidInput:
        """Return the error for the same image at another place, `field`, of another call."""
        message = self.message
        for violation in self.violations:
            message = message.replace(violation.field, field, 1)
        return InvalidInput(self.reason, message, field=field, metadata=self.metadata)


@dataclass(frozen=True)
class DecodeAnswer:
    """An answer: pixels follow, or the image was refused, or `bug` is the traceback of an unexpected error.

    `shape` is that of the pixels: (3, height, width) of a prepared image, (height, width, 3) of a whole one.
    `low_content`, `fully_transparent`, `perceptual_hash`, `local_features` and `thumbnail` are as in `Prepared`.
    `overfilled`: the image needed more memory than it may take.
    """

    shape: tuple[int, int, int] = (0, 0, 0)
    refused: DecodeRefusal | None = None
    bug: str = ""
    overfilled: bool = False
    low_content: bool = False
    fully_transparent: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None
