"""TIFF files: the right page of several is chosen, and opened so that its pixels are what the file says.

Pillow decodes samples of up to eight unsigned bits. All others are read and scaled to bytes here. Camera raw files,
which are built as TIFF files, and layouts that nobody here reads are refused by name.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images import tiff_pages as tags
from lensmesh_inference.images import tones
from lensmesh_inference.images.damage import cut, damaged, unsupported
from lensmesh_inference.images.orientation import TURNS, is_sideways
from lensmesh_inference.images.tiff_damage import check_segments
from lensmesh_inference.images.tiff_directories import MAGIC
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, camera_raw, choose_page, single_page
from lensmesh_inference.images.tiff_samples import MOST_SEGMENT_BYTES, SampleReader

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_MOST_SHORT: Final = 0xFFFF
_MODES: Final[Mapping[int, tuple[str, int]]] = {
    _WHITE_IS_ZERO: ("L", 1),
    _BLACK_IS_ZERO: ("L", 1),
    _RGB: ("RGB", 3),
    _INKS: ("CMYK", 4),
}
# Extra samples: alpha that the colours were multiplied with, and alpha that they were not.
_ALPHA_MODES: Final[Mapping[tuple[str, int], str]] = {
    ("L", 1): "La",
    ("L", 2): "LA",
    ("RGB", 1): "RGBa",
    ("RGB", 2): "RGBA",
}
_PHOTOMETRICS: Final = {
    0: "grey, white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "inks",
    6: "YCbCr",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32844: "LogL",
    32845: "LogLuv",
}
_FORMATS: Final = {2: "signed", 3: "floating point", 5: "complex integer", 6: "complex"}
# None, fax (three kinds), LZW, JPEG (two kinds), Deflate (two numbers), PackBits: every libtiff has them.
_USUAL_CODINGS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32946, 32773})
_RARE_CODINGS: Final = {34925: "lzma", 50000: "zstd"}


def open_tiff(content: bytes, field: str) -> Image.Image:
    """Open the image of a TIFF file. Nothing is decoded yet. Raises ``InvalidInput`` naming `field`."""
    raw = camera_raw(content)
    if raw is not None:
        raise unsupported(f"a camera raw file ({raw})" if raw != "of a camera" else "a camera raw file", field)
    page = choose_page(content)
    if page is None or not page.first(tags.WIDTH, 0) or not page.first(tags.HEIGHT, 0):
        raise cut(content, field) if page is None else damaged(field, "it has no page with a size")
    reader = SampleReader(content, page)
    if not reader.is_complete() and page.first(tags.COMPRESSION, 1) != 6:
        raise damaged(field, "places of strips or tiles are missing")
    if max(page.bits) > 8 or page.first(tags.SAMPLE_FORMAT, 1) not in (1, 4):
        return DeepTiff(content, page, reader, field)
    if _is_misread(page, reader):
        raise unsupported(layout(page), field)
    try:
        return Image.open(io.BytesIO(single_page(content, _with_wide_colours(page))), formats=["TIFF"])
    except Exception as error:
        raise unsupported(layout(page), field) from error


def _is_misread(page: TiffPage, reader: SampleReader) -> bool:
    """Tell whether Pillow would misread this YCbCr image, taking its samples for three side by side."""
    if page.first(tags.PHOTOMETRIC, 0) != _YCBCR or page.first(tags.COMPRESSION, 1) != 1:
        return False
    whole = reader.width * reader.height * page.samples
    told = sum(page.numbers(tags.STRIP_BYTES) or page.numbers(tags.TILE_BYTES))
    # Without the tag each colour stands for four pixels, though some writers leave it out where each stands for one.
    shared = page.numbers(tags.SUBSAMPLING)[:2] != (1, 1) if tags.SUBSAMPLING in page else 0 < told < whole
    return shared or page.first(tags.PLANAR, 1) == 2


def _with_wide_colours(page: TiffPage) -> TiffPage:
    """Return the page with palette colours of 16 bits. Some writers put 8 bits there, and the image would be black."""
    colours = page.numbers(tags.COLOUR_MAP)
    if page.first(tags.PHOTOMETRIC, 0) != _PALETTE or not 0 < max(colours, default=0) < 256:
        return page
    return TiffPage(page | {tags.COLOUR_MAP: Tag(page[tags.COLOUR_MAP].kind, tuple(257 * value for value in colours))})


def rare_coding(content: bytes) -> str | None:
    """Name the layout of a TIFF whose coding this libtiff may not know. Return None for a coding that it knows."""
    page = choose_page(content) if content.startswith(MAGIC) else None
    return None if page is None or page.first(tags.COMPRESSION, 1) in _USUAL_CODINGS | _built_in() else layout(page)


def check_tiff(content: bytes, field: str) -> None:
    """Raise ``InvalidInput`` for a TIFF of which strips or tiles are not all there."""
    page = choose_page(content)
    if page is not None:
        check_segments(content, page, SampleReader(content, page), page.samples, field)


@cache
def _built_in() -> frozenset[int]:
    """Return the codings that not every libtiff knows, and this one does."""
    known = set()
    for number, name in _RARE_CODINGS.items():
        try:
            Image.new("L", (8, 8)).save(io.BytesIO(), "TIFF", compression=name)
        except Exception:  # noqa: BLE001 - Pillow raises what its encoder stumbles over
            continue
        known.add(number)
    return frozenset(known)


def layout(page: TiffPage) -> str:
    """Describe a page's layout in words."""
    depths = " and ".join(sorted({str(bits) for bits in page.bits}))
    number = page.first(tags.SAMPLE_FORMAT, 1)
    colours = page.first(tags.PHOTOMETRIC, 0)
    kind = f", {_FORMATS[number]}" if number in _FORMATS else ""
    return (
        f"a TIFF with {page.samples} samples of {depths} bits "
        f"({_PHOTOMETRICS.get(colours, f'photometric {colours}')}{kind}, compression {page.first(tags.COMPRESSION, 1)})"
    )


class DeepTiff(Image.Image):
    """A TIFF image whose samples are read and scaled to bytes when it is loaded."""

    format = "TIFF"

    def __init__(self, content: bytes, page: TiffPage, reader: SampleReader, field: str) -> None:
        """Read the layout of the page. Raises ``InvalidInput`` for one that is not supported."""
        super().__init__()
        self._content, self._page, self._reader, self._field = content, page, reader, field
        self._photometric = page.first(tags.PHOTOMETRIC, _WHITE_IS_ZERO)
        mode, self._colours = _MODES.get(self._photometric, ("", 0))
        if not mode or reader.problem() or reader.channels < self._colours:
            raise unsupported(layout(page), field)
        if reader.segment_bytes() > MOST_SEGMENT_BYTES:
            raise InvalidInput(
                Reason.IMAGE_TOO_COSTLY,
                f"{field} is a TIFF with {reader.segment_bytes()} bytes in one strip or tile, the limit is "
                f"{MOST_SEGMENT_BYTES}: save it in more strips, or with 8 bits a sample.",
                field=field,
                metadata={"bytes": reader.segment_bytes(), "limit": MOST_SEGMENT_BYTES},
            )
        extra = page.numbers(tags.EXTRA_SAMPLES)
        alpha = _ALPHA_MODES.get((mode, extra[0])) if extra and reader.channels > self._colours else None
        self._mode, self._kept = (alpha, self._colours + 1) if alpha else (mode, self._colours)
        self._turn = page.first(tags.ORIENTATION, 1)
        size = (reader.width, reader.height)
        self._size = size[::-1] if is_sideways(self._turn) else size

    def load(self) -> Any:
        """Read all samples. The object is a plain image from then on."""
        check_segments(self._content, self._page, self._reader, self._kept, self._field)
        try:
            image = self._read()
        except (EOFError, struct.error) as error:
            raise cut(self._content, self._field) from error
        image = image if self._turn not in TURNS else image.transpose(TURNS[self._turn])
        self.__class__ = Image.Image  # type: ignore[assignment]  # as Pillow does with stubs
        self.__dict__ = image.__dict__
        return image.load()

    def _read(self) -> Image.Image:
        reader = self._reader
        own = tones.by_kind(reader.dtype, reader.bits)
        colours = self._declared(own) or self._told_by_samples(own)
        # Alpha reaches from 0 to all bits set, or to 1.
        alpha = own or tones.Range(0, 1 if reader.kind == "f" else np.iinfo(reader.dtype).max)
        pixels = np.zeros((reader.height, reader.width, self._kept), np.uint8)
        for part in reader.parts(self._kept):
            for number in range(min(part.samples.shape[2], self._kept - part.channel)):
                channel = part.channel + number
                levels = self._levels(part.samples[..., number], colours if channel < self._colours else alpha, channel)
                rows, columns = levels.shape
                pixels[part.top : part.top + rows, part.left : part.left + columns, channel] = levels
        size = (reader.width, reader.height)
        return Image.frombuffer(self._mode, size, pixels, "raw", self._mode, 0, 1)

    def _levels(self, samples: tones.Samples, range_: tones.Range, channel: int) -> npt.NDArray[np.uint8]:
        if self._colours > 1 and self._reader.bits == 16 and samples.dtype.kind == "u" and range_.high == 0xFFFF:
            # As Pillow does with colours of 16 bits, in PNG files too.
            return (samples >> 8).astype(np.uint8)
        levels = tones.to_bytes(samples, range_)
        return 255 - levels if self._photometric == _WHITE_IS_ZERO and channel < self._colours else levels

    def _declared(self, own: tones.Range | None) -> tones.Range | None:
        """Return the range that tags give to the samples. None: they give none."""
        low, high = (_number(self._page, tag) for tag in (tags.LEAST_SAMPLE, tags.MOST_SAMPLE))
        if own is None or own.high > _MOST_SHORT:
            return tones.Range(low or 0.0, high) if high is not None and high > (low or 0.0) else None
        # Of unsigned integers, fewer bits than they are stored in: 10, 12 or 14 of a camera.
        most = high if high is not None else _number(self._page, tags.MAX_SAMPLE)
        return tones.Range(0, most) if most in (1023, 4095, 16383) and most < own.high else None

    def _told_by_samples(self, own: tones.Range | None) -> tones.Range:
        if own is None:
            return tones.by_percentiles(self._some())
        # Where white is zero, an image of small numbers is bright and not dark.
        return own if self._photometric in (_WHITE_IS_ZERO, _INKS) else tones.narrowed(own, self._some())

    def _some(self) -> tones.Samples:
        """Return about a million samples of the colours, from all over the image.

        Those that stand for no data are left out.
        """
        reader = self._reader
        step = max(1, int((reader.width * reader.height * self._colours / tones.SAMPLED) ** 0.5))
        found = [
            part.samples[::step, ::step, : max(0, self._colours - part.channel)].reshape(-1)
            for part in reader.parts(self._colours)
        ]
        some = np.concatenate(found)
        nothing = _number(self._page, tags.NO_DATA)
        kept = some if nothing is None else some[some != np.asarray(nothing).astype(some.dtype)]
        return kept if kept.size else some


def _number(page: TiffPage, tag: int) -> float | None:
    """Return the first value of a tag that holds numbers, or a number as text. None: it is no number."""
    value = page[tag].values[0] if tag in page else None
    try:
        number = float(value.rstrip(b"\0 ") if isinstance(value, bytes) else value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
