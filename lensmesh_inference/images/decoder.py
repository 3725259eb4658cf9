"""The decoder of all models of a process. torch is imported with the first image that a real model receives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image

from lensmesh_inference.devices import cpu_count
from lensmesh_inference.images.budget import DecodeBudget
from lensmesh_inference.images.care import CarefulDecoding, NeedsCareError
from lensmesh_inference.images.content import is_low_content
from lensmesh_inference.images.counts import DecodeCounts
from lensmesh_inference.images.header import open_image
from lensmesh_inference.images.jpeg import part_of
from lensmesh_inference.images.limits import DecodeCosts, ImageLimits
from lensmesh_inference.images.local_features import jpeg_part as features_part
from lensmesh_inference.images.local_features import opencv
from lensmesh_inference.images.messages import DecodeRequest
from lensmesh_inference.images.perceptual import jpeg_part as hash_part
from lensmesh_inference.images.pieces import Structure
from lensmesh_inference.images.pillow import Decoded, decode_opened
from lensmesh_inference.images.processes import DecodeProcesses
from lensmesh_inference.images.quiet import quiet_pillow
from lensmesh_inference.images.raster import cost_by_pillow, cost_of_jpeg
from lensmesh_inference.images.structure import look
from lensmesh_inference.images.suspects import Suspects, state_folder
from lensmesh_inference.images.thumbnail import jpeg_part as thumbnail_part
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency

if TYPE_CHECKING:
    import torch

    from lensmesh_inference.images.prepare import Prepared

# A library's own way from an upright RGB image to uint8 of shape (3, height, width), for what `Transform` cannot say.
LibraryTransform: TypeAlias = "Callable[[Image.Image], torch.Tensor]"
# Up to here threads keep all cores busy: decoding itself needs Python's lock for a twentieth of its time.
_CORES_FOR_THREADS: Final = 8
# Left to the event loop, the device's thread and what else runs beside a model.
_CORES_LEFT: Final = 4
# More than any device that is known needs.
_MOST_PROCESSES: Final = 32
# For texts, and for images that no process takes.
_MORE_THREADS: Final = 2


def choose_processes(requested: int, *, on_gpu: bool, cores: int | None = None) -> int:
    """Return how many processes shall decode: `requested`, or for -1 a number that fits the machine.

    That is 0 up to 8 cores, and 0 for models on the CPU, which need the cores themselves; else all cores but 4.
    """
    cores = cpu_count() if cores is None else cores
    if requested >= 0:
        return requested
    return min(cores - _CORES_LEFT, _MOST_PROCESSES) if on_gpu and cores > _CORES_FOR_THREADS else 0


class ImageDecoder:
    """A decoder of images within limits. Its methods block, and many threads may call them at once.

    An image whose structure proves it cheap is decoded in the calling thread. Decoded with care (`care.py`) are all
    other images, those that need much memory, and those that were being decoded when a process ended.
    """

    def __init__(
        self, limits: ImageLimits, *, scaled: bool = True, processes: int = 0, costs: DecodeCosts | None = None
    ) -> None:
        """Choose how images are decoded.

        With `scaled`, large JPEG images are decoded at a part of their size. With `processes`, cheap images are decoded
        not in the calling thread but in so many processes, which are started for the first images.
        """
        quiet_pillow()
        self._limits = limits
        self._scaled = scaled
        self._means = _Means(processes, costs or DecodeCosts())

    @property
    def threads(self) -> int:
        """The number of threads that keep the decoder busy."""
        return self.processes + _MORE_THREADS if self.processes else cpu_count()

    @property
    def careful_threads(self) -> int:
        """The number of threads that keep careful decoding busy."""
        return self._means.careful.threads

    @property
    def processes(self) -> int:
        """The number of processes that decode cheap images; 0: the calling thread decodes them."""
        return self._means.quick.count

    @property
    def pids(self) -> list[int]:
        """The ids of those of its processes that have been started."""
        return self._means.quick.pids + self._means.careful.pids

    @property
    def counts(self) -> DecodeCounts:
        """The counts of what its processes have refused and dropped."""
        return self._means.counts

    def within(self, limits: ImageLimits) -> ImageDecoder:
        """Return this decoder with other limits. Close only the original."""
        other = ImageDecoder.__new__(ImageDecoder)
        other._limits, other._scaled, other._means = limits, self._scaled, self._means
        return other

    def prepare(
        self,
        content: bytes,
        transform: Transform | LibraryTransform,
        field: str = "image",
        *,
        transparency: Transparency = Transparency.DROP,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
    ) -> Prepared:
        """Prepare one image as a model takes it.

        `hashed` asks for its perceptual hash too, `featured` for its local features, and `thumbnail_px` for a thumbnail
        with such a longer side.

        Raises ``InvalidInput`` for a bad image, naming `field`. Raises ``NeedsCareError`` where the image needs care
        and the calling thread is a quick one, and ``PreconditionFailed`` for features where OpenCV cannot be imported.
        """
        from lensmesh_inference.images.prepare import Prepared, as_prepared, prepare

        if not isinstance(transform, Transform):
            decoded = self.check(
                content,
                field,
                transparency=transparency,
                hashed=hashed,
                featured=featured,
                thumbnail_px=thumbnail_px,
            )
            pixels = transform(decoded.image)
            flat = is_low_content(pixels.numpy())
            return Prepared(
                pixels,
                flat,
                decoded.fully_transparent,
                decoded.perceptual_hash,
                decoded.local_features,
                decoded.thumbnail,
            )
        if featured:
            # Here too where a process decodes: what cannot be imported is said to the caller.
            opencv()
        structure = self._look(content, field)
        means = self._means
        asked = DecodeRequest(
            transform, self._limits, field, self._scaled, transparency, hashed, featured, thumbnail_px
        )
        with suppress(NeedsCareError):
            if self._is_quick(content, structure):
                if self.processes:
                    cost = self._cost(structure, transform, hashed=hashed, featured=featured, thumbnail_px=thumbnail_px)
                    with means.room(field)(cost):
                        return as_prepared(*means.quick.decode(content, asked, memory_bytes=means.careful.total_bytes))
                with means.suspects.decoding(content):
                    return prepare(
                        content,
                        transform,
                        self._limits,
                        field,
                        structure=structure,
                        room=means.room(field),
                        scaled=self._scaled,
                        transparency=transparency,
                        hashed=hashed,
                        featured=featured,
                        thumbnail_px=thumbnail_px,
                    )
        return as_prepared(*means.careful.decode(content, asked, structure))

    def check(
        self,
        content: bytes,
        field: str = "image",
        *,
        transparency: Transparency = Transparency.DROP,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
    ) -> Decoded:
        """Decode the whole image, without torch. Raises the same errors as `prepare`."""
        if featured:
            opencv()
        structure = self._look(content, field)
        with suppress(NeedsCareError):
            if self._is_quick(content, structure):
                # Headers too are read by Pillow's plugins.
                with self._means.suspects.decoding(content):
                    pil_image = open_image(content, self._limits, field)
                    cost = cost_by_pillow(structure, pil_image.width * pil_image.height)
                    with self._means.room(field)(cost):
                        return decode_opened(
                            pil_image,
                            content,
                            field,
                            transparency,
                            hashed=hashed,
                            featured=featured,
                            thumbnail_px=thumbnail_px,
                        )
        asked = DecodeRequest(None, self._limits, field, self._scaled, transparency, hashed, featured, thumbnail_px)
        answer, pixels = self._means.careful.decode(content, asked, structure)
        return Decoded(
            Image.fromarray(pixels),
            answer.fully_transparent,
            answer.perceptual_hash,
            answer.local_features,
            answer.thumbnail,
        )

    def give_up(self) -> None:
        """End careful decoding in the middle of its images."""
        self._means.careful.give_up()

    def close(self) -> None:
        """End the decoder's processes. Call it when no thread decodes any more."""
        self._means.quick.close()
        self._means.careful.close()
        self._means.suspects.close()

    def _look(self, content: bytes, field: str) -> Structure:
        # What is too large is refused for that.
        return look(content, field) if len(content) <= self._limits.max_bytes else Structure("")

    def _cost(
        self, structure: Structure, transform: Transform, *, hashed: bool, featured: bool, thumbnail_px: int
    ) -> int:
        if structure.container != "JPEG":
            return cost_by_pillow(structure, structure.pixels)
        height, width = max(1, structure.height), max(1, structure.width)
        part = part_of(height, width, transform.resized(height, width)) if self._scaled else 1
        part = min(part, hash_part(height, width)) if hashed else part
        part = min(part, features_part(height, width)) if featured else part
        part = min(part, thumbnail_part(height, width, thumbnail_px)) if thumbnail_px else part
        return cost_of_jpeg(structure, structure.pixels, part)

    def _is_quick(self, content: bytes, structure: Structure) -> bool:
        # What has no known beginning is decoded by nobody, and told so at once.
        return (structure.usual or not structure.container) and content not in self._means.suspects


class _Means:
    """The processes, budget and counts that a decoder shares with its copies of other limits."""

    def __init__(self, processes: int, costs: DecodeCosts) -> None:
        self.counts = DecodeCounts()
        self.quick = DecodeProcesses(processes, "torch", cpu_s=costs.cpu_s, counts=self.counts)
        self.budget = DecodeBudget(costs.memory_bytes // 3)
        self.careful = CarefulDecoding(costs.memory_bytes - self.budget.total_bytes, costs.cpu_s, self.counts)
        self.suspects = Suspects(state_folder(costs.state_dir))

    def room(self, field: str) -> Callable[[int], AbstractContextManager[None]]:
        """Return a function that holds room in the budget of cheap images."""
        return lambda size_bytes: self.budget.hold(self.within_each(size_bytes), field)

    def within_each(self, size_bytes: int) -> int:
        """Return `size_bytes` if one cheap image may take as much. Raises ``NeedsCareError`` if not."""
        if size_bytes > self.budget.total_bytes // 2:
            raise NeedsCareError
        return size_bytes
