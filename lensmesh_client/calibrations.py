"""Meaning of cosines in a collection: measured by `Client.jobs.start_calibrate`, told by `Client.collections.get`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client.translate import moment


class Modality(StrEnum):
    """Kind of input that a query is made of."""

    IMAGE = "image"
    """An image, or a stored item."""
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Cosines of queries and stored vectors. `Hit.relevance` is made of them.

    It is 0 up to the median of unrelated pairs, 0.5 at their 99.9th percentile, and 1 from the median of matching
    pairs on.
    """

    modality: Modality
    median: float
    """Half of the unrelated pairs stay below it."""
    p90: float
    p99: float
    p999: float
    match_median: float
    """Of texts and the images they are about; 1 for images."""
    pair_count: int
    """Unrelated pairs that were measured."""
    measure_time: datetime


MODALITIES = {Modality.IMAGE: common_pb2.MODALITY_IMAGE, Modality.TEXT: common_pb2.MODALITY_TEXT}
_OF_NUMBER = {number: modality for modality, number in MODALITIES.items()}


def calibrations(messages: Iterable[search_pb2.Calibration]) -> tuple[Calibration, ...]:
    """Translate calibrations; those of modalities that this client does not know are left out."""
    return tuple(
        Calibration(
            _OF_NUMBER[each.modality],
            each.median,
            each.p90,
            each.p99,
            each.p999,
            each.match_median,
            each.pair_count,
            moment(each.measure_time),
        )
        for each in messages
        if each.modality in _OF_NUMBER
    )
