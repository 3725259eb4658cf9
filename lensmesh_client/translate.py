"""Between the contracts' messages and the client's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf import struct_pb2, timestamp_pb2

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import types
from lensmesh_client.hashes import hash_of
from lensmesh_client.local_features import LocalFeatures, features_of
from lensmesh_client.metadata import LARGEST_INTEGER

OUTCOMES = {
    search_pb2.UPSERT_OUTCOME_CREATED: types.Outcome.CREATED,
    search_pb2.UPSERT_OUTCOME_UPDATED: types.Outcome.UPDATED,
    search_pb2.UPSERT_OUTCOME_UNCHANGED: types.Outcome.UNCHANGED,
    search_pb2.UPSERT_OUTCOME_SKIPPED: types.Outcome.SKIPPED,
}
POLICIES = {
    types.Captions.BEST_EFFORT: router_pb2.CAPTION_POLICY_BEST_EFFORT,
    types.Captions.REQUIRED: router_pb2.CAPTION_POLICY_REQUIRED,
    types.Captions.NONE: router_pb2.CAPTION_POLICY_NONE,
}
NEAR_ACTIONS = {
    types.NearAction.STORE: router_pb2.NEAR_DUPLICATE_ACTION_STORE,
    types.NearAction.MARK: router_pb2.NEAR_DUPLICATE_ACTION_MARK,
    types.NearAction.SKIP: router_pb2.NEAR_DUPLICATE_ACTION_SKIP,
}
METADATA_POLICIES = {
    types.MetadataPolicy.MERGE: search_pb2.METADATA_POLICY_MERGE,
    types.MetadataPolicy.REPLACE: search_pb2.METADATA_POLICY_REPLACE,
}
CHANGES = {
    search_pb2.ITEM_CHANGE_CONTENT: types.Change.CONTENT,
    search_pb2.ITEM_CHANGE_VECTORS: types.Change.VECTORS,
    search_pb2.ITEM_CHANGE_CAPTION: types.Change.CAPTION,
    search_pb2.ITEM_CHANGE_METADATA: types.Change.METADATA,
    search_pb2.ITEM_CHANGE_IMAGE_URI: types.Change.IMAGE_URI,
    search_pb2.ITEM_CHANGE_LOCAL_FEATURES: types.Change.LOCAL_FEATURES,
}
PRIORITIES = {
    types.Priority.INTERACTIVE: common_pb2.PRIORITY_INTERACTIVE,
    types.Priority.BULK: common_pb2.PRIORITY_BULK,
}
TRANSPARENCIES = {
    types.Transparency.DROP: common_pb2.TRANSPARENCY_POLICY_DROP,
    types.Transparency.WHITE: common_pb2.TRANSPARENCY_POLICY_WHITE,
}


def plain(value: struct_pb2.Value) -> object:
    """Translate a Value into Python; whole numbers become int."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: plain(inner) for key, inner in value.struct_value.fields.items()}
    if kind == "list_value":
        return [plain(inner) for inner in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= LARGEST_INTEGER else number
    if kind == "bool_value":
        return value.bool_value
    return value.string_value if kind == "string_value" else None


def moment(message: timestamp_pb2.Timestamp) -> datetime:
    """Translate a time, with time zone UTC."""
    return message.ToDatetime(tzinfo=UTC)


def caption(message: common_pb2.Caption) -> types.Caption:
    """Translate a caption."""
    return types.Caption(message.text, message.confidence, message.token_count, message.truncated, message.model)


def timings(message: common_pb2.Timings) -> types.Timings:
    """Translate timings."""
    return types.Timings(
        message.queue_us, message.preprocess_us, message.compute_us, message.total_us, message.batch_size
    )


def ingested(item: router_pb2.IngestedItem, index: int, ref: str) -> types.IngestResult:
    """Translate a durable item."""
    return types.IngestResult(
        index=index,
        ref=ref,
        id=item.id,
        outcome=OUTCOMES.get(item.outcome),
        caption=caption(item.caption) if item.HasField("caption") else None,
        caption_error=from_status(item.caption_error) if item.HasField("caption_error") else None,
        encode=timings(item.encode),
        describe=timings(item.describe),
        store_us=item.store_us,
        # A newer router may know of changes that this client has no word for.
        changes=tuple(CHANGES[change] for change in item.changes if change in CHANGES),
        low_content=item.low_content,
        fully_transparent=item.fully_transparent,
        near_duplicate=types.NearDuplicate(item.near_duplicate.id, item.near_duplicate.distance)
        if item.HasField("near_duplicate")
        else None,
        tags={tag.label: tag.probability for tag in item.tags},
    )


def perceptual_hash(message: encoder_pb2.EncodeResult | search_pb2.Item) -> types.PerceptualHash | None:
    """Translate the perceptual hash of an image; None where there is none."""
    if not message.HasField("perceptual_hash"):
        return None
    return hash_of(message.perceptual_hash)


def local_features(message: encoder_pb2.EncodeResult) -> LocalFeatures | None:
    """Translate the local features of an image; None where there are none, or of a kind not known here."""
    return features_of(message.local_features) if message.HasField("local_features") else None


def captioned(answer: caption_pb2.CaptionResult | LensmeshError, index: int = 0) -> types.CaptionResult:
    """Translate a caption's result; an error of the client's own becomes a result."""
    if isinstance(answer, LensmeshError):
        return types.CaptionResult(error=answer, index=index)
    times = timings(answer.timings)
    if answer.WhichOneof("outcome") == "caption":
        return types.CaptionResult(caption=caption(answer.caption), timings=times, index=index)
    return types.CaptionResult(error=from_status(answer.error), timings=times, index=index)


def classified(answer: encoder_pb2.Classification | LensmeshError, labels: Sequence[str]) -> types.ClassifyResult:
    """Translate a classification, its numbers with their labels."""
    if isinstance(answer, LensmeshError):
        return types.ClassifyResult(error=answer)
    times = timings(answer.timings)
    if answer.WhichOneof("outcome") != "scores":
        return types.ClassifyResult(error=from_status(answer.error), timings=times)
    scores = answer.scores
    found = {each.label: each.probability for each in scores.best} or dict(
        zip(labels, scores.probabilities, strict=False)
    )
    return types.ClassifyResult(found, timings=times, truncated_labels=answer.truncated_label_count)
