"""The address of a Qdrant, read from a store URL."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

# How a collection's vectors are kept small; here, since settings must not import the client.
Quantization: TypeAlias = Literal["none", "int8", "binary"]
DEFAULT_PORT = 6334
DEFAULT_PREFIX = "lensmesh"
_PREFIX_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MAX_PREFIX = 63
SERVER_FORM = "qdrant://[:API_KEY@]HOST[:6334][/PREFIX], qdrants:// with TLS"
LOCAL_FORM = "qdrant+local:FOLDER"


@dataclass(frozen=True)
class QdrantAddress:
    """A server's gRPC port. `prefix` begins the names of all collections made there, as a database's name would."""

    host: str
    port: int
    tls: bool
    prefix: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Folder:
    """A folder for the client's local mode; ":memory:" keeps nothing."""

    path: str
    prefix: str = DEFAULT_PREFIX


def parse_address(url: str) -> QdrantAddress | Folder:
    """Read a store URL of Qdrant's.

    Raises:
        ValueError: with a message for the operator, in which no part of the URL stands: any may be a secret.
    """
    if url.startswith("qdrant+local:"):
        path = url.removeprefix("qdrant+local:")
        if path.startswith("//"):
            # As people write it who think of a file's URL: qdrant+local:///srv/vectors.
            path = path.removeprefix("//")
        if not path:
            raise ValueError(f"names no folder: write {LOCAL_FORM}")
        return Folder(path)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError(f"has a host or port that cannot be read: write {SERVER_FORM}") from None
    if not host or parts.query or parts.fragment:
        raise ValueError(f"cannot be read: write {SERVER_FORM}")
    prefix = parts.path.strip("/") or DEFAULT_PREFIX
    if len(prefix) > _MAX_PREFIX or not _PREFIX_CHARS.issuperset(prefix):
        raise ValueError(f"has a prefix that is not 1 to {_MAX_PREFIX} of a-z, A-Z, 0-9, - and _: write {SERVER_FORM}")
    return QdrantAddress(
        host=f"[{host}]" if ":" in host else host,
        port=port,
        tls=parts.scheme == "qdrants",
        prefix=prefix,
        api_key=unquote(parts.password or parts.username or ""),
    )
