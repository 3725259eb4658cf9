"""Times that one item took, as a message of the contract."""

from typing import Final

from lensmesh.common.v1 import common_pb2
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.items import Timing

_OUTCOMES: Final = {
    CacheOutcome.UNASKED: common_pb2.CACHE_OUTCOME_UNSPECIFIED,
    CacheOutcome.MISS: common_pb2.CACHE_OUTCOME_MISS,
    CacheOutcome.HIT: common_pb2.CACHE_OUTCOME_HIT,
    CacheOutcome.COALESCED: common_pb2.CACHE_OUTCOME_COALESCED,
}


def write_timings(timing: Timing) -> common_pb2.Timings:
    """Write the message."""
    return common_pb2.Timings(
        queue_us=timing.queue_us,
        preprocess_us=timing.preprocess_us,
        compute_us=timing.compute_us,
        total_us=timing.total_us,
        batch_size=timing.batch_size,
        cache=_OUTCOMES[timing.cache],
    )
