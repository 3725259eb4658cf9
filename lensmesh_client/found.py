"""Results of a search: hits, what each query said of them, and how they form groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lensmesh_chassis.errors import LensmeshError
from lensmesh_client.types import Caption, Vectors


@dataclass(frozen=True, slots=True)
class LegScore:
    """Verdict of one query on one hit."""

    name: str
    """The query's (`Query.name`); "" where it is alone and has none."""
    score: float
    """The query's own: a cosine similarity, -1 to 1; of words, above 0 up to 1, comparable within this query alone."""
    rank: int
    """1 is what the query finds best. Of a query of negative weight: among what the others found."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An item found."""

    id: str
    score: float
    """Of one query: its own, as in `legs`. Of several: the fused score, which orders hits and says no more."""
    caption: Caption | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    image_uri: str = ""
    content_digest: str = ""
    """Hexadecimal SHA-256 of the image's bytes."""
    low_content: bool = False
    """The image is of one colour, or nearly so."""
    create_time: datetime | None = None
    update_time: datetime | None = None
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """By space name, float32 of shape (d,); empty unless asked for."""
    legs: tuple[LegScore, ...] = ()
    """Verdict of each query; one that did not find the item is missing."""
    relevance: float | None = None
    """Nearness beyond that of unrelated items, 0 to 1 (`Calibration`); None until the collection is calibrated."""
    group: tuple[object, ...] | None = None
    """Values of the fields of `GroupBy`, in their order; None without them, and where the item lacks one."""


@dataclass(frozen=True, slots=True)
class HitGroup:
    """Hits that have the same values in the fields of `GroupBy`."""

    values: tuple[object, ...] | None
    """In the order of the fields; None for an item that lacks one of them, which is a group of its own."""
    hits: tuple[Hit, ...]
    """Best first."""


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """A query that was left out because it could not be answered just now."""

    name: str
    """Its `Query.name`, given or made."""
    error: LensmeshError


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and where the time went."""

    hits: tuple[Hit, ...]
    encode_us: int = 0
    store_us: int = 0
    trace_id: str = ""
    """Of the trace that the mesh keeps of this search, as 32 hexadecimal digits; empty where it keeps none."""
    error: LensmeshError | None = None
    """Error because of which nothing could be found: of one search of several; a single one raises it."""
    exact: bool = False
    """True where every item was compared, so that none nearer was missed: on request, or because no index is built."""
    failed: tuple[FailedQuery, ...] = ()
    """Queries without an answer, of a search that may leave some out (`partial`)."""

    @property
    def groups(self) -> tuple[HitGroup, ...]:
        """The hits by their group, in the order of each group's first hit."""
        found: dict[object, list[Hit]] = {}
        for number, hit in enumerate(self.hits):
            # As JSON, because lists are no keys, and because to Python true is 1.
            key = number if hit.group is None else json.dumps(hit.group, sort_keys=True)
            found.setdefault(key, []).append(hit)
        return tuple(HitGroup(hits[0].group, tuple(hits)) for hits in found.values())
