"""What a search asks, as JSON and as a query string."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from http_svc.rest.asked import Asked, AskedInQuery
from http_svc.rest.filters import DESCRIPTION
from http_svc.rest.sources import ImageSource

_UINT32 = 2**32 - 1
Limit = Annotated[int | None, Field(ge=1, le=_UINT32, description="Hits at most; 10 unless set.")]
Offset = Annotated[int, Field(ge=0, le=_UINT32, description="How many of the best to leave out first.")]
Part01 = Annotated[float | None, Field(ge=0, le=1)]


class QueryBody(Asked):
    """A thing to be near to: exactly one of text, words, image, id and vector."""

    name: Annotated[str, Field(description="Named in `legs` of hits; its kind unless given.")] = ""
    text: Annotated[str | None, Field(description="What the image shows, in words.")] = None
    words: Annotated[str | None, Field(description="Words that the caption holds.")] = None
    image: Annotated[ImageSource | None, Field(description="An image like this one.")] = None
    id: Annotated[str | None, Field(description="An image like this stored one.")] = None
    vector: Annotated[list[float] | None, Field(min_length=1, description="A vector of the caller's own.")] = None
    space_id: Annotated[str, Field(description="The space of `vector`; the collection's, unless given.")] = ""
    weight: Annotated[float, Field(description="What it counts; below 0 it pushes away.")] = 1.0
    space: Annotated[str, Field(description="The collection's name for the space to look in.")] = ""
    by_hash: Annotated[bool, Field(description="Find what looks the same as `image`.")] = False
    text_fields: Annotated[list[str], Field(default_factory=list, description="Fields whose words count.")]


class GroupByBody(Asked):
    """At most `size` hits for each combination of the values of some fields."""

    fields: list[str]
    size: Annotated[int, Field(ge=1, le=_UINT32)] = 1


class FusionBody(Asked):
    """How several queries become one score."""

    method: Literal["rrf", "weighted"] = "rrf"
    k: Annotated[int, Field(ge=0, le=_UINT32)] = 0


class SearchBody(Asked):
    """A search."""

    collection: str = ""
    queries: Annotated[list[QueryBody], Field(default_factory=list, max_length=64)]
    filter: Annotated[dict[str, Any] | list[str] | str | None, Field(description=DESCRIPTION)] = None
    limit: Limit = None
    offset: Offset = 0
    group_by: GroupByBody | None = None
    diversity: Part01 = None
    min_relevance: Part01 = None
    min_score: float | None = None
    fusion: FusionBody | None = None
    partial: Annotated[bool, Field(description="Leave out queries that cannot be answered just now.")] = False


class RankedQuery(AskedInQuery):
    """What all searches of a query string take."""

    commas: ClassVar[frozenset[str]] = frozenset({"group_by"})

    collection: str = ""
    limit: Limit = None
    offset: Offset = 0
    min_relevance: Part01 = None
    min_score: float | None = None
    group_by: Annotated[list[str], Field(default_factory=list, description="Fields, with commas between them.")]
    group_size: Annotated[int, Field(ge=1, le=_UINT32, description="Hits of each group.")] = 1
    diversity: Part01 = None
    filter: Annotated[list[str], Field(default_factory=list, description=DESCRIPTION)]
    partial: bool = False


class SearchQuery(RankedQuery):
    """A search by the query string."""

    q: Annotated[list[str], Field(default_factory=list, description="What the image shows; may repeat.")]
    words: Annotated[list[str], Field(default_factory=list, description="Words that the caption holds; may repeat.")]
    not_: Annotated[
        list[str], Field(default_factory=list, alias="not", description="What it shall not show; may repeat.")
    ]
    like: Annotated[list[str], Field(default_factory=list, description="Ids of images like it; may repeat.")]


class SimilarQuery(RankedQuery):
    """A search near to a stored image."""

    space: str = ""
