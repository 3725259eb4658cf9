"""Wrong options fail the call, naming the field, the limit and the fix."""

from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.caption.conftest import Client, Serve
from tests.caption.fakes import POSITIONS

Options = caption_pb2.CaptionOptions


async def refusal(client: Client, options: Options, content: bytes) -> LensmeshError:
    """The error that each of the three ways to ask gives for these options; they have to agree."""
    image = common_pb2.Image(content=content)
    item = caption_pb2.CaptionStreamItem(ref="a", image=image)
    errors = []
    with pytest.raises(grpc.RpcError) as caught:
        await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=[image], options=options))
    errors.append(from_rpc_error(caught.value))
    for call in (
        client.stub.CaptionStream(iter([caption_pb2.CaptionStreamRequest(options=options, items=[item])])),
        client.stub.StreamCaption(caption_pb2.StreamCaptionRequest(image=image, options=options)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            [answer async for answer in call]
        errors.append(from_rpc_error(caught.value))
    assert {type(error) for error in errors} == {type(errors[0])}
    assert {error.reason for error in errors} == {errors[0].reason}
    return errors[0]


WRONG: dict[str, tuple[Options, Reason, str]] = {
    "max_tokens": (Options(max_tokens=101), Reason.OPTION_INVALID, "options.max_tokens"),
    "beam_count": (Options(beam_count=9), Reason.OPTION_INVALID, "options.beam_count"),
    "priority": (Options(priority=7), Reason.OPTION_INVALID, "options.priority"),  # type: ignore[arg-type]  # a number of another release
    "long prompt": (Options(prompt="a" * 10_001), Reason.TEXT_TOO_LONG, "options.prompt"),
    "many words": (Options(prompt="a " * POSITIONS), Reason.TEXT_TOO_LONG, "options.prompt"),
    "nul": (Options(prompt="a\0cat"), Reason.TEXT_INVALID, "options.prompt"),
    "special token": (Options(prompt="a cat [SEP]"), Reason.TEXT_INVALID, "options.prompt"),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_option_fails_the_call(serve: Serve, tiny_folder: Any, contents: list[bytes], kind: str) -> None:
    options, reason, field = WRONG[kind]
    error = await refusal(await serve(model=str(tiny_folder)), options, contents[0])
    assert isinstance(error, InvalidInput)
    assert error.reason is reason
    assert error.violations[0].field == field


async def test_beams_have_no_words_before_all_are_done(serve: Serve, contents: list[bytes]) -> None:
    client = await serve(model="mock")
    request = caption_pb2.StreamCaptionRequest(
        image=common_pb2.Image(content=contents[0]), options=Options(beam_count=2)
    )
    with pytest.raises(grpc.RpcError) as caught:
        [answer async for answer in client.stub.StreamCaption(request)]
    error = from_rpc_error(caught.value)
    assert error.reason is Reason.OPTION_INVALID
    assert error.violations[0].field == "options.beam_count"


async def test_a_model_is_chosen_by_name(serve: Serve, tiny_folder: Any, contents: list[bytes]) -> None:
    client = await serve(model=f"mock, local-dir:{tiny_folder}")
    image = common_pb2.Image(content=contents[0])

    async def label(model: str) -> str:
        request = caption_pb2.CaptionImagesRequest(images=[image], options=Options(model=model))
        return (await client.stub.CaptionImages(request)).results[0].caption.model

    models = {model.name: model for model in (await client.stub.GetInfo(caption_pb2.GetInfoRequest())).models}
    for name, model in models.items():
        assert await label(name) == f"{name}@{model.weights_digest[:12]}"
    assert await label("") == await label("mock")
    error = await refusal(client, Options(model="other"), contents[0])
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.MODEL_NOT_SERVED
    assert error.metadata["served"] == f"mock, local-dir:{tiny_folder}"


@pytest.mark.parametrize(("count", "reason"), [(0, Reason.NO_ITEMS), (65, Reason.TOO_MANY_ITEMS)])
async def test_counts(serve: Serve, contents: list[bytes], count: int, reason: Reason) -> None:
    client = await serve(model="mock")
    images = [common_pb2.Image(content=contents[0])] * count
    with pytest.raises(grpc.RpcError) as caught:
        await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidInput)
    assert error.reason is reason


async def test_a_message_a_little_too_large_is_explained(serve: Serve) -> None:
    client = await serve(model="mock", max_message_bytes=100_000)
    request = caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=bytes(110_000))])
    with pytest.raises(grpc.RpcError) as caught:
        await client.stub.CaptionImages(request)
    assert from_rpc_error(caught.value).reason is Reason.MESSAGE_TOO_LARGE


async def test_max_tokens_cuts_and_says_so(serve: Serve, tiny_folder: Any, contents: list[bytes]) -> None:
    client = await serve(model=str(tiny_folder), default_caption_tokens=3)
    images = [common_pb2.Image(content=content) for content in contents]
    usual = await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))
    assert max(result.caption.token_count for result in usual.results) == 3
    options = Options(max_tokens=100)
    most = await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images, options=options))
    # The decoder's positions end before 100 tokens do.
    cut = [result.caption for result in most.results if result.caption.truncated]
    assert {caption.token_count for caption in cut} == {POSITIONS}
    ended = [result.caption for result in most.results if not result.caption.truncated]
    assert ended
    assert all(caption.token_count < POSITIONS for caption in ended)


async def test_a_prompt_that_fills_all_positions_but_one(serve: Serve, tiny_folder: Any, contents: list[bytes]) -> None:
    client = await serve(model=str(tiny_folder))
    prompt = "a " * (POSITIONS - 1)
    request = caption_pb2.CaptionImagesRequest(
        images=[common_pb2.Image(content=contents[0])], options=Options(prompt=prompt)
    )
    caption = (await client.stub.CaptionImages(request)).results[0].caption
    assert caption.token_count == 1
    assert caption.text.startswith(prompt.strip())


async def test_a_prompt_of_unknown_words_stays_as_it_was_given(
    serve: Serve, tiny_folder: Any, contents: list[bytes]
) -> None:
    client = await serve(model=str(tiny_folder))
    request = caption_pb2.StreamCaptionRequest(
        image=common_pb2.Image(content=contents[0]), options=Options(prompt="  A  Wombat and", max_tokens=5)
    )
    answers = [answer async for answer in client.stub.StreamCaption(request)]
    assert answers[-1].caption.text.startswith("A Wombat and ")
    assert "".join(answer.delta for answer in answers) == answers[-1].caption.text
