"""A look at how an encoded image is built, from its bytes alone, before any decoder sees them.

Pieces (segments, chunks, blocks, tags) are counted and never read. Counting ends at a limit, so that a look takes
milliseconds whatever a stranger sends. An image built of more pieces than any encoder makes is refused. An unusual one
is marked by `Structure.usual`, so that it is decoded with care.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images import chunks, jpeg_segments, tiff_directories
from lensmesh_inference.images.damage import unsupported
from lensmesh_inference.images.pieces import Structure, TooComplexError

_WALKERS: Final[tuple[tuple[tuple[bytes, ...], Callable[[bytes], Structure]], ...]] = (
    ((b"\xff\xd8",), jpeg_segments.walk),
    ((b"\x89PNG",), chunks.walk_png),
    ((b"RIFF",), chunks.walk_webp),
    ((b"GIF8",), chunks.walk_gif),
    ((b"BM",), chunks.walk_bmp),
    (tiff_directories.MAGIC, tiff_directories.walk),
)


def look(content: bytes, field: str = "image") -> Structure:
    """Find out how an image is built.

    A damaged or unknown file is no error here: its decoder tells what is wrong with it.

    Raises ``InvalidInput``: IMAGE_TOO_COMPLEX, naming `field`, the limit and the fix; or IMAGE_FORMAT_UNSUPPORTED,
    naming what the image is.
    """
    try:
        for magic, walk in _WALKERS:
            if content.startswith(magic):
                structure = walk(content)
                if structure.refused:
                    raise unsupported(structure.refused, field)
                return structure
    except TooComplexError as error:
        raise InvalidInput(
            Reason.IMAGE_TOO_COMPLEX,
            f"{field} is built of more than {error.limit} {error.what}, which no image needs: encode it again.",
            field=field,
            metadata={"limit": error.limit, "what": error.what},
        ) from error
    return Structure("")
