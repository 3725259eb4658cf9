"""Two spaces of one model: alpha dropped, and on white. What callers see of them."""

from __future__ import annotations

import io

import grpc
import pytest
from PIL import Image, ImageDraw

from encoder_svc.model import spaces_of
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_inference.digest import Json, json_digest
from lensmesh_inference.images.transparency import Transparency
from tests.encoder.helpers import Served, png, serving, vector

DROP, WHITE = common_pb2.TRANSPARENCY_POLICY_DROP, common_pb2.TRANSPARENCY_POLICY_WHITE
HIT, MISS, COALESCED = (
    common_pb2.CACHE_OUTCOME_HIT,
    common_pb2.CACHE_OUTCOME_MISS,
    common_pb2.CACHE_OUTCOME_COALESCED,
)


def circle(*, flat: bool) -> bytes:
    """A red circle on clear ground; `flat`: on white."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((10, 10, 54, 54), fill=(230, 10, 20, 255))
    if flat:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


CLEAR = io.BytesIO()
Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(CLEAR, "PNG")


async def encode(served: Served, *contents: bytes, **options: object) -> list[encoder_pb2.EncodeResult]:
    request = encoder_pb2.EncodeImagesRequest(
        images=[common_pb2.Image(content=content) for content in contents],
        options=encoder_pb2.EncodeOptions(**options),  # type: ignore[arg-type]  # fields of the message
    )
    return list((await served.stub.EncodeImages(request)).results)


async def test_info_lists_the_spaces_of_both_policies_the_default_first() -> None:
    async with serving() as served:
        [model] = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models
    assert [(space.transparency, space.normalized) for space in model.spaces] == [
        (DROP, True), (DROP, False), (WHITE, True), (WHITE, False)
    ]  # fmt: skip
    assert len({space.id for space in model.spaces}) == 4
    assert model.spaces[0].id == "vs1-79565ba3e00efe0bf5f662c3bc4aad31", "as it was before there was a choice"


def test_a_space_on_white_says_so_in_what_its_id_is_made_of() -> None:
    preprocessing: dict[str, Json] = {"image": {"size": [32, 32]}, "text": {"context": 77}}
    both = {Transparency.DROP: preprocessing, Transparency.WHITE: {**preprocessing, "transparency": "white"}}
    spaces = spaces_of("n", preprocessing=both, architecture="a", dimension=3, weights_digest="d")
    for space in spaces:
        facts: Json = {
            "architecture": "a",
            "dimension": 3,
            "normalized": space.normalized,
            "preprocessing": both[space.transparency],
            "quantization": "none",
            "weights_digest": "d",
        }
        assert space.id == "vs1-" + json_digest(facts)[:32]


async def test_the_policy_chooses_the_space_and_so_does_the_space() -> None:
    async with serving() as served:
        spaces = served.engine.served[0].model.facts.spaces
        content = circle(flat=False)
        [unspecified], [dropped], [white], [by_id], [both] = [
            await encode(served, content),
            await encode(served, content, transparency=DROP),
            await encode(served, content, transparency=WHITE),
            await encode(served, content, space_id=spaces[2].id),
            await encode(served, content, space_id=spaces[3].id, transparency=WHITE),
        ]
        texts = [
            (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a"], options=options))).results[0]
            for options in (encoder_pb2.EncodeOptions(), encoder_pb2.EncodeOptions(transparency=WHITE))
        ]
    assert unspecified.embedding == dropped.embedding
    assert white.embedding == by_id.embedding != dropped.embedding
    assert [result.embedding.space_id for result in (dropped, white, both)] == [
        spaces[0].id, spaces[2].id, spaces[3].id
    ]  # fmt: skip
    assert texts[0].embedding.data == texts[1].embedding.data, "texts are the same in both"
    assert [text.embedding.space_id for text in texts] == [spaces[0].id, spaces[2].id]


async def test_options_that_contradict_or_mean_nothing_are_refused() -> None:
    async with serving() as served:
        white = served.engine.served[0].model.facts.spaces[2]
        for options in (
            encoder_pb2.EncodeOptions(space_id=white.id, transparency=DROP),
            encoder_pb2.EncodeOptions(transparency=7),  # type: ignore[arg-type]  # a number of no policy
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a"], options=options))
            error = from_rpc_error(caught.value)
            assert isinstance(error, InvalidInput)
            assert error.reason is Reason.OPTION_INVALID
            assert error.violations[0].field == "options.transparency"


@pytest.mark.parametrize("model", ["mock", "shapes"])
async def test_on_white_an_image_has_the_vector_of_what_a_page_shows(model: str) -> None:
    async with serving(model=model, backend="torch", precision="float32", threads=1) as served:
        [white, flat] = await encode(served, circle(flat=False), circle(flat=True), transparency=WHITE)
        [dropped, flat_dropped] = await encode(served, circle(flat=False), circle(flat=True))
    cosines = [float(vector(a.embedding) @ vector(b.embedding)) for a, b in ((white, flat), (dropped, flat_dropped))]
    assert cosines[0] == pytest.approx(1, abs=1e-4)
    assert cosines[1] < 0.9, "the colours under the alpha channel are other ones"


async def test_what_is_kept_of_one_policy_answers_for_no_other() -> None:
    async with serving() as served:
        content = circle(flat=False)
        outcomes = []
        for policy in (DROP, WHITE, DROP, WHITE):
            [result] = await encode(served, content, transparency=policy)
            outcomes.append(result.timings.cache)
        text = encoder_pb2.EncodeTextsRequest(texts=["a"])
        await served.stub.EncodeTexts(text)
        text.options.transparency = WHITE
        kept = (await served.stub.EncodeTexts(text)).results[0].timings.cache
    assert outcomes == [MISS, MISS, HIT, HIT]
    assert kept == HIT, "texts are computed once for both"


async def test_what_was_seen_of_an_image_is_told_by_calls_streams_and_the_cache() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 10, 10)).save(file, "JPEG")
    contents = [CLEAR.getvalue(), file.getvalue(), png(1)]
    expected = [(True, True), (True, False), (False, False)]
    async with serving() as served:
        for outcome in (MISS, HIT):
            results = await encode(served, *contents)
            assert [(one.low_content, one.fully_transparent) for one in results] == expected
            assert {one.timings.cache for one in results} == {outcome}
        message = encoder_pb2.EncodeStreamRequest(
            options=encoder_pb2.EncodeOptions(transparency=WHITE),
            items=[
                encoder_pb2.EncodeStreamItem(ref=str(index), image=common_pb2.Image(content=content))
                for index, content in enumerate([*contents, contents[0]])
            ],
        )
        call = served.stub.EncodeStream(iter([message]))
        streamed = {one.ref: one.result async for group in call for one in group.results}
    assert [(streamed[str(i)].low_content, streamed[str(i)].fully_transparent) for i in range(3)] == expected
    assert streamed["3"].low_content
    assert streamed["3"].fully_transparent
