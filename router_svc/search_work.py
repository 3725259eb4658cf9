"""A search on its way to the store, and what has become of each of its queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from router_svc.queries import from_store, to_store
from router_svc.upstreams.images import PackedImage

# What is nobody's mistake, and may be over at the next try: `partial` leaves such a query out.
_PASSING = frozenset(
    {
        Reason.ENCODER_UNAVAILABLE,
        Reason.SPACE_NOT_SERVED,
        Reason.OVERLOADED,
        Reason.DRAINING,
        Reason.NOT_READY,
        Reason.URI_UNREACHABLE,
        Reason.MODEL_FAILED,
        Reason.OUT_OF_MEMORY,
    }
)


@dataclass(slots=True)
class SearchWork:
    """A search on its way to the store."""

    request: router_pb2.SearchRequest
    collection: str
    prefix: str
    """Its path in the caller's request: "" or "searches[3]."."""
    encoded: dict[int, encoder_pb2.EncodeResult] = field(default_factory=dict)
    """By index of the query."""
    spaces: dict[int, str] = field(default_factory=dict)
    """NamedSpace.name, by index of the query."""
    fetched: dict[int, PackedImage] = field(default_factory=dict)
    """Images given by address, by index of the query."""
    encode_us: int = 0
    failed: dict[int, LensmeshError] = field(default_factory=dict)
    """Errors because of which queries are left out, by their index."""
    error: Exception | None = None
    """Error because of which the search as a whole has no answer."""

    @property
    def to_encode(self) -> "list[QueryWork]":
        """The queries in words or by an image."""
        return [
            QueryWork(self, index, query, kind)
            for index, query in enumerate(self.request.queries)
            if (kind := query.WhichOneof("query")) in ("text", "image")
        ]

    @property
    def sent(self) -> list[int]:
        """Indexes of the queries that the store is asked, in order."""
        return [index for index in range(len(self.request.queries)) if index not in self.failed]

    def fail(self, index: int, error: Exception) -> None:
        """Note that a query has no vector. It fails the search, unless it may be left out."""
        if not self.request.partial or not isinstance(error, LensmeshError) or error.reason not in _PASSING:
            self.error = self.error or error
            return
        self.failed[index] = error
        if not any(self.request.queries[each].weight >= 0 for each in self.sent):
            finders = [each for each in sorted(self.failed) if self.request.queries[each].weight >= 0]
            self.error = self.error or self.failed[finders[0]]

    def to_store(self) -> search_pb2.SearchRequest:
        """Write the store's request."""
        return to_store(self.request, self.collection, self.encoded, self.spaces, self.sent)

    def refused(self, error: LensmeshError) -> LensmeshError:
        """Return the store's error as of the caller's request."""
        return from_store(error, self.prefix, self.sent)

    def failed_queries(self, failed_legs: Sequence[search_pb2.FailedLeg]) -> list[search_pb2.FailedLeg]:
        """Return which queries were left out and why, in the order of the request: here, and by the store."""
        names = [query.name for query in self.request.queries]
        errors: dict[str, Exception] = {names[index]: error for index, error in self.failed.items()}
        for leg in failed_legs:
            errors[leg.name] = self.refused(from_status(leg.error))
        return [search_pb2.FailedLeg(name=name, error=to_status(errors[name])) for name in names if name in errors]


@dataclass(slots=True)
class QueryWork:
    """A text or image to encode."""

    search: SearchWork
    index: int
    query: router_pb2.Query
    kind: str
    """ "text" or "image"."""

    @property
    def path(self) -> str:
        """The path of the text or image in the caller's request."""
        return f"{self.search.prefix}queries[{self.index}].{self.kind}"

    @property
    def image(self) -> PackedImage:
        """The image to encode."""
        return self.search.fetched.get(self.index) or PackedImage.of(self.query.image)

    @property
    def may_be_left_out(self) -> bool:
        """True where its search allows it, and asks by another query that is not encoded together with this one."""
        request = self.search.request
        return request.partial and any(
            other.weight >= 0 and _encoded_as(other) != _encoded_as(self.query) for other in request.queries
        )

    @property
    def is_waiting(self) -> bool:
        """True while it is still to be encoded: neither it nor its search has failed."""
        return self.search.error is None and self.index not in self.search.failed

    def fail(self, error: Exception) -> None:
        """Note that it has no vector."""
        self.search.fail(self.index, error)


def _encoded_as(query: router_pb2.Query) -> tuple[str | None, str, bool]:
    """Return what queries have in common that are encoded together."""
    return query.WhichOneof("query"), query.space, query.by_hash
