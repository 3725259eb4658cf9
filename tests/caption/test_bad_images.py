"""Each kind of bad image fails alone, with a reason of its own; unusual but sound ones are described."""

import io
import struct
import zlib
from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from PIL import Image

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.conftest import Serve, encoded


def image(content: bytes) -> common_pb2.Image:
    return common_pb2.Image(content=content)


def info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(found) for detail in status.details)
    return found


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def noise(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


BAD = {
    "missing": (common_pb2.Image(), "IMAGE_MISSING", "images[1]"),
    "uri": (common_pb2.Image(uri="https://example.com/a.png"), "URI_NOT_ALLOWED", "images[1].uri"),
    "empty": (image(b""), "IMAGE_EMPTY", "images[1]"),
    "no image": (image(b"plain text, no image"), "IMAGE_UNDECODABLE", "images[1]"),
    "truncated": (image(encoded(noise((200, 200)))[:400]), "IMAGE_TRUNCATED", "images[1]"),
    "bomb": (image(png_header(30_000, 30_000)), "IMAGE_TOO_MANY_PIXELS", "images[1]"),
    "too large": (image(encoded(noise((700, 700)))), "IMAGE_TOO_LARGE", "images[1]"),
}


@pytest.mark.parametrize("model", ["mock", "tiny"])
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_image_fails_alone(
    serve: Serve, contents: list[bytes], tiny_folder: Any, kind: str, model: str
) -> None:
    bad, reason, field = BAD[kind]
    client = await serve(model="mock" if model == "mock" else str(tiny_folder), max_image_bytes=500_000)
    request = caption_pb2.CaptionImagesRequest(images=[image(contents[0]), bad, image(contents[1])])
    first, second, third = (await client.stub.CaptionImages(request)).results
    assert first.caption.text
    assert third.caption.text
    assert second.error.code == code_pb2.INVALID_ARGUMENT
    assert info(second.error).reason == reason
    assert info(second.error).domain == "lensmesh"
    violations = error_details_pb2.BadRequest()
    assert any(detail.Unpack(violations) for detail in second.error.details)
    assert violations.field_violations[0].field == field


def animation() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("P", (20, 20), shade) for shade in (10, 200)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


UNUSUAL = {
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "three wide": encoded(noise((3, 50))),
    "animated": animation(),
    "cmyk": encoded(noise().convert("CMYK"), "JPEG"),
    "16 bit": encoded(Image.new("I;16", (20, 20), 40_000)),
    "palette with alpha": encoded(noise().convert("RGBA").quantize(16)),
}


@pytest.mark.parametrize("kind", UNUSUAL)
async def test_an_unusual_image_is_described(serve: Serve, tiny_folder: Any, kind: str) -> None:
    client = await serve(model=str(tiny_folder))
    answer = await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=[image(UNUSUAL[kind])]))
    assert answer.results[0].WhichOneof("outcome") == "caption"
    assert answer.results[0].caption.token_count > 0


async def test_orientation_is_applied(serve: Serve, tiny_folder: Any, contents: list[bytes]) -> None:
    with Image.open(io.BytesIO(contents[0])) as upright:
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 270 degrees, back to upright
        file = io.BytesIO()
        turned.save(file, "PNG", exif=exif)
    client = await serve(model=str(tiny_folder))
    images = [image(contents[0]), image(file.getvalue())]
    one, other = (await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))).results
    assert one.caption.text == other.caption.text
    assert one.caption.confidence == pytest.approx(other.caption.confidence, abs=1e-5)


async def test_in_a_stream_and_word_by_word(serve: Serve, contents: list[bytes]) -> None:
    client = await serve(model="mock")
    items = [
        caption_pb2.CaptionStreamItem(ref="good", image=image(contents[0])),
        caption_pb2.CaptionStreamItem(ref="bad", image=image(b"no")),
        caption_pb2.CaptionStreamItem(ref="none"),
    ]
    answers = client.stub.CaptionStream(iter([caption_pb2.CaptionStreamRequest(items=items)]))
    results = {result.ref: result.result async for answer in answers for result in answer.results}
    assert results["good"].caption.text
    assert info(results["bad"].error).reason == "IMAGE_UNDECODABLE"
    assert info(results["none"].error).reason == "IMAGE_MISSING"
