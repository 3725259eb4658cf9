"""The events that a batcher reports to an observer. Counting is not done here: this package knows no metrics."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from lensmesh_inference.batching.lanes import Lane

# Labels that lead to a span.
Exemplar: TypeAlias = dict[str, str]


class BatchObserver(Protocol):
    """An observer that is called on the event loop, as things happen. Every method must be quick and must not raise.

    An exemplar leads to the span of the item, or of the batch, where that is kept.
    """

    def prepared(self, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Take note that one item is decoded, or tokenized."""

    def computed(self, items: int, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Take note that a batch of so many items went through the model."""

    def waited(self, lane: Lane, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Take note that one item got its answer, after it waited so long for the device."""

    def batch_failed(self) -> None:
        """Take note that a batch of several items raised. Its halves are tried."""

    def poisoned(self) -> None:
        """Take note that an item made the model fail all alone."""

    def refused(self, lane: Lane) -> None:
        """Take note that a call, or an item on its own, found the lane full or the predicted wait too long."""

    def late(self, lane: Lane, items: int) -> None:
        """Take note that items were dropped, because their deadline passed in the queue or cannot be met."""

    def out_of_memory(self) -> None:
        """Take note that a batch did not fit into its device's memory."""


class NullBatchObserver:
    """An observer that counts nothing."""

    def prepared(self, seconds: float, exemplar: Exemplar | None = None) -> None: ...

    def computed(self, items: int, seconds: float, exemplar: Exemplar | None = None) -> None: ...

    def waited(self, lane: Lane, seconds: float, exemplar: Exemplar | None = None) -> None: ...

    def batch_failed(self) -> None: ...

    def poisoned(self) -> None: ...

    def refused(self, lane: Lane) -> None: ...

    def late(self, lane: Lane, items: int) -> None: ...

    def out_of_memory(self) -> None: ...
