"""Messages that the client's arguments become. Wrong combinations raise InvalidInput before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate
from lensmesh_client.guard import building, check_text
from lensmesh_client.types import Captions, MetadataPolicy, NearAction, NearDuplicates, Priority, Tags, Transparency

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
    tags: Tags | Sequence[str] | None = None,
    near: NearDuplicates | NearAction | str | None = None,
    local_features: bool = False,
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
        tags=None if tags is None else tag_options(tags),
        near_duplicates=None if near is None else near_options(near),
        local_features=local_features,
    )


def near_options(near: NearDuplicates | NearAction | str) -> router_pb2.NearDuplicateOptions:
    """Make the options of near-duplicates; of an action alone, with the defaults. Raises InvalidInput."""
    asked = near if isinstance(near, NearDuplicates) else NearDuplicates(near)
    return router_pb2.NearDuplicateOptions(
        action=chosen("near_duplicates.action", asked.action, NearAction, translate.NEAR_ACTIONS),
        max_distance=asked.max_distance,
        field=check_text(asked.field, "options.near_duplicates.field"),
    )


def tag_options(tags: Tags | Sequence[str]) -> router_pb2.TagOptions:
    """Make the options of tags; of labels alone, with the defaults. Raises InvalidInput for what cannot be labels."""
    asked = tags if isinstance(tags, Tags) else Tags(tags)
    return router_pb2.TagOptions(
        labels=label_texts(asked.labels, "options.tags.labels"),
        templates=sentences(asked.templates, "options.tags.templates"),
        field=check_text(asked.field, "options.tags.field"),
        min_probability=asked.min_probability,
        max_tags=asked.max_tags,
        space=check_text(asked.space, "options.tags.space"),
    )


def label_texts(labels: Iterable[str], field: str = "labels") -> list[str]:
    """Return labels as a list. Raises InvalidInput for one text in place of several, and for two that are alike."""
    words = sentences(labels, field)
    places: dict[str, int] = {}
    for index, word in enumerate(words):
        if places.setdefault(word, index) != index:
            raise InvalidInput(
                Reason.OPTION_INVALID,
                f"{field}[{index}] is the same as {field}[{places[word]}]: send each once",
                field=f"{field}[{index}]",
            )
    return words


def sentences(texts: Iterable[str], field: str) -> list[str]:
    """Return texts as a list. Raises InvalidInput for one text in place of several."""
    if isinstance(texts, str):
        raise InvalidInput(Reason.OPTION_INVALID, f"{field} is one text: give a list of them", field=field)
    with building(field):
        return [check_text(text, f"{field}[{index}]") for index, text in enumerate(texts)]


def images(contents: Sequence[bytes]) -> list[common_pb2.Image]:
    """Make one Image message for each file."""
    return [common_pb2.Image(content=content) for content in contents]
