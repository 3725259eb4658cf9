"""However a call ends, its spans end, and say what the caller got."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from lensmesh_chassis.contract import TRACE_ID_KEY
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.spans import CONTENT_VARIABLE
from tests.chassis.conftest import Serve
from tests.support.every_shape import METHODS, SHAPES, call, finish
from tests.support.spans_kept import Traced, of_kind

pytestmark = pytest.mark.both_loops

every_shape = pytest.mark.parametrize("method", METHODS)


def code_of(span: ReadableSpan) -> tuple[Any, Any]:
    assert span.attributes is not None
    return span.attributes["rpc.grpc.status_code"], span.attributes["rpc.response.status_code"]


def exceptions(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    """One entry for each exception that a span keeps."""
    return [span for span in spans for event in span.events if event.name == "exception"]


@every_shape
async def test_a_call_that_goes_well(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        await finish(call(served.channel, method))
        spans = await traced.spans(2)
    for span in spans:
        assert code_of(span) == (0, "OK")
        assert span.status.status_code is StatusCode.UNSET
    assert not exceptions(spans)


@every_shape
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_code_is_told_by_both_sides(
    serve: Serve, traced: Traced, method: str, code: grpc.StatusCode
) -> None:
    """Whatever a handler aborts with."""
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.abort_with = code
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(served.channel, method))
        assert caught.value.code() is code
        spans = await traced.spans(2)
    client, server = of_kind(spans, SpanKind.CLIENT), of_kind(spans, SpanKind.SERVER)
    assert code_of(client) == code_of(server) == (code.value[0], code.name)
    assert client.status.status_code is StatusCode.ERROR
    assert client.status.description == f"{code.name}: as told"


@every_shape
@pytest.mark.parametrize("foreseen", [True, False])
async def test_an_error_is_recorded_once_where_it_arose(
    serve: Serve, traced: Traced, method: str, foreseen: bool
) -> None:
    fault = InvalidInput(Reason.NO_ITEMS, "no items") if foreseen else ValueError("a secret")
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.fault = fault
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(call(served.channel, method))
        spans = await traced.spans(2)
    assert exceptions(spans) == [of_kind(spans, SpanKind.SERVER)]
    [event] = of_kind(spans, SpanKind.SERVER).events
    assert event.attributes is not None
    assert str(event.attributes["exception.type"]).endswith(type(fault).__name__)
    # The words of an error that nobody foresaw may quote what a span must not show.
    assert "a secret" not in str(event.attributes)
    assert event.attributes.get("exception.message") == ("no items" if foreseen else None)


async def test_a_setting_shows_the_words_of_unexpected_errors(
    serve: Serve, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT_VARIABLE, "true")
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.fault = ValueError("a secret")
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(call(served.channel, "UnaryUnary"))
        [event] = of_kind(await traced.spans(2), SpanKind.SERVER).events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "a secret"


@every_shape
async def test_a_call_that_is_cancelled(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.hold = asyncio.Event()
        rpc = call(served.channel, method)
        if METHODS[method][1]:
            # Until it has read something gRPC may lose the wish, and the server works on as if nothing had been said.
            await anext(aiter(rpc))
        waiting = asyncio.create_task(finish(rpc))
        await asyncio.wait_for(served.app.shapes.entered.wait(), 60)
        # A task that is cancelled before its first step never comes to the call, and of what is true already
        # `wait_for` tells at once from Python 3.12 on.
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        spans = await traced.spans(2)
    for span in spans:
        assert code_of(span) == (1, "CANCELLED")
    assert of_kind(spans, SpanKind.CLIENT).status.status_code is StatusCode.ERROR
    assert not exceptions(spans)


@every_shape
async def test_a_call_whose_time_is_up(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.hold = asyncio.Event()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(served.channel, method, timeout=1.0))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        spans = await traced.spans(2)
    for span in spans:
        assert code_of(span) == (4, "DEADLINE_EXCEEDED")
        assert span.status.status_code is StatusCode.ERROR
    assert not exceptions(spans)


@pytest.mark.parametrize("method", ["UnaryStream", "StreamStream"])
async def test_a_stream_whose_reader_leaves_early(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        rpc = call(served.channel, method, ["forever"] * 10_000)
        async for _ in rpc:
            break
        rpc.cancel()
        spans = await traced.spans(2)
    for span in spans:
        assert code_of(span) == (1, "CANCELLED")


async def test_a_stream_left_while_nothing_is_left_to_answer(serve: Serve, traced: Traced) -> None:
    """gRPC ends the requests first, as if the caller had said everything, and tells of the cancellation after that."""
    async with serve(tracer_provider=traced.provider) as served:
        begin: Any = served.channel.stream_stream(f"/{SHAPES}/StreamStream")
        for _ in range(20):
            rpc = begin()
            await rpc.write(StringValue(value="a word").SerializeToString())
            await rpc.read()
            rpc.cancel()
        spans = await traced.spans(40)
    assert {code_of(span) for span in spans} == {(1, "CANCELLED")}


async def test_a_call_that_reaches_nobody(traced: Traced) -> None:
    from lensmesh_chassis.channels import open_channel

    async with open_channel("unix:/nowhere/at/all", tracer_provider=traced.provider) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary"))
        [span] = await traced.spans(1)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert code_of(span) == (14, "UNAVAILABLE")
    assert span.attributes is not None
    assert span.attributes["server.address"] == "unix:/nowhere/at/all"


@every_shape
async def test_a_reply_names_its_trace(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        rpc = call(served.channel, method)
        await finish(rpc)
        told = dict(await rpc.trailing_metadata())[TRACE_ID_KEY]
        spans = await traced.spans(2)
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {told}


async def test_a_failed_reply_names_its_trace_too(serve: Serve, traced: Traced) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.fault = InvalidInput(Reason.NO_ITEMS, "no items")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(served.channel, "UnaryUnary"))
        assert len(dict(caught.value.trailing_metadata())[TRACE_ID_KEY]) == 32


async def test_a_reply_without_a_trace_names_none(serve: Serve) -> None:
    async with serve() as served:
        rpc = call(served.channel, "UnaryUnary")
        await finish(rpc)
        assert TRACE_ID_KEY not in dict(await rpc.trailing_metadata())


@every_shape
async def test_a_call_on_a_closed_channel_has_an_error_and_no_code(traced: Traced, method: str) -> None:
    from lensmesh_chassis.channels import open_channel

    async with open_channel("127.0.0.1:1", tracer_provider=traced.provider) as channel:
        pass
    with pytest.raises(grpc.aio.UsageError):
        await finish(call(channel, method))
    [span] = await traced.spans(1)
    assert span.attributes is not None
    assert "rpc.response.status_code" not in span.attributes
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "UsageError")
    assert exceptions([span]) == [span]
