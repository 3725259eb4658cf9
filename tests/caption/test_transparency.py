"""What the captioner sees where an image is transparent, and that no caption of one policy is told under the other."""

from __future__ import annotations

from PIL import Image, ImageDraw

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.calls import ask
from tests.caption.conftest import Serve, encoded

DROP, WHITE = common_pb2.TRANSPARENCY_POLICY_DROP, common_pb2.TRANSPARENCY_POLICY_WHITE
HIT, MISS = common_pb2.CACHE_OUTCOME_HIT, common_pb2.CACHE_OUTCOME_MISS


def circle() -> tuple[bytes, bytes]:
    """A red circle on clear ground that hides a gradient, and the same laid on white."""
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGBA")
    image.putalpha(0)
    ImageDraw.Draw(image).ellipse((10, 10, 54, 54), fill=(230, 10, 20, 255))
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return encoded(image), encoded(flat)


async def test_on_white_the_caption_is_that_of_what_a_page_shows(serve: Serve) -> None:
    client = await serve(model="mock", cache_bytes=1024**2)
    clear, flat = circle()

    async def told(content: bytes, **options: object) -> tuple[str, int]:
        [result] = (await ask(client, [content], **options)).results
        return result.caption.text, result.timings.cache

    shown, _ = await told(flat, transparency=WHITE)
    hidden, first = await told(clear)
    on_white, other = await told(clear, transparency=WHITE)
    assert (first, other) == (MISS, MISS), "a caption of one policy is no answer under the other"
    assert on_white == shown != hidden
    assert await told(clear, transparency=DROP) == (hidden, HIT)
    assert await told(clear, transparency=WHITE) == (shown, HIT)


async def test_a_caption_word_by_word_follows_the_policy(serve: Serve) -> None:
    client = await serve(model="mock")
    clear, flat = circle()
    texts = []
    for content in (flat, clear):
        request = caption_pb2.StreamCaptionRequest(
            image=common_pb2.Image(content=content), options=caption_pb2.CaptionOptions(transparency=WHITE)
        )
        texts.append("".join([answer.delta async for answer in client.stub.StreamCaption(request)]))
    assert texts[0] == texts[1] != ""
