"""The stores that search can keep items in. A new one is a folder with a `Store` in it, and an entry here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_svc.qdrant import address as qdrant_address

if TYPE_CHECKING:
    from search_svc.settings import SearchSettings
    from search_svc.store import Store


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store, as a store URL names it."""

    schemes: tuple[str, ...]
    """Beginnings of its URLs, before the first colon."""
    form: str
    """Form in which its URLs are written."""
    needs: str
    """Releases that it takes, and what else an operator should know."""
    module: str
    """Module in which its `open_store(settings, tracer_provider)` lies. Imported when it is used: clients are large."""
    check_url: Callable[[str], object]
    """Raises ValueError for a URL that cannot be read, with a message that shows no part of it."""

    def open(self, settings: SearchSettings, tracer_provider: Any | None) -> Store:
        """Make the store that the settings name. Nothing is connected yet."""
        store: Store = importlib.import_module(self.module).open_store(settings, tracer_provider)
        return store


def _check_postgres_url(url: str) -> None:
    # What is behind the slashes asyncpg reads, and says more of it than could be said here.
    if "://" not in url:
        raise ValueError("cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")


STORES = (
    StoreKind(
        schemes=("postgresql", "postgres"),
        form="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        needs="PostgreSQL 16 or newer with pgvector 0.8 or newer",
        module="search_svc.postgres.store",
        check_url=_check_postgres_url,
    ),
    StoreKind(
        schemes=("qdrant", "qdrants"),
        form=qdrant_address.SERVER_FORM,
        needs="Qdrant 1.17 or newer, its gRPC port",
        module="search_svc.qdrant.store",
        check_url=qdrant_address.parse_address,
    ),
    StoreKind(
        schemes=("qdrant+local",),
        form=qdrant_address.LOCAL_FORM,
        needs="a few thousand items in a folder, without a server",
        module="search_svc.qdrant.store",
        check_url=qdrant_address.parse_address,
    ),
)


def either(words: list[str]) -> str:
    """Join words as a choice: "a, b, or c"."""
    return f"{', '.join(words[:-1])}, or {words[-1]}"


def store_kind(url: str) -> StoreKind:
    """Return the kind of store that a URL names. Raises ValueError without any part of the URL: it may be a secret."""
    scheme = url.partition(":")[0]
    for kind in STORES:
        if scheme in kind.schemes:
            return kind
    raise ValueError(f"its scheme is unknown: write {either([kind.form for kind in STORES])}")
