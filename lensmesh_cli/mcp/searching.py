"""The tools that find images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp.types import CallToolResult
from pydantic import Field

from lensmesh_cli.mcp.access import MeshAccess
from lensmesh_cli.mcp.failures import Refused
from lensmesh_cli.mcp.hits import SearchAnswer, answer
from lensmesh_cli.search.asked import MOST_QUERIES

if TYPE_CHECKING:
    from lensmesh_client import Query

MOST_HITS, MOST_OFFSET = 50, 10_000
TEXT_CHARS, FILTER_CHARS = 10_000, 20_000
MOST_FILTERS = 32

Text = Annotated[str, Field(max_length=TEXT_CHARS)]
Also = Annotated[
    list[Text],
    Field(
        max_length=MOST_QUERIES,
        description="Further descriptions that count as much. All queries of a call make one ranking; 8 at most.",
    ),
]
Without = Annotated[
    list[Text],
    Field(
        max_length=MOST_QUERIES,
        description="What the images shall not show, one thing each: images that show it go down in the ranking.",
    ),
]
Filters = Annotated[
    list[Annotated[str, Field(max_length=FILTER_CHARS)]],
    Field(
        max_length=MOST_FILTERS,
        description='Conditions on metadata, all of which must hold: key=value, key!=value, key>=3, key<3, key=["a", '
        '"b"] (one of these), key=* (is there), key=~words (holds these words). facets tells keys and values.',
    ),
]
MinRelevance = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        description="Leave out images below this relevance: 0.5 keeps those that fit. Null: keep all. Only of "
        "calibrated collections, which status tells.",
    ),
]
Limit = Annotated[int, Field(ge=1, le=MOST_HITS, description="Most images to return.")]
Offset = Annotated[int, Field(ge=0, le=MOST_OFFSET, description="How many of the best to leave out, for a next page.")]
Collection = Annotated[
    str, Field(max_length=100, description="The collection's name; status lists them. Empty: the default.")
]
Thumbnails = Annotated[
    bool, Field(description="Return small images beside the text, where they can be had. False saves context.")
]
ImagePath = Annotated[
    str,
    Field(
        max_length=4096,
        description="Path of an image file below a folder that this server may read (status lists them); absolute, or "
        "relative to such a folder.",
    ),
]
ImageBase64 = Annotated[
    str, Field(description="The image file itself (JPEG, PNG, WebP, GIF, TIFF or BMP) in base64, instead of path.")
]
ItemId = Annotated[str, Field(min_length=1, max_length=2048, description="The id of a stored image, from a search.")]

SEARCH = (
    "Find stored images by what they show, by words of their captions, or by both. Use query for a description in "
    "plain words, such as 'a red bicycle against a wall'; the best matches come first even where nothing fits well, so "
    "look at captions, thumbnails and relevance before you rely on them. Use caption_words where exact words count."
)
SEARCH_BY_IMAGE = (
    "Find stored images that look like a given one, or with same=true only copies of it (re-encoded, scaled, framed). "
    "Words can be given as well: also adds what the images shall show, without what they shall not."
)
SIMILAR = "Find stored images like one that is stored: more like this. The image itself is no hit."


class SearchTools:
    """Tools that search."""

    def __init__(self, mesh: MeshAccess) -> None:
        self._mesh = mesh

    async def search(
        self,
        query: Annotated[Text, Field(description="What the image shows, in plain words.")] = "",
        also: Also = [],  # noqa: B006  # read by the SDK as the schema's default, and never changed
        without: Without = [],  # noqa: B006  # likewise
        caption_words: Annotated[
            Text,
            Field(
                description="Words that the caption holds. Words in quotation marks stand side by side; bri* is any "
                "word that begins so."
            ),
        ] = "",
        filters: Filters = [],  # noqa: B006  # likewise
        min_relevance: MinRelevance = None,
        limit: Limit = 10,
        offset: Offset = 0,
        collection: Collection = "",
        thumbnails: Thumbnails = True,
    ) -> Annotated[CallToolResult, SearchAnswer]:
        """Find images by words."""
        from lensmesh_client import Query

        queries = [Query(text) for text in ([query] if query.strip() else []) + also]
        if caption_words.strip():
            queries.append(Query(words=caption_words))
        if not queries:
            beside = " beside without" if without else ""
            raise Refused(f"say what to find{beside}: give query, also or caption_words", "QUERY_INVALID")
        return await self._found(
            queries, without, thumbnails, filter=filters or None, min_relevance=min_relevance, limit=limit,
            offset=offset, collection=collection,
        )  # fmt: skip

    async def search_by_image(
        self,
        path: ImagePath = "",
        image_base64: ImageBase64 = "",
        same: Annotated[
            bool, Field(description="Find only copies of this very image, and nothing that merely shows the like.")
        ] = False,
        also: Also = [],  # noqa: B006  # likewise
        without: Without = [],  # noqa: B006  # likewise
        filters: Filters = [],  # noqa: B006  # likewise
        min_relevance: MinRelevance = None,
        limit: Limit = 10,
        offset: Offset = 0,
        collection: Collection = "",
        thumbnails: Thumbnails = True,
    ) -> Annotated[CallToolResult, SearchAnswer]:
        """Find images by an image."""
        from lensmesh_client import Query

        image = await self._mesh.image(path, image_base64)
        queries = [Query(image=image, by_hash=same), *map(Query, also)]
        return await self._found(
            queries, without, thumbnails, filter=filters or None, min_relevance=min_relevance, limit=limit,
            offset=offset, collection=collection,
        )  # fmt: skip

    async def similar(
        self,
        id: ItemId,
        without: Without = [],  # noqa: B006  # likewise
        filters: Filters = [],  # noqa: B006  # likewise
        min_relevance: MinRelevance = None,
        limit: Limit = 10,
        offset: Offset = 0,
        collection: Collection = "",
        thumbnails: Thumbnails = True,
    ) -> Annotated[CallToolResult, SearchAnswer]:
        """Find images like a stored one."""
        from lensmesh_client import Query

        return await self._found(
            [Query(item_id=id)], without, thumbnails, filter=filters or None, min_relevance=min_relevance, limit=limit,
            offset=offset, collection=collection,
        )  # fmt: skip

    async def _found(
        self, queries: list[Query], without: list[str], thumbnails: bool, **options: Any
    ) -> CallToolResult:
        from lensmesh_client import Query

        queries += [Query(text, weight=-1.0) for text in without]
        if len(queries) > MOST_QUERIES:
            raise Refused(f"{len(queries)} queries were given, and a search takes {MOST_QUERIES}", "QUERY_INVALID")
        found = await self._mesh.client.search(queries=queries, partial=len(queries) > 1, **options)
        hits = found.hits
        return answer(found, await self._mesh.thumbnails.of(hits) if thumbnails else [None] * len(hits))
