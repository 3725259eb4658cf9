"""What the cache had to say of one item, and who counts it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class CacheOutcome(StrEnum):
    """Whether the work was done before."""

    UNASKED = "unasked"
    """No cache was asked."""
    MISS = "miss"
    """Computed for this item."""
    HIT = "hit"
    """Computed earlier, and kept."""
    COALESCED = "coalesced"
    """Computed at this moment for somebody else's equal item."""


class CacheObserver(Protocol):
    """Called on the event loop, as things happen: every method must be quick and must not raise."""

    def show(self, model: str) -> None:
        """A model is served from now on."""

    def answered(self, model: str, outcome: CacheOutcome) -> None:
        """One item of a model got its answer."""

    def shared_failed(self, operation: str) -> None:
        """The shared cache failed at one `read` or `write`, of however many items."""


class NullCacheObserver:
    """Counts nothing."""

    def show(self, model: str) -> None: ...

    def answered(self, model: str, outcome: CacheOutcome) -> None: ...

    def shared_failed(self, operation: str) -> None: ...
