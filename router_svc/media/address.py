"""The address of a media store, as the setting `media_url` tells it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_HOW = "use a folder (/var/lib/lensmesh/media or file:///...) or s3://BUCKET/PREFIX"


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """A place for images. Exactly one of both is set."""

    folder: Path | None = None
    url: str = ""
    """Of an object store, "s3://bucket/prefix"."""

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else self.url


def parse_media_url(value: str) -> MediaAddress | None:
    """Return what the setting names; None where it is empty. Raises ``ValueError`` with what would do."""
    value = value.strip()
    if not value:
        return None
    parts = urlsplit(value)
    match parts.scheme:
        case "":
            return MediaAddress(Path(value))
        case "file":
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                raise ValueError(f"{value!r} names no folder of this machine: {_HOW}")
            return MediaAddress(Path(unquote(parts.path)))
        case "s3":
            if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
                raise ValueError(f"{value!r} names no bucket and prefix alone: {_HOW}; credentials are not part of it")
            return MediaAddress(url=value.rstrip("/"))
        case scheme:
            raise ValueError(f"{scheme}: is no kind of media store here: {_HOW}")
