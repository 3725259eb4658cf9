"""Who decodes for the models of a process. Imports torch with the first picture that a real model is to see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image

from lensmesh_inference.devices import cpu_count
from lensmesh_inference.pictures.content import is_low_content
from lensmesh_inference.pictures.header import open_picture
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.messages import Asked
from lensmesh_inference.pictures.pillow import Decoded, decode_opened
from lensmesh_inference.pictures.transform import Transform
from lensmesh_inference.pictures.transparency import Transparency

if TYPE_CHECKING:
    import torch

    from lensmesh_inference.pictures.prepare import Prepared
    from lensmesh_inference.pictures.processes import DecodeProcesses

# A library's own way from an upright RGB picture to uint8 of shape (3, height, width), for what `Transform` cannot say.
LibraryTransform: TypeAlias = "Callable[[Image.Image], torch.Tensor]"
# Up to here threads keep all cores busy: decoding itself needs Python's lock for a twentieth of its time.
_CORES_FOR_THREADS: Final = 8
# Left to the event loop, the device's thread and what else runs beside a model.
_CORES_LEFT: Final = 4
# More than any device that is known needs.
_MOST_PROCESSES: Final = 32
# For texts, and for pictures that no process takes.
_MORE_THREADS: Final = 2


def choose_processes(requested: int, *, on_gpu: bool, cores: int | None = None) -> int:
    """How many processes decode: `requested`, or for -1 none up to 8 cores or for models on the CPU, which need the
    cores themselves, else one for each core but 4."""
    cores = cpu_count() if cores is None else cores
    if requested >= 0:
        return requested
    return min(cores - _CORES_LEFT, _MOST_PROCESSES) if on_gpu and cores > _CORES_FOR_THREADS else 0


class PictureDecoder:
    """Decodes what is within its limits. Its methods block and may be called from many threads at once."""

    def __init__(self, limits: ImageLimits, *, scaled: bool = True, processes: int = 0) -> None:
        """With `scaled`, large JPEG pictures are decoded at a part of their size; with `processes`, not in the caller's
        thread but in as many processes, which are started for the first picture."""
        self._limits = limits
        self._scaled = scaled
        self._helpers = _Helpers(processes)

    @property
    def threads(self) -> int:
        """How many threads keep it busy."""
        return self._helpers.count + _MORE_THREADS if self._helpers.count else cpu_count()

    @property
    def processes(self) -> int:
        """How many processes decode; 0: the caller's thread does."""
        return self._helpers.count

    @property
    def pids(self) -> list[int]:
        """Of its processes, those that have been started."""
        return self._helpers.pids

    def within(self, limits: ImageLimits) -> PictureDecoder:
        """The same, within other limits; not to be closed."""
        other = PictureDecoder(limits, scaled=self._scaled)
        other._helpers = self._helpers
        return other

    def prepare(
        self,
        content: bytes,
        transform: Transform | LibraryTransform,
        field: str = "image",
        *,
        transparency: Transparency = Transparency.DROP,
    ) -> Prepared:
        """One picture as a model takes it. Raises ``InvalidInput`` for a bad one, naming `field`."""
        if isinstance(transform, Transform) and self._helpers.count:
            asked = Asked(transform, self._limits, field, self._scaled, transparency)
            return self._helpers.get().prepare(content, asked)
        from lensmesh_inference.pictures.prepare import Prepared, prepare

        if isinstance(transform, Transform):
            return prepare(content, transform, self._limits, field, scaled=self._scaled, transparency=transparency)
        decoded = self.check(content, field, transparency=transparency)
        pixels = transform(decoded.image)
        return Prepared(pixels, is_low_content(pixels.numpy()), decoded.fully_transparent)

    def check(self, content: bytes, field: str = "image", *, transparency: Transparency = Transparency.DROP) -> Decoded:
        """The whole picture, decoded without torch. Raises ``InvalidInput`` naming `field`."""
        return decode_opened(open_picture(content, self._limits, field), content, field, transparency)

    def close(self) -> None:
        """End its processes. Nobody may be decoding any more."""
        self._helpers.close()


class _Helpers:
    """Processes that are started when they are first needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._starting = threading.Lock()
        self._processes: DecodeProcesses | None = None

    @property
    def pids(self) -> list[int]:
        return self._processes.pids if self._processes is not None else []

    def get(self) -> DecodeProcesses:
        with self._starting:
            if self._processes is None:
                from lensmesh_inference.pictures.processes import DecodeProcesses

                self._processes = DecodeProcesses(self.count)
            return self._processes

    def close(self) -> None:
        if self._processes is not None:
            self._processes.close()
