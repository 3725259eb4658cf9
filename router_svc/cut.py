"""Cuts a long list into runs that a service takes in one call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may hold."""

    max_items: int
    max_bytes: int


def cut(items: Sequence[T], limits: CallLimits, size_of: Callable[[T], int]) -> Iterator[range]:
    """Index ranges of `items`, in order and without gaps, each within the limits.

    One item above `max_bytes` makes a run of its own: whether it is refused is the caller's decision.
    """
    start, run_bytes = 0, 0
    for index, item in enumerate(items):
        size = size_of(item)
        if index > start and (index - start >= limits.max_items or run_bytes + size > limits.max_bytes):
            yield range(start, index)
            start, run_bytes = index, 0
        run_bytes += size
    if start < len(items):
        yield range(start, len(items))
