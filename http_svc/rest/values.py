"""Messages of the contracts as values of JSON, by hand: that takes a tenth of a generic translation's time."""

import functools
import struct
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from google.protobuf import struct_pb2, timestamp_pb2
from google.rpc import status_pb2

from http_svc.errors import shown_status
from http_svc.rest.shapes import ErrorShape, ImageShape, NearShape, SpaceShape, TagShape
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2

# Beyond it a double no longer tells neighbouring integers apart.
_LARGEST_INTEGER = 2.0**53
_MODALITIES = {common_pb2.MODALITY_IMAGE: "image", common_pb2.MODALITY_TEXT: "text"}


def plain(value: struct_pb2.Value) -> Any:
    """Return a Value as JSON has it; whole numbers without a point."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and -_LARGEST_INTEGER <= number <= _LARGEST_INTEGER else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [plain(each) for each in value.list_value.values]
    if kind == "struct_value":
        return plain_fields(value.struct_value)
    return None


def plain_fields(fields: struct_pb2.Struct) -> dict[str, Any]:
    """Return a Struct as JSON has it, by key: a contract's maps have no order of their own."""
    return {key: plain(value) for key, value in sorted(fields.fields.items())}


def moment(time: timestamp_pb2.Timestamp) -> str | None:
    """Return a time as RFC 3339 has it, in UTC; null for none."""
    seconds = time.seconds
    if not seconds:
        return None
    return f"{_second(seconds)}.{time.nanos // 1000:06d}Z"


# Images of one ingest have few different seconds.
@functools.lru_cache(4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


class ImageValues:
    """Makes images of items of one collection, with the addresses of the media that the mesh keeps."""

    def __init__(self, collection: str, media: router_pb2.MediaInfo) -> None:
        self.collection = collection
        self.thumbnails, self.originals = media.thumbnails, media.originals

    def image(self, item: search_pb2.Item) -> ImageShape:
        """Return an item."""
        caption = item.caption
        digest = item.content_digest.hex() or None
        return {
            "id": item.id,
            "collection": self.collection,
            "caption": caption.text or None,
            "caption_model": caption.model or None,
            "image_uri": item.image_uri or None,
            "metadata": plain_fields(item.metadata),
            "content_digest": digest,
            "created_at": moment(item.create_time),
            "updated_at": moment(item.update_time),
            "thumbnail": self.thumbnail(digest),
            "original": self.original(digest),
        }

    def thumbnail(self, digest: str | None) -> str | None:
        """Return the address of a thumbnail; null where none are kept."""
        return f"/v1/thumbnails/{digest}.webp" if digest and self.thumbnails else None

    def original(self, digest: str | None) -> str | None:
        """Return the address of a file as it came; null where none are kept."""
        return f"/v1/originals/{digest}" if digest and self.originals else None


def space(message: common_pb2.VectorSpace) -> SpaceShape:
    """Return a vector space."""
    return {
        "id": message.id,
        "model": message.model,
        "dimension": message.dimension,
        "normalized": message.normalized,
        "modalities": [_MODALITIES[each] for each in message.modalities if each in _MODALITIES],
    }


def near(message: router_pb2.NearDuplicate) -> NearShape:
    """Return another image that looks the same."""
    return {"id": message.id, "distance": message.distance}


def tags(messages: Any) -> list[TagShape]:
    """Return labels with their probabilities."""
    return [{"label": each.label, "probability": each.probability} for each in messages]


def failed(status: status_pb2.Status) -> ErrorShape:
    """Return the error of one item."""
    return shown_status(status)  # type: ignore[return-value]  # an object of these fields


def word(number: int, enum: Any, prefix: str) -> str:
    """Return the word of an enum's value, in small letters without its prefix; empty for one that is not known."""
    name: str = enum.Name(number) if number in enum.values() else ""
    name = name.removeprefix(prefix).lower()
    return "" if name == "unspecified" else name


def address_of(image_id: str) -> str:
    """Return the address of an image, whatever signs its id has."""
    return f"/v1/images/{quote(image_id, safe='')}"


def vector(embedding: common_pb2.Embedding) -> list[float]:
    """Return the numbers of a vector."""
    if embedding.floats:
        return list(embedding.floats)
    half = embedding.data_type == common_pb2.DATA_TYPE_FLOAT16
    size, code = (2, "e") if half else (4, "f")
    return list(struct.unpack(f"<{len(embedding.data) // size}{code}", embedding.data))
