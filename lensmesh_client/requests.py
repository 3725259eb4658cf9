"""What the client's arguments become on the wire. Wrong combinations raise InvalidInput before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate
from lensmesh_client.guard import check_text
from lensmesh_client.images import ImageLike, image_bytes
from lensmesh_client.types import Captions, MetadataPolicy, Priority, Transparency

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Word = TypeVar("Word", bound=StrEnum)
Number = TypeVar("Number")


def priority(value: Priority | str | None) -> common_pb2.Priority.ValueType:
    """Return the contract's enum value. Raises InvalidInput for a word it does not know."""
    if value is None:
        return common_pb2.PRIORITY_UNSPECIFIED
    return chosen("priority", value, Priority, translate.PRIORITIES)


def transparency(value: Transparency | str | None) -> common_pb2.TransparencyPolicy.ValueType:
    """Return the contract's enum value. Raises InvalidInput for a word it does not know."""
    if value is None:
        return common_pb2.TRANSPARENCY_POLICY_UNSPECIFIED
    return chosen("transparency", value, Transparency, translate.TRANSPARENCIES)


def chosen(name: str, value: str, words: type[Word], numbers: Mapping[Word, Number]) -> Number:
    """Return the contract's number for one of `words`. Raises InvalidInput for a word that is none of them."""
    try:
        return numbers[words(value)]
    except ValueError as error:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"{name} is {str(value)!r}: use one of {', '.join(words)}", field=f"options.{name}"
        ) from error


def ingest_options(
    collection: str,
    policy: Captions | str,
    prompt: str,
    max_tokens: int,
    spaces: Sequence[str],
    who: Priority | str | None,
    metadata: MetadataPolicy | str,
    policy_of_alpha: Transparency | str | None = None,
    deferred_index: bool = False,
) -> router_pb2.IngestOptions:
    """Make the options of one call or one stream."""
    steered = prompt or max_tokens
    return router_pb2.IngestOptions(
        collection=collection,
        captions=chosen("captions", policy, Captions, translate.POLICIES),
        caption_options=caption_pb2.CaptionOptions(prompt=prompt, max_tokens=max_tokens) if steered else None,
        priority=priority(who),
        spaces=spaces,
        metadata_policy=chosen("metadata", metadata, MetadataPolicy, translate.METADATA_POLICIES),
        transparency=transparency(policy_of_alpha),
        deferred_index=deferred_index,
    )


def query(
    text: str | None,
    image: ImageLike | None,
    item_id: str | None,
    embedding: ArrayLike | None,
    space_id: str,
    space: str,
    max_image_bytes: int = 0,
) -> router_pb2.Query:
    """Make the one query of a search. It reads the image, of `max_image_bytes` at most: call it in a thread."""
    named = {"text": text, "image": image, "item_id": item_id, "embedding": embedding}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"search takes exactly one of {', '.join(named)}; given: {', '.join(given) or 'none'}",
            field="queries",
        )
    message = router_pb2.Query(space=check_text(space, "space", Reason.SPACE_UNKNOWN))
    if text is not None:
        message.text = check_text(text, "queries[0].text")
    if image is not None:
        message.image.content = image_bytes(image, "queries[0].image", max_image_bytes)
    if item_id is not None:
        message.item_id = check_text(item_id, "queries[0].item_id", Reason.ITEM_ID_INVALID)
    if embedding is not None:
        from lensmesh_client import vectors

        message.embedding.CopyFrom(vectors.embedding(embedding, check_text(space_id, "space_id")))
    return message


def images(contents: Sequence[bytes]) -> list[common_pb2.Image]:
    """Make one Image message for each file."""
    return [common_pb2.Image(content=content) for content in contents]
