"""Ranking of hits: by several queries at once, in groups, and with differences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import check_text
from lensmesh_client.requests import chosen


class FusionMethod(StrEnum):
    """A way to make one ranking of those of several queries."""

    RRF = "rrf"
    """Reciprocal rank fusion: the sum of weight / (k + rank). Scores of different kinds need not be comparable."""
    WEIGHTED = "weighted"
    """The sum of weight * score, each query's scores scaled to 0..1 over what it found."""


METHODS = {
    FusionMethod.RRF: search_pb2.FUSION_METHOD_RRF,
    FusionMethod.WEIGHTED: search_pb2.FUSION_METHOD_WEIGHTED,
}


@dataclass(frozen=True, slots=True)
class GroupBy:
    """At most `size` hits for each combination of the values of some fields.

    Args:
        fields: 1 to 4 metadata paths ("artist", "camera.iso"), "$content_digest" or "$caption".
        size: Hits for each combination, the best ones, 1 to 100.
    """

    fields: Sequence[str]
    size: int = 1


@dataclass(frozen=True, slots=True)
class Diversity:
    """A preference for hits that differ from one another: maximal marginal relevance.

    Args:
        strength: 0 to 1: 0 is the order of scores, 1 looks at differences alone.
        candidates: How many of the best are chosen among, 1 to 1,000.
    """

    strength: float = 0.5
    candidates: int = 100


def fusion(method: FusionMethod | str | None, rrf_k: int) -> search_pb2.Fusion | None:
    """Make the message; None where nothing was asked for. Raises InvalidInput for a method it does not know."""
    if method is None and not rrf_k:
        return None
    number = chosen("fusion", method or FusionMethod.RRF, FusionMethod, METHODS)
    return search_pb2.Fusion(method=number, rrf_k=rrf_k)


def group_by(groups: GroupBy | Sequence[str] | str | None) -> search_pb2.GroupBy | None:
    """Make the message. A field, or several, are groups of one hit each."""
    if groups is None:
        return None
    if not isinstance(groups, GroupBy):
        groups = GroupBy(groups)
    fields = [groups.fields] if isinstance(groups.fields, str) else groups.fields
    return search_pb2.GroupBy(
        fields=[
            check_text(field, f"group_by.fields[{index}]", Reason.OPTION_INVALID) for index, field in enumerate(fields)
        ],
        size=groups.size,
    )


def diversity(value: Diversity | float | None) -> search_pb2.Diversity | None:
    """Make the message. A number is its strength."""
    if value is None:
        return None
    if not isinstance(value, Diversity):
        value = Diversity(value)
    return search_pb2.Diversity(strength=value.strength, candidates=value.candidates)
