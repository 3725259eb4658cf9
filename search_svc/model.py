"""Types of what a store keeps and finds. They know neither gRPC nor protobuf nor any database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Flag, StrEnum, auto
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lensmesh_chassis.errors import LensmeshError
from search_svc.calibration import Calibrations
from search_svc.hashes import PerceptualHash
from search_svc.local_features import FeatureKind, LocalFeatures

# One-dimensional, finite; float16 or float32 as its space stores it.
Numbers: TypeAlias = NDArray[np.float16] | NDArray[np.float32]
# A vector whose difference is below this share of its length differs by rounding: float16 has 11 significant bits.
ROUNDING = 1e-3


class StoredAs(StrEnum):
    """Number type in which a space's vectors are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class FieldType(StrEnum):
    """Type of the values of an indexed metadata field."""

    KEYWORD = "keyword"
    NUMBER = "number"
    BOOL = "bool"
    TIME = "time"
    # Strings as KEYWORD has them, and their words.
    TEXT = "text"


@dataclass(frozen=True)
class VectorSpace:
    """A space of vectors that can be compared with one another. `id` alone decides; the rest describes."""

    id: str
    model: str
    weights_digest: str
    dimension: int
    normalized: bool
    modalities: tuple[int, ...]
    transparency: int = 0
    """TransparencyPolicy's number, as it was sent."""


@dataclass(frozen=True)
class Deferred:
    """An index that is left for later: until it is asked for, or there are so many items (0: never by itself)."""

    at_item_count: int = 0


@dataclass(frozen=True)
class Hnsw:
    """Parameters of a graph of neighbours: links per node, candidates while building."""

    m: int = 16
    ef_construction: int = 128
    # When it is built makes no other definition.
    deferred: Deferred | None = field(default=None, compare=False)
    # What the collection was made with, where its index was built anew with other parameters since.
    made_with: "Hnsw | None" = field(default=None, compare=False)

    def is_made_as(self, other: "Hnsw | None") -> bool:
        """Tell whether an index has, or was made with, the parameters of another."""
        return other is not None and other in (self, self.made_with)


def is_same_index(there: Hnsw | None, wanted: Hnsw | None) -> bool:
    """Tell whether a space is indexed, or was when it was made, as another definition says."""
    return wanted is None if there is None else there.is_made_as(wanted)


@dataclass(frozen=True)
class NamedSpace:
    """A kind of vector of a collection. `hnsw` None means no index: every search is exact."""

    name: str
    space: VectorSpace
    stored_as: StoredAs
    hnsw: Hnsw | None


@dataclass(frozen=True)
class FieldIndex:
    """An index on one metadata path, which is filtered and counted often."""

    path: tuple[str, ...]
    type: FieldType

    @property
    def name(self) -> str:
        """The path as callers write it."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Definition:
    """All that a collection is made of."""

    name: str
    spaces: tuple[NamedSpace, ...]
    field_indexes: tuple[FieldIndex, ...]
    language: str = "en"
    """Language of the words, as `search_svc.words.languages` knows it. "" where a store keeps no words."""
    local_features: bool = False
    """True where items may keep their local features."""

    def serves_as(self, wanted: "Definition") -> bool:
        """Tell whether a collection that is there keeps and finds what another definition wants.

        Neither a model's name matters nor the order of field indexes. A collection from before there were words is as
        one in the default language. An index that was built anew with other parameters is as one with those that it was
        made with. One that keeps local features serves whoever does not ask for them.
        """

        def kept(definition: "Definition") -> object:
            spaces = [
                (named.name, named.space.id, named.space.dimension, named.space.normalized, named.stored_as)
                for named in definition.spaces
            ]
            language = definition.language or Definition.language
            return definition.name, spaces, frozenset(definition.field_indexes), language

        if wanted.local_features and not self.local_features:
            return False
        return kept(self) == kept(wanted) and all(
            is_same_index(mine.hnsw, its.hnsw) for mine, its in zip(self.spaces, wanted.spaces, strict=True)
        )

    def space(self, name: str) -> NamedSpace | None:
        """Return the space of that name; the first for an empty name; None where there is none."""
        if not name:
            return self.spaces[0]
        return next((named for named in self.spaces if named.name == name), None)

    @property
    def text_indexes(self) -> tuple[FieldIndex, ...]:
        """The indexes of fields whose words are kept."""
        return tuple(index for index in self.field_indexes if index.type is FieldType.TEXT)

    def field_index(self, path: tuple[str, ...]) -> FieldIndex | None:
        """Return the index on that metadata path, or None."""
        return next((index for index in self.field_indexes if index.path == path), None)


@dataclass(frozen=True)
class Collection:
    """A collection as its store knows it.

    `key` is the store's own name of this very collection: one that is made anew under the same name has another key.
    """

    key: str
    definition: Definition
    create_time: datetime
    # Made by chance with it, and told to callers.
    uid: str = ""
    # What cosines mean in its spaces, as they were measured last before this was read.
    calibrations: Calibrations = field(default_factory=dict, compare=False)
    # Names of spaces whose index was not built yet when this was read: searches in them are exact.
    unbuilt: frozenset[str] = frozenset()


class IndexState(StrEnum):
    """State of an index."""

    DEFERRED = "deferred"
    BUILDING = "building"
    BUILT = "built"


@dataclass(frozen=True)
class IndexStatus:
    """State of an index, and why the last try to build it failed."""

    state: IndexState
    progress: float = 0.0
    error: LensmeshError | None = None


@dataclass(frozen=True)
class CountedCollection:
    """A collection and how many items it has. `indexes` has those that are not built, by the name of their space."""

    collection: Collection
    item_count: int
    indexes: Mapping[str, IndexStatus] = field(default_factory=dict)


@dataclass(frozen=True)
class Caption:
    """A description of an image; see common.proto."""

    text: str
    confidence: float
    token_count: int
    truncated: bool
    model: str


@dataclass(frozen=True)
class Item:
    """A checked item.

    Its vectors belong to their spaces and are as stored, its metadata is the JSON text of an object.
    """

    id: str
    vectors: Mapping[str, Numbers] = field(default_factory=dict)
    caption: Caption | None = None
    metadata: str = "{}"
    image_uri: str = ""
    content_digest: bytes = b""
    low_content: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None


class StoredItem(NamedTuple):
    """An item as it comes back.

    `vectors` holds None instead of the numbers, and `local_features` is None, unless they were asked for.
    """

    id: str
    vectors: Mapping[str, Numbers | None] = MappingProxyType({})
    caption: Caption | None = None
    metadata: str = "{}"
    image_uri: str = ""
    content_digest: bytes = b""
    low_content: bool = False
    perceptual_hash: PerceptualHash | None = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    feature_kind: FeatureKind | None = None
    local_features: LocalFeatures | None = None


class View(Flag):
    """The parts of each item that are read, and may be joined: `View.BASIC | View.FEATURES`. All have the id."""

    ID = 0
    # Everything but what is large.
    BASIC = auto()
    # The numbers of the vectors.
    NUMBERS = auto()
    # The local features.
    FEATURES = auto()
    FULL = BASIC | NUMBERS


class ItemOutcome(StrEnum):
    """Outcome for one item that was written."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Change(StrEnum):
    """A part of an item that a write changed."""

    CONTENT = "content"
    VECTORS = "vectors"
    CAPTION = "caption"
    METADATA = "metadata"
    IMAGE_URI = "image_uri"
    LOCAL_FEATURES = "local_features"


@dataclass(frozen=True)
class Upserted:
    """Result of writing one item: its outcome, when it last changed, and which parts changed of one that was there."""

    id: str
    outcome: ItemOutcome
    update_time: datetime
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class FetchedItems:
    """Items that were read; `cut` when more were asked for than `max_bytes` let through."""

    items: tuple[StoredItem, ...]
    cut: bool


@dataclass(frozen=True)
class ItemPage:
    """A page of a listing; `next_after` is where the next one begins, None after the last."""

    items: tuple[StoredItem, ...]
    next_after: str | None


class LegScore(NamedTuple):
    """A leg's word on one hit; rank 1 is the leg's best."""

    name: str
    score: float
    rank: int


@dataclass(frozen=True)
class DeletedBatch:
    """Items that were removed; `next_after` is where the next batch begins, None after the last."""

    count: int
    next_after: str | None


class Hit(NamedTuple):
    """An item that was found; rank 1 is the best of all, offset included.

    Score is the cosine similarity, -1 to 1, or with a fusion the fused score. `legs` is empty where one leg alone was
    asked, whose word is the hit's own. `group` has the values that make the hit's group, None where it has none.
    """

    item: StoredItem
    score: float
    rank: int
    legs: tuple[LegScore, ...] = ()
    group: tuple[object, ...] | None = None


@dataclass(frozen=True)
class FailedLeg:
    """A leg that did not answer, and why."""

    name: str
    error: LensmeshError


@dataclass(frozen=True)
class Hits:
    """Hits, best first; `cut` when more were found than `max_bytes` let through, `exact` when no index was asked."""

    hits: tuple[Hit, ...]
    cut: bool
    exact: bool = False
    failed: tuple[FailedLeg, ...] = ()


@dataclass(frozen=True)
class FacetCount:
    """Number of items that have one value."""

    value: str | float | bool
    count: int


@dataclass(frozen=True)
class Facet:
    """The most frequent values of one field, and how many items have none of them."""

    path: tuple[str, ...]
    counts: tuple[FacetCount, ...]
    other_count: int
