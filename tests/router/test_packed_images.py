"""Images are serialized once: what is read out of them and written around them is what protobuf would."""

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.messages.packing import pack_items
from router_svc.call_scope import CallScope
from router_svc.ingest.items import Intake
from router_svc.upstreams.images import NO_IMAGE, PackedImage
from tests.router.helpers import item

# A field that no contract has yet, as a newer caller would send it.
NEWER = b"\xfa\x3f\x03abc"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_the_bytes_of_a_file_are_found_without_a_copy(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    packed = PackedImage.of(common_pb2.Image(content=content[:size]))
    assert packed.content == content[:size]
    assert packed.content.obj is packed.packed


def test_what_is_more_or_less_than_a_file_is_read_by_protobuf() -> None:
    newer = common_pb2.Image.FromString(common_pb2.Image(content=b"file").SerializeToString() + NEWER)
    assert bytes(PackedImage.of(newer).content) == b"file"
    assert NEWER in PackedImage.of(newer).packed
    assert len(PackedImage.of(common_pb2.Image(uri="https://host/p.png")).content) == 0
    assert len(PackedImage.of(common_pb2.Image()).content) == len(NO_IMAGE.content) == 0


def test_a_request_around_packed_images_is_the_request() -> None:
    images = [common_pb2.Image(content=bytes(size)) for size in (0, 5, 500, 50_000)]
    rest = encoder_pb2.EncodeImagesRequest(options=encoder_pb2.EncodeOptions(space_id="s"))
    packed = pack_items(rest, "images", [PackedImage.of(image).packed for image in images])
    assert encoder_pb2.EncodeImagesRequest.FromString(packed) == encoder_pb2.EncodeImagesRequest(
        images=images, options=rest.options
    )


async def test_an_item_that_is_read_holds_nothing_of_its_message() -> None:
    """A part of a message would keep the images of all others in memory until it is answered."""
    read = item("one", b"file", id="id", caption="words")
    read.metadata["year"] = 1999
    nobody: object = None
    [incoming] = await Intake(1 << 20, nobody, nobody, CallScope()).read([read])  # type: ignore[arg-type]
    read.Clear()
    assert incoming.wanted is not None
    assert (incoming.ref, incoming.wanted.id, incoming.wanted.caption) == ("one", "id", "words")
    assert bytes(incoming.image.content) == b"file"
    [(name, value)] = incoming.wanted.metadata.items()
    assert (name, value.number_value) == ("year", 1999)  # type: ignore[attr-defined]  # a struct_pb2.Value
