"""The protocol that every store implements. The same tests run against each implementation."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from search_svc.aggregates import AggregatedItems, Aggregation
from search_svc.calibration import Calibration
from search_svc.duplicates.items import HashPage
from search_svc.filters import Filter
from search_svc.jobs.model import Lease
from search_svc.jobs.store import JobStore, LeasedWrite, Report
from search_svc.legs import Diversity, Fusion, GroupBy, Leg, VectorLeg
from search_svc.metadata import MetadataLimits
from search_svc.model import (
    Collection,
    CountedCollection,
    Definition,
    DeletedBatch,
    Facet,
    FetchedItems,
    FieldIndex,
    Hits,
    Hnsw,
    Item,
    ItemPage,
    LegScore,
    NamedSpace,
    Numbers,
    Upserted,
    View,
)


class StaleCollection(Exception):  # noqa: N818 - not an error of the caller's: look the collection up again
    """The collection that was looked up is gone, or another stands under its name by now."""


class StoreRefused(Exception):  # noqa: N818 - read as a sentence where it is caught
    """The store is reachable but must not be used: a newer schema, say. The message is for the operator."""


@dataclass(frozen=True)
class Query:
    """A search: what is near by its legs, of which one at least has a positive weight."""

    legs: tuple[Leg, ...]
    filter: Filter | None
    limit: int
    offset: int
    min_score: float | None
    exact: bool
    # Candidates an index looks at; None leaves it to the store.
    hnsw_ef: int | None
    view: View
    # Stop reading items beyond about so many bytes.
    max_bytes: int
    # None: there is one leg, and its own score counts.
    fusion: Fusion | None = None
    group_by: GroupBy | None = None
    diversity: Diversity | None = None
    # Legs that cannot answer are left out and named.
    partial: bool = False
    # Of the legs that tell relevance, by their names: an item that reaches none of these is no hit. None: all are.
    least_cosines: Mapping[str, float] | None = None

    @property
    def least_score(self) -> float | None:
        """Least score of a hit of the only leg."""
        leg = self.only_leg
        least = None if leg is None or self.least_cosines is None else self.least_cosines[leg.name]
        return max((each for each in (self.min_score, least) if each is not None), default=None)

    def is_relevant(self, scores: Iterable[LegScore]) -> bool:
        """Tell whether an item with these scores of legs may be a hit."""
        least = self.least_cosines
        return least is None or any(each.score >= least.get(each.name, math.inf) for each in scores)

    @property
    def only_leg(self) -> VectorLeg | None:
        """The leg of a search that is nothing but nearness in one space; None for any other search."""
        leg = self.legs[0]
        return leg if self.is_plain and isinstance(leg, VectorLeg) else None

    @property
    def is_plain(self) -> bool:
        """True where the order of the only leg is that of the hits."""
        return not (len(self.legs) > 1 or self.fusion or self.group_by or self.diversity)

    @property
    def enough(self) -> int:
        """Items of a leg, in their final order, behind which no other is wanted."""
        return self.offset + self.limit if self.is_plain else sys.maxsize


class Store(Protocol):
    """Collections and their items.

    Each item is written and read whole, in every store. PostgreSQL makes each call one transaction. Qdrant does not: a
    write that fails may have written some of its items, a reader may see some of a call's items before the others,
    and counts and outcomes hold as long as nobody else writes the same items. docs/stores.md tells all differences.

    Methods with `timeout_s` raise `Unavailable` (STORE_UNAVAILABLE) while the store cannot be reached, and
    `DeadlineExceeded` after that many seconds; those that take a `Collection` raise `StaleCollection` once it is gone.
    """

    @property
    def jobs(self) -> JobStore:
        """The jobs that are kept beside the collections."""

    async def open(self) -> None:
        """Connect and bring the schema up to date. May be called again: after a failure, and while open.

        Raises:
            Unavailable: not reachable now.
            StoreRefused: reachable, but not to be used as it is; nothing was changed.
        """

    async def check(self) -> None:
        """Raise as `open` does unless the store answers and is ready. It costs little."""

    async def close(self) -> None:
        """Release everything."""

    def write_trouble(self) -> str:
        """Return why writes fail while reads work, as last seen; empty while both work."""

    def describe(self) -> str:
        """Return "postgresql 18.4, pgvector 0.8.7" or "qdrant 1.20.0"; the kind alone before the first contact."""

    async def create_collection(self, definition: Definition, *, timeout_s: float) -> CountedCollection:
        """Make the collection, or return what is there if that has the same definition.

        Raises:
            AlreadyExists: COLLECTION_EXISTS, the name is taken by another definition.
        """

    async def find_collection(self, name: str, *, fresh: bool, timeout_s: float) -> Collection:
        """Return the collection of that name. It may come from memory, and so be stale, unless `fresh`.

        Raises:
            NotFound: COLLECTION_NOT_FOUND.
        """

    async def count_items(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        """Return the collection with its count, and how far its indexes are."""

    async def list_collections(self, *, after: str, count: int, timeout_s: float) -> Sequence[CountedCollection]:
        """Return up to `count` collections by name, beginning behind the name `after`."""

    async def delete_collection(self, name: str, *, timeout_s: float) -> int:
        """Remove the collection with all its items. Return how many there were; 0 if there is no such collection."""

    async def build_indexes(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        """Begin to build the indexes that were left for later, and return at once how far they are.

        It goes on beside reads and writes, also when this process ends. What fails is told, and tried again.
        """

    async def upsert(
        self, collection: Collection, items: Sequence[Item], *, merge: MetadataLimits | None = None, timeout_s: float
    ) -> list[Upserted]:
        """Write items (no id twice). Return when they are durable; results are in the order of `items`.

        All or none are written where the store has transactions; where it has none, some may be there after an error.
        With `merge` the keys of an item's metadata are written over the stored ones, within these limits.

        Raises:
            InvalidInput: METADATA_TOO_LARGE or METADATA_TOO_DEEP, naming each item whose merged metadata is.
        """

    async def get_items(
        self, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int, timeout_s: float
    ) -> FetchedItems:
        """Return the items that exist, in the order asked for, up to about `max_bytes` of content."""

    async def list_items(
        self,
        collection: Collection,
        *,
        filter: Filter | None,
        after: str,
        count: int,
        view: View,
        max_bytes: int,
        timeout_s: float,
    ) -> ItemPage:
        """Return the next `count` items behind the position `after`; "" is the beginning.

        There are fewer if `max_bytes` is reached. The order is the store's own, and always the same: an item that is
        there all the while comes once.
        """

    async def list_hashes(
        self, collection: Collection, filter: Filter, *, after: str, count: int, timeout_s: float
    ) -> HashPage:
        """Return what tells which of the next `count` items look the same; see `list_items` for their order."""

    def position(self, item_id: str) -> str:
        """Return the position right behind an item, for `list_items`."""

    async def delete_ids(self, collection: Collection, ids: Sequence[str], *, timeout_s: float) -> int:
        """Remove items and return how many there were."""

    async def delete_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        """Remove the items that a filter chooses and return how many there were."""

    async def delete_batch(
        self,
        collection: Collection,
        filter: Filter,
        *,
        after: str,
        count: int,
        within: LeasedWrite,
        timeout_s: float,
    ) -> DeletedBatch:
        """Remove up to `count` of the items that a filter chooses, behind the position `after`, as a step of a job.

        Raises:
            LeaseLost: another replica has the job; nothing was removed.
        """

    async def rebuild_index(
        self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease, report: Report
    ) -> bool:
        """Build the index of a space anew with these parameters, as a job, and tell `report` how much of it is done.

        Searches use the old one meanwhile, and writes go on. The store goes on where this is cancelled; called again by
        the same job, it goes on with what is there. Return False where the store had nothing to do.

        Raises:
            LeaseLost: another replica has the job.
        """

    async def undo_rebuild(self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease) -> None:
        """Remove what a job left of a rebuild that failed or was cancelled. The old index serves on."""

    async def count_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        """Count the items that a filter chooses."""

    async def sample_vectors(
        self, collection: Collection, named: NamedSpace, count: int, *, timeout_s: float
    ) -> list[tuple[str, Numbers]]:
        """Return up to `count` vectors of a space, drawn by chance, with the ids of their items."""

    async def save_calibrations(
        self, collection: Collection, space: str, measured: Sequence[Calibration], *, timeout_s: float
    ) -> None:
        """Keep with the collection what cosines in a space mean. What is known of other modalities stays.

        Searches of other replicas know it within seconds.
        """

    async def search(self, collection: Collection, query: Query, *, timeout_s: float) -> Hits:
        """Find the nearest items, best first, equal scores by id. Fewer than `limit` means that there are no more.

        Raises:
            NotFound: ITEM_NOT_FOUND, a leg's `item_id` names no item.
            PreconditionFailed: ITEM_WITHOUT_VECTOR, it has none in the leg's space.
        """

    async def count_facets(
        self,
        collection: Collection,
        fields: Sequence[FieldIndex],
        *,
        filter: Filter | None,
        limit: int,
        max_bytes: int,
        timeout_s: float,
    ) -> list[Facet]:
        """Count for each field its most frequent values of the index's type, and the items that have none of those.

        Stops, with fewer facets than fields, when the values exceed `max_bytes`.
        """

    async def aggregate(
        self,
        collection: Collection,
        asked: Sequence[Aggregation],
        *,
        filter: Filter | None,
        max_bytes: int,
        timeout_s: float,
    ) -> AggregatedItems:
        """Count and measure the items that a filter chooses.

        Stops, with None for some results, when the values counted exceed `max_bytes`.

        Raises:
            InvalidInput: AGGREGATION_TOO_LARGE, more buckets than `MAX_BUCKETS`, or more different values than the
                store can tell apart.
        """
