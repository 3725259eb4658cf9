"""Searches as values, for several at once, and their messages."""

from __future__ import annotations

from dataclasses import dataclass

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building, check_text
from lensmesh_client.images import ImageLike, image_bytes
from lensmesh_client.types import Embedding


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One search of several: exactly one of `text`, `image`, `item_id` and `embedding` says what to be near to."""

    text: str | None = None
    """What the image shows, in words."""
    image: ImageLike | None = None
    """An image like this one."""
    item_id: str | None = None
    """An image like this item's; the item itself is no hit."""
    embedding: Embedding | None = None
    """A vector of the caller's own."""
    collection: str = ""
    """Its name; empty means the mesh's default."""
    space: str = ""
    """The collection's name for the space to look in; empty means its first."""
    filter: FilterLike | None = None
    """Which items may be found, as in `Client.search`; None means all."""
    limit: int = 10
    offset: int = 0
    """How many of the best to leave out first."""
    min_score: float | None = None
    """Leave out hits below it."""
    exact: bool = False
    """Compare with every item instead of asking the index."""
    with_vectors: bool = False
    """Read the hits' vectors as well."""


def read_options(with_vectors: bool) -> search_pb2.ReadOptions:
    """Say how items come back: without their vectors' numbers, or with these."""
    return search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL if with_vectors else search_pb2.ITEM_VIEW_BASIC)


def tuning(exact: bool) -> search_pb2.SearchTuning | None:
    """Say how hard to look; None for the service's default."""
    return search_pb2.SearchTuning(exact=True) if exact else None


def routed(search: Search, path: str, max_image_bytes: int = 0) -> router_pb2.SearchRequest:
    """Make the Router's message of a search. It reads the image: call it in a thread. Raises InvalidInput."""
    with building(path):
        _check_one(search, path, ("text", "image", "item_id", "embedding"))
        query = router_pb2.Query(space=check_text(search.space, f"{path}.space", Reason.SPACE_UNKNOWN))
        if search.text is not None:
            query.text = check_text(search.text, f"{path}.text")
        if search.image is not None:
            query.image.content = image_bytes(search.image, f"{path}.image", max_image_bytes)
        if search.item_id is not None:
            query.item_id = check_text(search.item_id, f"{path}.item_id", Reason.ITEM_ID_INVALID)
        if search.embedding is not None:
            query.embedding.CopyFrom(_embedding(search.embedding, path))
        return router_pb2.SearchRequest(
            collection=search.collection,
            queries=[query],
            filter=None if search.filter is None else parse_filter(search.filter),
            limit=search.limit,
            offset=search.offset,
            min_score=search.min_score,
            tuning=tuning(search.exact),
            read=read_options(search.with_vectors),
        )


def stored(search: Search, collection: str, path: str) -> search_pb2.SearchRequest:
    """Make the store's message of a search: the store knows no text and no image. Raises InvalidInput."""
    with building(path):
        if search.text is not None or search.image is not None:
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{path} has a text or an image, and the store knows no model: use Client.search, or embed it first",
                field=path,
            )
        _check_one(search, path, ("item_id", "embedding"))
        leg = search_pb2.SearchLeg(space=check_text(search.space, f"{path}.space", Reason.SPACE_UNKNOWN))
        if search.item_id is not None:
            leg.item_id = check_text(search.item_id, f"{path}.item_id", Reason.ITEM_ID_INVALID)
        if search.embedding is not None:
            leg.embedding.CopyFrom(_embedding(search.embedding, path))
        return search_pb2.SearchRequest(
            collection=collection,
            legs=[leg],
            filter=None if search.filter is None else parse_filter(search.filter),
            limit=search.limit,
            offset=search.offset,
            min_score=search.min_score,
            tuning=tuning(search.exact),
            read=read_options(search.with_vectors),
        )


def _check_one(search: Search, path: str, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(search, name) is not None]
    if len(given) != 1:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{path} takes exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}",
            field=path,
        )


def _embedding(embedding: Embedding, path: str) -> common_pb2.Embedding:
    from lensmesh_client import vectors

    return vectors.embedding(embedding.vector, check_text(embedding.space_id, f"{path}.embedding.space_id"))
