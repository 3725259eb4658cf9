"""The outcome of a cache look-up, and its observer."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class CacheOutcome(StrEnum):
    """The outcome of a look-up: whether the work was done before."""

    UNASKED = "unasked"
    """No cache was asked."""
    MISS = "miss"
    """Computed for this item."""
    HIT = "hit"
    """Computed earlier, and kept."""
    COALESCED = "coalesced"
    """Computed at this moment for another caller's equal item."""


class CacheObserver(Protocol):
    """An observer that is called on the event loop, as things happen. Every method must be quick and must not raise."""

    def show(self, model: str) -> None:
        """Take note that a model is served from now on."""

    def answered(self, model: str, outcome: CacheOutcome) -> None:
        """Take note that one item of a model got its answer."""

    def shared_failed(self, operation: str) -> None:
        """Take note that the shared cache failed at one `read` or `write`, of however many items."""


class NullCacheObserver:
    """An observer that counts nothing."""

    def show(self, model: str) -> None: ...

    def answered(self, model: str, outcome: CacheOutcome) -> None: ...

    def shared_failed(self, operation: str) -> None: ...
