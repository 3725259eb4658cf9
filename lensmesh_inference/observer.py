"""The observer that this package tells what happens to its models. Counting is not done here: it knows no metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lensmesh_inference.batching.batcher import Batcher
from lensmesh_inference.batching.observer import BatchObserver, NullBatchObserver
from lensmesh_inference.canary import Canaries
from lensmesh_inference.images.counts import DecodeCounts


class ModelObserver(Protocol):
    """An observer of all models of a process."""

    def observe(self, model: str, lanes: Sequence[str]) -> BatchObserver:
        """Make the observer of one model's batches; `lanes` by their numbers."""

    def watch(self, batcher: Batcher[Any, Any]) -> None:
        """Show a batcher's queue from now on."""

    def watch_decoding(self, counts: DecodeCounts) -> None:
        """Show what decoding within limits has refused and dropped from now on."""

    def watch_canary(self, model: str, canary: Canaries[Any]) -> None:
        """Show a model's canaries from now on."""

    def tell_parity(self, model: str, cosine: float | None) -> None:
        """Show how near a model's answers are to its reference's; None: it has none."""


class NullModelObserver:
    """An observer that shows nothing."""

    def observe(self, model: str, lanes: Sequence[str]) -> BatchObserver:
        return NullBatchObserver()

    def watch(self, batcher: Batcher[Any, Any]) -> None: ...

    def watch_decoding(self, counts: DecodeCounts) -> None: ...

    def watch_canary(self, model: str, canary: Canaries[Any]) -> None: ...

    def tell_parity(self, model: str, cosine: float | None) -> None: ...
