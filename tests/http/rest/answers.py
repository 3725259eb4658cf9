"""What a router answers in these tests."""

import hashlib
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2

DIGEST = hashlib.sha256(b"a").digest()
STATUS = router_pb2.GetStatusResponse(default_collection="main", media=router_pb2.MediaInfo(thumbnails=True))
JSON = {"content-type": "application/json"}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c636060600000000400012775d45b"
    "0000000049454e44ae426082"
)


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    """Return metadata as the contract carries it."""
    made = struct_pb2.Struct()
    made.update(values)
    return made


def item(image_id: str, **metadata: Any) -> search_pb2.Item:
    """Return an item with all that an answer shows."""
    return search_pb2.Item(
        id=image_id,
        caption=common_pb2.Caption(text="a cat", model="blip@1"),
        metadata=struct(metadata),
        content_digest=DIGEST,
        create_time=timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=5_000_000),
    )


def hits(*ids: str) -> router_pb2.SearchResponse:
    """Return an answer with these images."""
    found = [search_pb2.Hit(item=item(image_id, n=number), score=0.5) for number, image_id in enumerate(ids)]
    return router_pb2.SearchResponse(hits=found, encode_us=1500, store_us=2500, exact=True)
