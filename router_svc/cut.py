"""Cuts a long list into runs that a service takes in one call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of what one call may hold."""

    max_items: int
    max_bytes: int


def cut(sizes: Sequence[int], limits: CallLimits) -> Iterator[range]:
    """Yield index ranges of items of these sizes, in order and without gaps, each within the limits.

    One item above `max_bytes` makes a run of its own: whether it is refused is the caller's decision.
    """
    start, run_bytes = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (index - start >= limits.max_items or run_bytes + size > limits.max_bytes):
            yield range(start, index)
            start, run_bytes = index, 0
        run_bytes += size
    if start < len(sizes):
        yield range(start, len(sizes))
