"""Searches as values, and their messages. Here, and only here, stands what a search takes."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import queries
from lensmesh_client.arguments import described
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building
from lensmesh_client.images import ImageLike
from lensmesh_client.queries import Query
from lensmesh_client.types import Embedding

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SearchOptions:
    """What every search takes, whatever it is near to.

    Args:
        collection: Its name; empty means the mesh's default.
        space: The collection's name for the space to look in; empty means its first.
        filter: Which items may be found: "key=value", "key>=3" and so on, several of these, all of which must hold,
            or a contract's Filter. None means all.
        limit: How many hits, up to `Limits.max_hits`.
        offset: How many of the best to leave out first.
        min_score: Leave out hits below it.
        exact: Compare with every item instead of asking the index.
        with_vectors: Read the hits' vectors as well.
    """

    collection: str = ""
    space: str = ""
    filter: FilterLike | None = None
    limit: int = 10
    offset: int = 0
    min_score: float | None = None
    exact: bool = False
    with_vectors: bool = False


@described
@dataclass(frozen=True, slots=True, eq=False)
class Search(SearchOptions):
    """One search: exactly one of `text`, `image`, `item_id` and `embedding` says what to be near to.

    Args:
        text: What the image shows, in words.
        image: An image like this one.
        item_id: An image like this item's; the item itself is no hit.
        embedding: A vector of the caller's own: an `Embedding`, or numbers of shape (d,) of the space `space_id`.
        space_id: The space of an embedding that is numbers alone (`Embeddings.space_id`).
    """

    text: str | None = None
    image: ImageLike | None = None
    item_id: str | None = None
    embedding: Embedding | ArrayLike | None = None
    space_id: str = ""

    @property
    def reads_files(self) -> bool:
        """Whether an image is a path."""
        return isinstance(self.image, str | os.PathLike)

    def asked(self, path: str) -> Query:
        """Return the query. Raises InvalidInput where there is none, or more than one."""
        queries.one_of(self, tuple(queries.KINDS), path)
        embedding = self.embedding
        if self.space_id and (embedding is None or isinstance(embedding, Embedding)):
            raise InvalidInput(
                Reason.OPTION_INVALID,
                f"{path}: space_id goes with an embedding that is numbers alone; an Embedding names its own space",
                field=path,
            )
        if embedding is not None and not isinstance(embedding, Embedding):
            embedding = Embedding(embedding, self.space_id)  # type: ignore[arg-type]  # numpy makes an array of it
        return Query(self.text, self.image, self.item_id, embedding, space=self.space)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TimedSearch(Search):
    """What `Client.search` takes.

    Args:
        timeout_s: Seconds until an answer; None is the client's own.
    """

    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StoredSearch(SearchOptions):
    """What `ItemCalls.search` takes.

    Args:
        item_id: Near to this item; the item itself is no hit.
        embedding: Near to this vector, instead of an item.
        timeout_s: Seconds until an answer; None is the client's own.
    """

    item_id: str | None = None
    _: KW_ONLY
    embedding: Embedding | None = None
    timeout_s: float | None = None

    def asked(self, path: str) -> Query:
        """Return the query. Raises InvalidInput where there is none, or more than one."""
        queries.one_of(self, queries.OF_THE_STORE, path)
        return Query(item_id=self.item_id, embedding=self.embedding, space=self.space)


def routed(search: Search, path: str = "", max_image_bytes: int = 0) -> router_pb2.SearchRequest:
    """Make the Router's message of a search. It reads the image: call it in a thread. Raises InvalidInput.

    `path` is the search's own in a batch: "searches[3]".
    """
    with building(path or "search"):
        query = search.asked(path or "search")
        return router_pb2.SearchRequest(
            collection=search.collection,
            queries=[queries.routed(query, _below(path, "queries[0]"), max_image_bytes)],
            **_options(search),
        )


def stored(search: Search | StoredSearch, collection: str, path: str = "") -> search_pb2.SearchRequest:
    """Make the store's message of a search: the store knows no text and no image. Raises InvalidInput."""
    with building(path or "search"):
        query = search.asked(path or "search")
        return search_pb2.SearchRequest(
            collection=collection, legs=[queries.leg(query, _below(path, "legs[0]"))], **_options(search)
        )


def _below(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _options(search: SearchOptions) -> dict[str, Any]:
    """Return the fields that the messages of the Router and of the store both have."""
    return {
        "filter": None if search.filter is None else parse_filter(search.filter),
        "limit": search.limit,
        "offset": search.offset,
        "min_score": search.min_score,
        "tuning": search_pb2.SearchTuning(exact=True) if search.exact else None,
        "read": read_options(search.with_vectors),
    }


def read_options(with_vectors: bool) -> search_pb2.ReadOptions:
    """Say how items come back: without their vectors' numbers, or with these."""
    return search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL if with_vectors else search_pb2.ITEM_VIEW_BASIC)
