"""Searches as values, and their messages. Here, and only here, stands what a search takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import ranking
from lensmesh_client.arguments import described
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building
from lensmesh_client.images import ImageLike
from lensmesh_client.queries import KINDS, OF_THE_STORE, Query, leg_message, named, one_of, query_message
from lensmesh_client.ranking import Diversity, FusionMethod, GroupBy
from lensmesh_client.types import Embedding, PerceptualHash

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SearchOptions:
    """Arguments of every search, whatever it is near to.

    Args:
        queries: Several things to be near to, 1 to 8, joined into one ranking: `Query`s, or texts.
        words: Words that the caption holds; no model runs. Those in quotation marks stand side by side, and `bri*` is
            any word that begins so.
        text_fields: Metadata fields (of `FieldType.TEXT`) and "$caption" whose words count, instead of the caption's.
        perceptual_hash: Images that look the same as the one of this hash.
        collection: Its name; empty means the mesh's default.
        space: The collection's name for the space to look in; empty means its first.
        filter: Which items may be found: "key=value", "key>=3" and so on, several of these, all of which must hold,
            or a contract's Filter. None means all.
        limit: How many hits, up to `Limits.max_hits`.
        offset: How many of the best to leave out first.
        min_score: Leave out hits below it; of several queries, below that fused score.
        min_relevance: Leave out hits below this `Hit.relevance`, 0 to 1; nothing found is an answer. The collection is
            calibrated first (`Client.jobs.start_calibrate`, `lensmesh calibrate`).
        exact: Compare with every item instead of asking the index.
        with_vectors: Read the hits' vectors as well.
        fusion: A way to make one ranking of several queries': "rrf" (by ranks, also where it is None) or "weighted"
            (by scores).
        rrf_k: The k of "rrf", up to 10,000: how little the first ranks differ. 0 means 60.
        group_by: At most one hit for each value of a metadata field, or for each combination of those of several, up
            to 4; a `GroupBy` for more of each.
        diversity: How much hits shall differ from one another, 0 to 1, or a `Diversity`. None: only scores count.
        partial: Leave out queries that cannot be answered just now, and name them in `SearchResult.failed`.
    """

    queries: Sequence[Query | str] | None = None
    words: str | None = None
    text_fields: Sequence[str] = ()
    perceptual_hash: PerceptualHash | None = None
    collection: str = ""
    space: str = ""
    filter: FilterLike | None = None
    limit: int = 10
    offset: int = 0
    min_score: float | None = None
    min_relevance: float | None = None
    exact: bool = False
    with_vectors: bool = False
    fusion: FusionMethod | str | None = None
    rrf_k: int = 0
    group_by: GroupBy | Sequence[str] | str | None = None
    diversity: Diversity | float | None = None
    partial: bool = False


@described
@dataclass(frozen=True, slots=True, eq=False)
class Search(SearchOptions):
    """A search: exactly one of `text`, `image`, `item_id`, `embedding`, `words`, `perceptual_hash` and `queries`.

    Args:
        text: What the image shows, in words.
        image: An image like this one.
        item_id: An image like this item's; the item itself is no hit.
        embedding: A vector of the caller's own: an `Embedding`, or numbers of shape (d,) of the space `space_id`.
        space_id: The space of an embedding that is numbers alone (`Embeddings.space_id`).
        by_hash: Find what looks the same as `image`, and nothing that only shows the like.
    """

    text: str | None = None
    image: ImageLike | None = None
    item_id: str | None = None
    embedding: Embedding | ArrayLike | None = None
    space_id: str = ""
    by_hash: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TimedSearch(Search):
    """Arguments of `Client.search`.

    Args:
        timeout_s: Seconds until an answer; None is the client's own.
    """

    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StoredSearch(SearchOptions):
    """Arguments of `ItemCalls.search`.

    Args:
        item_id: Near to this item; the item itself is no hit.
        embedding: Near to this vector, instead of an item.
        timeout_s: Seconds until an answer; None is the client's own.
    """

    item_id: str | None = None
    _: KW_ONLY
    embedding: Embedding | None = None
    timeout_s: float | None = None


def reads_files(search: Search) -> bool:
    """Tell whether an image of the search is a path. Raises InvalidInput for queries that are none."""
    images = [search.image, *(query.image for query in _several(search, "") or ())]
    return any(isinstance(image, str | os.PathLike) for image in images)


def routed(search: Search, path: str = "", max_image_bytes: int = 0) -> router_pb2.SearchRequest:
    """Make the Router's message of a search. It reads images: call it in a thread. Raises InvalidInput.

    `path` is the search's own in a batch: "searches[3]".
    """
    with building(path or "search"):
        return router_pb2.SearchRequest(
            collection=search.collection,
            queries=[
                query_message(query, f"{_below(path, 'queries')}[{number}]", max_image_bytes)
                for number, query in enumerate(_queries(search, path))
            ],
            **_options(search),
        )


def stored(search: Search | StoredSearch, collection: str, path: str = "") -> search_pb2.SearchRequest:
    """Make the store's message of a search: the store knows no text and no image. Raises InvalidInput."""
    with building(path or "search"):
        return search_pb2.SearchRequest(
            collection=collection,
            legs=[
                leg_message(query, f"{_below(path, 'legs')}[{number}]")
                for number, query in enumerate(_queries(search, path))
            ],
            **_options(search),
        )


def _below(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _queries(search: Search | StoredSearch, path: str) -> list[Query]:
    """Return the queries of a search, named where they are several. Raises InvalidInput where there are none."""
    kinds = OF_THE_STORE if isinstance(search, StoredSearch) else tuple(KINDS)
    if one_of(search, (*kinds, "queries"), path or "search") != "queries":
        return [_alone(search, path or "search")]
    queries = _several(search, path)
    if not queries:
        field = _below(path, "queries")
        raise InvalidInput(Reason.QUERY_INVALID, f"{field} has nothing to be near to: give one at least", field=field)
    if search.text_fields:
        field = _below(path, "text_fields")
        raise InvalidInput(Reason.QUERY_INVALID, f"{field} goes with words: give it to a query of these", field=field)
    if search.space and all(query.words is not None for query in queries):
        field = _below(path, "space")
        raise InvalidInput(
            Reason.QUERY_INVALID, f"{field} does not belong here: words lie in no space: leave it out", field=field
        )
    placed = [
        query if query.words is not None else replace(query, space=query.space or search.space) for query in queries
    ]
    return named(placed)


def _several(search: Search | StoredSearch, path: str) -> list[Query] | None:
    """Return the list of queries, None where there is no list. Raises InvalidInput where it holds something else."""
    given = search.queries
    if given is None:
        return None
    if isinstance(given, Query | str):
        given = [given]
    if not isinstance(given, Sequence) or not all(isinstance(query, Query | str) for query in given):
        field = _below(path, "queries")
        raise InvalidInput(Reason.QUERY_INVALID, f"{field} is no list of queries and texts: give one", field=field)
    return [query if isinstance(query, Query) else Query(query) for query in given]


def _alone(search: Search | StoredSearch, path: str) -> Query:
    """Return the query of a search that has one, without the others' list."""
    if isinstance(search, StoredSearch):
        return Query(
            item_id=search.item_id,
            embedding=search.embedding,
            words=search.words,
            text_fields=search.text_fields,
            perceptual_hash=search.perceptual_hash,
            space=search.space,
        )
    embedding = search.embedding
    if search.space_id and (embedding is None or isinstance(embedding, Embedding)):
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{path}: space_id goes with an embedding that is numbers alone; an Embedding names its own space",
            field=path,
        )
    if embedding is not None and not isinstance(embedding, Embedding):
        embedding = Embedding(embedding, search.space_id)  # type: ignore[arg-type]  # numpy makes an array of it
    return Query(
        search.text,
        search.image,
        search.item_id,
        embedding,
        words=search.words,
        text_fields=search.text_fields,
        perceptual_hash=search.perceptual_hash,
        by_hash=search.by_hash,
        space=search.space,
    )


def _options(search: SearchOptions) -> dict[str, Any]:
    """Return the fields that the messages of the Router and of the store both have."""
    return {
        "filter": None if search.filter is None else parse_filter(search.filter),
        "limit": search.limit,
        "offset": search.offset,
        "min_score": search.min_score,
        "min_relevance": search.min_relevance,
        "tuning": search_pb2.SearchTuning(exact=True) if search.exact else None,
        "fusion": ranking.fusion(search.fusion, search.rrf_k),
        "group_by": ranking.group_by(search.group_by),
        "read": read_options(search.with_vectors),
        "diversity": ranking.diversity(search.diversity),
        "partial": search.partial,
    }


def read_options(with_vectors: bool, with_local_features: bool = False) -> search_pb2.ReadOptions:
    """Say how items come back: with their vectors' numbers, with their local features, or without."""
    return search_pb2.ReadOptions(
        view=search_pb2.ITEM_VIEW_FULL if with_vectors else search_pb2.ITEM_VIEW_BASIC,
        local_features=with_local_features,
    )
