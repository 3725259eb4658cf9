"""The result of a look at an encoded image, and the counter of its pieces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

Container: TypeAlias = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", ""]


class Structure(NamedTuple):
    """The result of a look at an encoded image.

    Sizes are 0 where the bytes do not tell them. The decoder then refuses the image, or knows the size better.
    """

    container: Container
    """The container that the first bytes announce; "" for none of these."""
    width: int = 0
    height: int = 0
    bytes_per_pixel: float = 4
    """Bytes that a pixel takes when it is decoded as it is stored."""
    working_bytes_per_pixel: float = 0
    """The bytes a pixel that the decoder needs besides, such as the coefficients of a progressive JPEG."""
    usual: bool = False
    """True where the number of pixels tells the time of decoding, and the decoder writes nothing to the log."""
    channels: int = 0
    """The colours of a pixel of a JPEG."""
    complete: bool | None = None
    """True where the scans of a JPEG bring all coefficients of its image. None: the look did not tell."""
    plain: bool = False
    """True where width, height and channels are all there is to know before decoding: a JPEG without EXIF, with one
    frame of 8 bits before its first scan, of one or three channels."""
    refused: str = ""
    """The name of a refused kind of image: its decoder would read it, and could not tell that it is cut."""
    pieces: Mapping[str, int] = MappingProxyType({})
    """The number of pieces of each kind."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


class TooComplexError(Exception):
    """The image is built of more pieces than an image needs."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what = what
        self.limit = limit


class Count:
    """A counter of pieces of one kind, with a limit."""

    def __init__(self, what: str, limit: int) -> None:
        self._what: Final = what
        self._limit: Final = limit
        self.number = 0

    def add(self, number: int = 1) -> None:
        """Count some more pieces. Raises ``TooComplexError`` above the limit."""
        self.number += number
        if self.number > self._limit:
            raise TooComplexError(self._what, self._limit)
