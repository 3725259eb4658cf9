"""The mock's answers: made from the content alone, the same for everybody."""

import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.conftest import Serve


async def test_answers_depend_on_the_content_alone(serve: Serve, contents: list[bytes]) -> None:
    images = [common_pb2.Image(content=content) for content in contents]
    request = caption_pb2.CaptionImagesRequest(images=images)
    answers = [await (await serve(model="mock")).stub.CaptionImages(request) for _ in range(2)]
    captions = [[result.caption for result in answer.results] for answer in answers]
    assert captions[0] == captions[1]
    assert len({caption.text for caption in captions[0]}) == len(contents)
    assert all(0.5 <= caption.confidence <= 1 for caption in captions[0])


async def test_the_words_of_one_image_never_change(serve: Serve) -> None:
    """Callers' own tests may rely on them: a BMP file of 2 x 2 pixels."""
    header = bytes.fromhex(
        "424d4600000000000000360000002800000002000000020000000100180000000000100000000000000000000000"
    )
    content = header + bytes(8) + bytes.fromhex("0000ff0000ff00000000ff0000ff0000")
    client = await serve(model="mock")
    image = common_pb2.Image(content=content)
    caption = (await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=[image]))).results[0].caption
    assert caption.text == "a red bicycle beside a silver clock"
    assert caption.model.startswith("mock@")


@pytest.mark.parametrize(("max_tokens", "truncated"), [(3, True), (100, False)])
async def test_options_are_minded(serve: Serve, contents: list[bytes], max_tokens: int, truncated: bool) -> None:
    client = await serve(model="mock")
    options = caption_pb2.CaptionOptions(prompt="here is", max_tokens=max_tokens)
    image = common_pb2.Image(content=contents[0])
    answers = [
        answer
        async for answer in client.stub.StreamCaption(caption_pb2.StreamCaptionRequest(image=image, options=options))
    ]
    caption = answers[-1].caption
    assert caption.text.startswith("here is a ")
    assert "".join(answer.delta for answer in answers) == caption.text
    assert caption.truncated is truncated
    assert caption.token_count == (3 if truncated else len(caption.text.split()) - 2 + 1)
    assert len(answers) > 3
