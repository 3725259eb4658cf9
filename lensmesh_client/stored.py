"""Collections of a mesh and their items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from lensmesh_chassis.errors import LensmeshError
from lensmesh_client.calibrations import Calibration
from lensmesh_client.local_features import LocalFeatureKind, LocalFeatures
from lensmesh_client.mesh import Space
from lensmesh_client.types import Caption, Change, Embedding, Outcome, PerceptualHash


class FieldType(StrEnum):
    """Type of the values of an indexed metadata field."""

    KEYWORD = "keyword"
    """Strings, compared whole."""
    NUMBER = "number"
    BOOL = "bool"
    TIME = "time"
    """RFC 3339 strings."""
    TEXT = "text"
    """Strings as KEYWORD, and their words, which filters and searches may ask for."""


@dataclass(frozen=True, slots=True)
class NamedSpace:
    """A kind of vector that each item of a collection may have."""

    name: str
    """Word for what the vectors are for: "image"."""
    space: Space
    """The only space whose vectors are accepted under this name."""
    half_precision: bool = True
    """True where numbers are kept in 16 bits, False where in 32."""
    indexed: bool = True
    """True where there is an HNSW index, False where every search compares with every item."""
    hnsw_m: int = 0
    """Links of the index for each item, 2 to 100; 0 means 16."""
    hnsw_ef_construction: int = 0
    """Candidates while the index is built, 4 to 1,000 and at least twice the links; 0 means 128."""
    deferred: bool = False
    """True where the index is left for later: `build_index` builds it in one go. Until then searches are exact."""
    build_at: int = 0
    """Of a deferred index: items of the collection from which on the service builds it by itself; 0: never."""


class IndexState(StrEnum):
    """State of the index of a space."""

    DEFERRED = "deferred"
    """Left for later: searches are exact."""
    BUILDING = "building"
    """It is being built, or will be in a moment: searches are exact."""
    BUILT = "built"
    """Searches use it, and writes keep it up to date."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """State of the index of a space."""

    state: IndexState
    progress: float = 0.0
    """Of a build that runs: about how much of it is done, 0 to 1."""
    error: LensmeshError | None = None
    """Error of the last try to build; the service tries again by itself."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of items whose vectors are of the same spaces."""

    name: str
    spaces: tuple[NamedSpace, ...]
    fields: Mapping[str, FieldType]
    """Metadata fields that are indexed: facets count them, and filters are fast with them."""
    item_count: int = 0
    create_time: datetime | None = None
    uid: str = ""
    """Made by chance: a collection that was deleted and made again under its name has another one."""
    indexes: Mapping[str, IndexStatus] = field(default_factory=dict)
    """By the name of the space, where it has an index."""
    calibrations: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict)
    """Meaning of cosines, by the name of the space, where it was measured (`Client.jobs.start_calibrate`)."""
    language: str = ""
    """Of captions and of fields of type TEXT; empty where no words are kept."""
    local_features: bool = False
    """True where items keep their local features, and an ingest makes them."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """Content that is stored and found under one id."""

    id: str
    """1 to 256 bytes of UTF-8, unique in the collection."""
    vectors: Mapping[str, Embedding] = field(default_factory=dict)
    """By the name of the collection's space. An item that is read has them only where they were asked for."""
    caption: Caption | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    """JSON values. Integers beyond 2**53 go as strings."""
    image_uri: str = ""
    """Address of the image; kept, never fetched."""
    content_digest: str = ""
    """Hexadecimal SHA-256 of the image's bytes; empty if unknown."""
    low_content: bool = False
    """The image is of one colour, or nearly so."""
    perceptual_hash: PerceptualHash | None = None
    """Looks of the image; None if unknown."""
    local_features: LocalFeatures | None = None
    """Points of the image, with descriptors. An item that is read has them only where they were asked for."""
    local_feature_kind: LocalFeatureKind | None = None
    """Set by the service: the kind of the item's local features, also where these were not asked for."""
    create_time: datetime | None = None
    """Set by the service."""
    update_time: datetime | None = None
    """Set by the service."""


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """Outcome for one item that was written."""

    id: str
    outcome: Outcome | None = None
    changes: tuple[Change, ...] = ()
    """Parts that differ from before, where the outcome is `Outcome.UPDATED`."""
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundItems:
    """Items that were asked for by their ids."""

    items: tuple[Item, ...]
    """Those that exist, in the order asked for."""
    missing_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FacetCount:
    """Number of times that one value of a field occurs."""

    value: object
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of one metadata field."""

    field: str
    counts: tuple[FacetCount, ...]
    """Most frequent first; equal counts by value."""
    other_count: int = 0
    """Items that have none of the values listed."""
