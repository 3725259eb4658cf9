"""What a batcher tells whoever counts. Counting itself is not done here: this package knows no metrics."""

from __future__ import annotations

from typing import Protocol

from lensmesh_inference.batching.lanes import Lane


class BatchObserver(Protocol):
    """Called on the event loop, as things happen: every method must be quick and must not raise.

    `prepared` and `waited` are called in the context of the item's caller, so a trace that is current there is the
    item's.
    """

    def prepared(self, seconds: float) -> None:
        """One item is decoded, or tokenized."""

    def computed(self, items: int, seconds: float) -> None:
        """A batch of so many items went through the model."""

    def waited(self, lane: Lane, seconds: float) -> None:
        """One item got its answer, having waited so long for the device."""

    def batch_failed(self) -> None:
        """A batch of several items raised; its halves are tried."""

    def poisoned(self) -> None:
        """An item broke the model all alone."""

    def refused(self, lane: Lane) -> None:
        """A call, or an item on its own, found the lane full or the predicted wait too long."""

    def late(self, lane: Lane, items: int) -> None:
        """Items were dropped, because their deadline passed in the queue or cannot be met."""

    def out_of_memory(self) -> None:
        """A batch did not fit into its device's memory."""


class NullBatchObserver:
    """Counts nothing."""

    def prepared(self, seconds: float) -> None: ...

    def computed(self, items: int, seconds: float) -> None: ...

    def waited(self, lane: Lane, seconds: float) -> None: ...

    def batch_failed(self) -> None: ...

    def poisoned(self) -> None: ...

    def refused(self, lane: Lane) -> None: ...

    def late(self, lane: Lane, items: int) -> None: ...

    def out_of_memory(self) -> None: ...
