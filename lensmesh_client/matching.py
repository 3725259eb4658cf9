"""The client's method that tells which entry of a collection an image shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_client import batches, requests
from lensmesh_client.connection import Connection
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building, check_text
from lensmesh_client.images import ImageLike, image_bytes, listed
from lensmesh_client.matches import MatchResult
from lensmesh_client.searches import read_options
from lensmesh_client.tracing import operation
from lensmesh_client.translate_matches import matched
from lensmesh_client.types import Priority


class MatchCalls:
    """RouterService.MatchImages."""

    _connection: Connection

    @operation("lensmesh match")
    async def match(
        self,
        images: Iterable[ImageLike] | ImageLike,
        *,
        collection: str = "",
        entry_fields: Sequence[str] | str = (),
        filter: FilterLike | None = None,
        space: str = "",
        candidates: int = 0,
        alternatives: int = 0,
        match_threshold: float | None = None,
        unsure_threshold: float | None = None,
        with_vectors: bool = False,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> list[MatchResult]:
        """Tell of each image which entry of a collection it shows, or that it shows none.

        Args:
            images: One image or several. Cut to the server's limits, four calls at a time.
            collection: Its name; empty means the mesh's default.
            entry_fields: Up to 4 metadata fields ("artist", "entry"): items with equal values are views of one entry.
                Without them, each item is an entry.
            filter: Which items may be found: "key=value", several of these, or a contract's Filter. None means all.
            space: The collection's name for the space whose vectors are compared; empty means its first that an
                encoder of the mesh serves.
            candidates: Items that are looked at more closely, up to 100; 0 means 20.
            alternatives: Further entries told beside the best, up to 10.
            match_threshold: Least confidence of a match, 0 to 1; None means 0.8.
            unsure_threshold: Least confidence of "unsure"; None means 0.5, or `match_threshold` where that is less.
            with_vectors: Read the items' vectors as well.
            priority: Who waits; None means interactive.
            timeout_s: Seconds until the answer of each call; None is the client's own.

        Returns:
            One result for each image, in the order given; a bad image has its `error`.

        Raises:
            InvalidInput: The options cannot be used.
            NotFound: There is no such collection.
            PreconditionFailed: No encoder serves the collection's space.
            LensmeshError: Any other failure of a whole call.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        fields = [entry_fields] if isinstance(entry_fields, str) else list(entry_fields)
        with building("match"):
            ask = router_pb2.MatchImagesRequest(
                collection=check_text(collection, "collection"),
                entry_fields=[
                    check_text(field, f"entry_fields[{index}]", Reason.QUERY_INVALID)
                    for index, field in enumerate(fields)
                ],
                filter=None if filter is None else parse_filter(filter),
                space=check_text(space, "space", Reason.SPACE_UNKNOWN),
                candidates=candidates,
                alternatives=alternatives,
                thresholds=router_pb2.MatchThresholds(match=match_threshold, unsure=unsure_threshold),
                read=read_options(with_vectors),
                priority=requests.priority(priority),
            )
        connection = self._connection

        async def ask_for(chunk: list[bytes]) -> Sequence[router_pb2.MatchResult]:
            request = router_pb2.MatchImagesRequest(images=requests.images(chunk))
            request.MergeFrom(ask)
            return (await connection.call(connection.router.MatchImages, request, timeout_s)).results

        load = partial(image_bytes, max_bytes=limits.max_image_bytes)
        within = batches.beside(limits, ask.ByteSize())
        return [matched(answer) for answer in await batches.answers(listed(images), load, ask_for, within, "images")]
