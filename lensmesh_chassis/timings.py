"""The contract's message that says where one item's time went."""

from typing import Final, Protocol

from lensmesh.common.v1 import common_pb2

_OUTCOMES: Final = {
    "unasked": common_pb2.CACHE_OUTCOME_UNSPECIFIED,
    "miss": common_pb2.CACHE_OUTCOME_MISS,
    "hit": common_pb2.CACHE_OUTCOME_HIT,
    "coalesced": common_pb2.CACHE_OUTCOME_COALESCED,
}


class Timing(Protocol):
    """Times that an engine measures of one item, in microseconds. `cache`: unasked, miss, hit or coalesced."""

    @property
    def queue_us(self) -> int: ...

    @property
    def preprocess_us(self) -> int: ...

    @property
    def compute_us(self) -> int: ...

    @property
    def total_us(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def cache(self) -> str: ...


def write_timings(timing: Timing) -> common_pb2.Timings:
    """Build the message."""
    return common_pb2.Timings(
        queue_us=timing.queue_us,
        preprocess_us=timing.preprocess_us,
        compute_us=timing.compute_us,
        total_us=timing.total_us,
        batch_size=timing.batch_size,
        cache=_OUTCOMES[timing.cache],
    )
