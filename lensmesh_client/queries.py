"""Queries that are searched for, and their messages for the Router and for the store."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.calibrations import MODALITIES, Modality
from lensmesh_client.guard import check_text
from lensmesh_client.hashes import hash_message
from lensmesh_client.images import ImageLike, image_bytes
from lensmesh_client.requests import chosen
from lensmesh_client.types import Embedding, PerceptualHash

# What a query may be, and how one of that kind is called that has no name.
KINDS = {
    "text": "text",
    "image": "image",
    "item_id": "item",
    "embedding": "embedding",
    "words": "words",
    "perceptual_hash": "hash",
}
# The store knows no model.
OF_THE_STORE = ("item_id", "embedding", "words", "perceptual_hash")


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A thing to be near to, of several: exactly one of these that `KINDS` names.

    Args:
        text: What the image shows, in words.
        image: An image like this one.
        item_id: An image like this item's; the item itself is no hit.
        embedding: A vector of the caller's own.
        words: Words that the caption holds; no model runs. Those in quotation marks stand side by side, and `bri*` is
            any word that begins so.
        text_fields: Metadata fields (of `FieldType.TEXT`) and "$caption" whose words count, instead of the caption's.
        perceptual_hash: Images that look the same as the one of this hash.
        by_hash: Find what looks the same as `image`, and nothing that only shows the like.
        modality: What an embedding was made of, "image" or "text": hits have a relevance only where it is known.
        weight: What it counts in the fusion, beside the others. Below 0 it pushes away what it finds; 0 is refused.
        name: What its scores are called in `Hit.legs`. Empty is its kind, with a number where there are several:
            "text", "text 2", "image", "item", "embedding", "words", "hash".
        space: The collection's name for the space to look in; empty means the search's. Words have none.
    """

    text: str | None = None
    image: ImageLike | None = None
    item_id: str | None = None
    embedding: Embedding | None = None
    _: KW_ONLY
    words: str | None = None
    text_fields: Sequence[str] = ()
    perceptual_hash: PerceptualHash | None = None
    by_hash: bool = False
    modality: Modality | str | None = None
    weight: float = 1.0
    name: str = ""
    space: str = ""


def one_of(value: object, names: Sequence[str], path: str) -> str:
    """Return which one of these attributes is set. Raises InvalidInput where none is, or several are."""
    given = [name for name in names if getattr(value, name, None) is not None]
    if len(given) != 1:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{path} takes exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}",
            field=path,
        )
    return given[0]


def named(queries: Sequence[Query]) -> list[Query]:
    """Return the queries, each with a name where there are several: hits tell by it what each said."""
    if len(queries) < 2:
        return [*queries]
    taken = {query.name for query in queries}
    return [query if query.name else replace(query, name=_free(query, taken)) for query in queries]


def _free(query: Query, taken: set[str]) -> str:
    """Return a name after the query's kind that no other has, and take it."""
    kind = next((name for field, name in KINDS.items() if getattr(query, field) is not None), "query")
    numbered = (f"{kind} {number}" if number > 1 else kind for number in itertools.count(1))
    name = next(name for name in numbered if name not in taken)
    taken.add(name)
    return name


def query_message(query: Query, path: str, max_image_bytes: int = 0) -> router_pb2.Query:
    """Make the Router's message. It reads the image, of `max_image_bytes` at most: call it in a thread."""
    kind = one_of(query, tuple(KINDS), path)
    message = router_pb2.Query()
    if kind == "text":
        message.text = check_text(query.text, f"{path}.text")
    if query.image is not None:
        message.image.content = image_bytes(query.image, f"{path}.image", max_image_bytes)
        message.by_hash = query.by_hash
    elif query.by_hash:
        raise _unfit(f"{path}.by_hash", "a query by an image has it, and no other: leave it out")
    _fill(message, query, path)
    return message


def leg_message(query: Query, path: str) -> search_pb2.SearchLeg:
    """Make the store's message. Raises InvalidInput for a text or an image."""
    if query.text is not None or query.image is not None:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{path} has a text or an image, and the store knows no model: use Client.search, or embed it first",
            field=path,
        )
    one_of(query, OF_THE_STORE, path)
    message = search_pb2.SearchLeg()
    _fill(message, query, path)
    return message


def _fill(message: router_pb2.Query | search_pb2.SearchLeg, query: Query, path: str) -> None:
    message.name = check_text(query.name, f"{path}.name", Reason.QUERY_INVALID)
    message.space = check_text(query.space, f"{path}.space", Reason.SPACE_UNKNOWN)
    if query.perceptual_hash is not None:
        message.perceptual_hash.CopyFrom(hash_message(query.perceptual_hash, f"{path}.perceptual_hash"))
    if query.words is not None:
        message.caption_text = check_text(query.words, f"{path}.words")
        if query.space:
            raise _unfit(f"{path}.space", "words lie in no space: leave it out")
    elif query.text_fields:
        raise _unfit(f"{path}.text_fields", "a query by words has them, and no other: leave them out")
    fields = [query.text_fields] if isinstance(query.text_fields, str) else query.text_fields
    message.text_fields.extend(
        check_text(field, f"{path}.text_fields[{index}]", Reason.QUERY_INVALID) for index, field in enumerate(fields)
    )
    if query.item_id is not None:
        message.item_id = check_text(query.item_id, f"{path}.item_id", Reason.ITEM_ID_INVALID)
    if query.embedding is not None:
        from lensmesh_client import vectors

        space_id = check_text(query.embedding.space_id, f"{path}.embedding.space_id")
        message.embedding.CopyFrom(vectors.embedding(query.embedding.vector, space_id))
        if query.modality is not None:
            message.modality = chosen("modality", query.modality, Modality, MODALITIES)
    elif query.modality is not None:
        raise _unfit(f"{path}.modality", "an embedding has it, and of all else it is known: leave it out")
    if query.weight != 1:
        message.weight = _weight(query.weight, f"{path}.weight")


def _unfit(path: str, why: str) -> InvalidInput:
    return InvalidInput(Reason.QUERY_INVALID, f"{path} does not belong here: {why}", field=path)


def _weight(value: float, path: str) -> float:
    """Return a weight as it travels, float32. Raises InvalidInput for one that counts for nothing, or for all."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidInput(Reason.QUERY_INVALID, f"{path} is {value!r:.40}: give a number", field=path)
    try:
        sent: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        sent = math.inf
    if not math.isfinite(sent) or sent == 0:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{path} is {value}: use a number above 0 (below 0 pushes away), or leave the query out",
            field=path,
        )
    return sent
