"""Translation of items between the contract and the domain."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.hashes import PerceptualHash
from search_svc.local_features import LocalFeatures
from search_svc.metadata import MetadataLimits
from search_svc.model import Caption, Definition, Item, Numbers, StoredItem, View
from search_svc.wire.collections import write_time
from search_svc.wire.findings import Findings
from search_svc.wire.hashes import read_hash, write_hash
from search_svc.wire.local_features import WIRE_KINDS, read_features, write_features
from search_svc.wire.structs import MetadataError, TooDeepError, json_to_struct, struct_to_json
from search_svc.wire.vectors import STORED_AS, read_vector, write_vector

MAX_ID_BYTES = 256
_DIGEST_BYTES = 32
# An item with its local features is as large as so many without.
_PLAIN_ITEMS = 3
# So many ids, each with the values of its group (4 KiB at most), are as large as an item.
_IDS = 4
_VIEWS = {
    search_pb2.ITEM_VIEW_UNSPECIFIED: View.BASIC,
    search_pb2.ITEM_VIEW_BASIC: View.BASIC,
    search_pb2.ITEM_VIEW_FULL: View.FULL,
    search_pb2.ITEM_VIEW_ID: View.ID,
}


def check_id(item_id: str, field: str, findings: Findings) -> None:
    """Check that an id has 1 to 256 bytes and no control characters."""
    has_control = not item_id.isprintable() and any(unicodedata.category(c) == "Cc" for c in item_id)
    if not item_id or len(item_id.encode()) > MAX_ID_BYTES or has_control:
        findings.invalid(
            Reason.ITEM_ID_INVALID, field, f"must be 1 to {MAX_ID_BYTES} bytes of UTF-8 without control characters"
        )


def check_ids(ids: Sequence[str], field: str) -> None:
    """Raise InvalidInput with ITEM_ID_INVALID, naming each id that no item can have."""
    findings = Findings()
    for i, item_id in enumerate(ids):
        check_id(item_id, f"{field}[{i}]", findings)
    findings.check()


def read_items(
    messages: Sequence[search_pb2.Item], definition: Definition, *, limits: MetadataLimits, max_text_chars: int
) -> list[Item]:
    """Read and check items.

    Raises:
        InvalidInput: naming every bad item and field.
        PreconditionFailed: SPACE_MISMATCH, if nothing else is wrong.
        InternalFault: INTERNAL, naming each item that could not be read by a fault of this service.
    """
    findings = Findings()
    first: dict[str, int] = {}
    items = []
    for i, message in enumerate(messages):
        field = f"items[{i}]"
        if first.setdefault(message.id, i) != i:
            findings.invalid(
                Reason.ITEM_ID_DUPLICATE, f"{field}.id", f"is also the id of items[{first[message.id]}]", id=message.id
            )
        try:
            items.append(_read_item(message, field, definition, limits, max_text_chars, findings))
        except Exception as error:  # noqa: BLE001 - nobody foresaw it; it is told of its item, so that others can do without
            findings.broken(field, error)
    findings.check()
    return items


def _read_item(
    message: search_pb2.Item,
    field: str,
    definition: Definition,
    limits: MetadataLimits,
    max_text_chars: int,
    findings: Findings,
) -> Item:
    check_id(message.id, f"{field}.id", findings)
    if message.content_digest and len(message.content_digest) != _DIGEST_BYTES:
        findings.invalid(
            Reason.DIGEST_INVALID,
            f"{field}.content_digest",
            f"has {len(message.content_digest)} bytes, and a SHA-256 has {_DIGEST_BYTES}",
        )
    _check_text(message.image_uri, f"{field}.image_uri", max_text_chars, findings)
    return Item(
        id=message.id,
        vectors=_vectors(message, definition, field, findings),
        caption=_caption(message, field, max_text_chars, findings),
        metadata=_metadata(message, f"{field}.metadata", limits, findings),
        image_uri=message.image_uri,
        content_digest=message.content_digest,
        low_content=message.low_content,
        perceptual_hash=_perceptual_hash(message, field, findings),
        local_features=_local_features(message, definition, field, findings),
    )


def _vectors(message: search_pb2.Item, definition: Definition, field: str, findings: Findings) -> dict[str, Numbers]:
    vectors = {}
    for name, embedding in message.vectors.items():
        named = definition.space(name) if name else None
        if named is None:
            known = ", ".join(space.name for space in definition.spaces)
            findings.invalid(
                Reason.SPACE_UNKNOWN,
                f"{field}.vectors.{name[:80]}",
                f"the collection {definition.name} has no space of this name: it has {known}",
            )
            continue
        numbers = read_vector(embedding, named, f"{field}.vectors.{name}", findings)
        if numbers is not None:
            vectors[name] = numbers
    return vectors


def _perceptual_hash(message: search_pb2.Item, field: str, findings: Findings) -> PerceptualHash | None:
    if not message.HasField("perceptual_hash"):
        return None
    return read_hash(message.perceptual_hash, f"{field}.perceptual_hash", findings)


def _local_features(
    message: search_pb2.Item, definition: Definition, field: str, findings: Findings
) -> LocalFeatures | None:
    if not message.HasField("local_features"):
        return None
    return read_features(message.local_features, definition, f"{field}.local_features", findings)


def _caption(message: search_pb2.Item, field: str, max_text_chars: int, findings: Findings) -> Caption | None:
    if not message.HasField("caption"):
        return None
    caption = message.caption
    _check_text(caption.text, f"{field}.caption.text", max_text_chars, findings)
    _check_text(caption.model, f"{field}.caption.model", max_text_chars, findings)
    if not 0 <= caption.confidence <= 1:
        findings.invalid(Reason.METADATA_INVALID, f"{field}.caption.confidence", f"is {caption.confidence}: use 0 to 1")
    return Caption(caption.text, caption.confidence, caption.token_count, caption.truncated, caption.model)


def _check_text(text: str, field: str, max_text_chars: int, findings: Findings) -> None:
    if "\x00" in text:
        findings.invalid(Reason.TEXT_INVALID, field, "contains a NUL character")
    if len(text) > max_text_chars:
        findings.invalid(Reason.TEXT_TOO_LONG, field, f"has {len(text)} characters, and the limit is {max_text_chars}")


def _metadata(message: search_pb2.Item, field: str, limits: MetadataLimits, findings: Findings) -> str:
    try:
        text = struct_to_json(message.metadata, limits.max_depth)
    except TooDeepError:
        findings.invalid(
            Reason.METADATA_TOO_DEEP,
            field,
            f"nests lists and objects more than {limits.max_depth} deep: keep it flatter, or send the inner part as a"
            " string",
            limit=limits.max_depth,
        )
        return "{}"
    except MetadataError as error:
        findings.invalid(Reason.METADATA_INVALID, field, str(error))
        return "{}"
    size = len(text.encode())
    if size > limits.max_bytes:
        findings.invalid(
            Reason.METADATA_TOO_LARGE,
            field,
            f"has {size} bytes as JSON, and the limit is {limits.max_bytes}",
            size_bytes=size,
        )
    return text


def merges_metadata(policy: search_pb2.MetadataPolicy.ValueType) -> bool:
    """Tell whether stored metadata is merged with what a request carries.

    Raises:
        InvalidInput: OPTION_INVALID, a number that the contract does not know.
    """
    if policy not in search_pb2.MetadataPolicy.values():
        raise InvalidInput(
            Reason.OPTION_INVALID, f"metadata_policy is {policy}: use REPLACE or MERGE", field="metadata_policy"
        )
    return policy == search_pb2.METADATA_POLICY_MERGE


@dataclass(frozen=True)
class ItemReading:
    """Options of how items come back, checked."""

    view: View
    data_type: common_pb2.DataType.ValueType
    readable: bool

    def answer_items(self, count: int) -> int:
        """Return how many plain items `count` of these are as large as, about."""
        if self.view == View.ID:
            return -(-count // _IDS)
        return count * (_PLAIN_ITEMS if View.FEATURES in self.view else 1)

    @property
    def less(self) -> str:
        """Advice to a caller whose answer has no room for one item."""
        return "read less with read.view" + (" or without read.local_features" if View.FEATURES in self.view else "")


def read_options(options: search_pb2.ReadOptions) -> ItemReading:
    """Read and check how items come back.

    Raises:
        InvalidInput: OPTION_INVALID, a number that the contract does not know.
    """
    view = _VIEWS.get(options.view)
    if view is None:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"read.view is {options.view}: use BASIC, FULL or ID", field="read.view"
        )
    if options.data_type and options.data_type not in STORED_AS:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"read.data_type is {options.data_type}: use FLOAT32 or FLOAT16",
            field="read.data_type",
        )
    if options.local_features and view is not View.ID:
        view |= View.FEATURES
    return ItemReading(view, options.data_type, options.readable)


def write_item(item: StoredItem, definition: Definition, reading: ItemReading, message: search_pb2.Item) -> None:
    """Fill a message with as much of an item as was read."""
    message.id = item.id
    for named in definition.spaces:
        if named.name in item.vectors:
            embedding = message.vectors[named.name]
            write_vector(embedding, named, item.vectors[named.name], reading.data_type, readable=reading.readable)
    if item.caption is not None:
        caption = message.caption
        caption.SetInParent()
        caption.text = item.caption.text
        caption.confidence = item.caption.confidence
        caption.token_count = item.caption.token_count
        caption.truncated = item.caption.truncated
        caption.model = item.caption.model
    if item.metadata != "{}":
        json_to_struct(item.metadata, message.metadata)
    message.image_uri = item.image_uri
    message.content_digest = item.content_digest
    message.low_content = item.low_content
    if item.perceptual_hash is not None:
        write_hash(item.perceptual_hash, message.perceptual_hash)
    if item.feature_kind is not None:
        message.local_feature_kind = WIRE_KINDS[item.feature_kind]
    if item.local_features is not None:
        write_features(item.local_features, message.local_features)
    if item.create_time is not None:
        write_time(item.create_time, message.create_time)
    if item.update_time is not None:
        write_time(item.update_time, message.update_time)


def content_bytes(items: Sequence[StoredItem]) -> int:
    """Return about how many bytes of work it is to write these items."""
    numbers = sum(v.nbytes for item in items for v in item.vectors.values() if v is not None)
    features = sum(item.local_features.size for item in items if item.local_features is not None)
    return numbers + features + sum(len(item.metadata) + 64 for item in items)
