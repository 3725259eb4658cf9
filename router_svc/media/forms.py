"""The forms in which images are kept, and their names in a media store."""

from enum import StrEnum
from typing import Final

OCTETS: Final = "application/octet-stream"
WEBP: Final = "image/webp"
# What the first bytes of files of each kind are, and where they are.
_BEGINNINGS: Final = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (8, b"WEBP", WEBP),
    (0, b"GIF8", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
)


class KeptForm(StrEnum):
    """A form of an image."""

    THUMBNAIL = "thumbnail"
    """Made small, as WebP."""
    ORIGINAL = "original"
    """The file as it came."""

    def key(self, digest: bytes) -> str:
        """Return the name of the image of this content digest: of equal files there is one.

        The first two digits make a folder: a file system or a bucket then has 256 of them, and none with all files.
        """
        name = digest.hex()
        if self is KeptForm.THUMBNAIL:
            return f"thumbnails/{name[:2]}/{name}.webp"
        return f"originals/{name[:2]}/{name}"


def media_type_of(content: bytes) -> str:
    """Return the media type that an image file's first bytes tell."""
    return next((kind for place, mark, kind in _BEGINNINGS if content[place : place + len(mark)] == mark), OCTETS)
