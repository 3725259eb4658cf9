"""Calls of every shape, in every style of handler: errors, request ids, cancellation, malformed bytes."""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from lensmesh_chassis.contract import REQUEST_ID_KEY
from lensmesh_chassis.errors import InternalFault, InvalidInput, Overloaded, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.chassis.conftest import Served
from tests.support.every_shape import METHODS, SHAPES, call, finish

pytestmark = pytest.mark.both_loops

every_shape = pytest.mark.parametrize("method", METHODS)


async def failure(rpc: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finish(rpc)
    return caught.value


@every_shape
async def test_answers_come_through(served: Served, method: str) -> None:
    answers = await finish(call(served.channel, method, ["a", "b"]))
    streamed_in, streamed_out = METHODS[method]
    if streamed_in:
        assert answers == (["a", "b"] if streamed_out else ["a,b"])
    else:
        assert answers == (["a", "a"] if streamed_out else ["a"])


@every_shape
async def test_a_domain_error_arrives_whole(served: Served, method: str) -> None:
    served.app.shapes.fault = InvalidInput(
        Reason.IMAGE_EMPTY, "images[3].content is empty", field="images[3].content", metadata={"index": 3}
    )
    error = await failure(call(served.channel, method))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "images[3].content is empty"
    typed = from_rpc_error(error)
    assert isinstance(typed, InvalidInput)
    assert typed.reason is Reason.IMAGE_EMPTY
    assert typed.violations[0].field == "images[3].content"
    assert typed.metadata == {"index": "3"}


@every_shape
async def test_overload_says_when_to_come_back(served: Served, method: str) -> None:
    served.app.shapes.fault = Overloaded(Reason.OVERLOADED, "the queue is full", retry_after_s=2.5)
    typed = from_rpc_error(await failure(call(served.channel, method)))
    assert isinstance(typed, Overloaded)
    assert typed.retry_after_s == 2.5


@every_shape
async def test_the_largest_error_still_arrives_whole(served: Served, method: str) -> None:
    """Trailers that are too large would turn the whole status into RESOURCE_EXHAUSTED."""
    violations = [Violation(f"items[{n}].metadata", "\N{SNOWMAN}" * 300) for n in range(1000)]
    served.app.shapes.fault = InvalidInput(
        Reason.METADATA_INVALID,
        "\N{SNOWMAN}" * 5000,
        violations=violations,
        metadata={f"key{n}": "\N{SNOWMAN}" * 300 for n in range(100)},
    )
    error = from_rpc_error(await failure(call(served.channel, method)))
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.METADATA_INVALID
    assert error.violations[0] == violations[0]
    assert error.message.endswith("...")


@every_shape
async def test_nothing_of_an_unexpected_exception_leaves(
    served: Served, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.app.shapes.fault = ValueError("password=hunter2")
    error = await failure(call(served.channel, method, metadata=((REQUEST_ID_KEY, "call-7"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in f"{error.details()} {error.trailing_metadata()}"
    typed = from_rpc_error(error)
    assert isinstance(typed, InternalFault)
    assert typed.metadata["request_id"] == "call-7"
    assert "call-7" in (error.details() or "")
    logged = [record for record in caplog.records if record.exc_info and record.levelno == logging.ERROR]
    assert len(logged) == 1
    assert "hunter2" in str(logged[0].exc_info)


@every_shape
async def test_a_cancellation_inside_the_service_is_an_answer(served: Served, method: str) -> None:
    """Left alone, gRPC sends no status for it and the caller waits for ever."""
    served.app.shapes.fault = asyncio.CancelledError()
    error = await failure(call(served.channel, method, timeout=30))
    assert error.code() is grpc.StatusCode.INTERNAL


@every_shape
async def test_request_id_is_taken_kept_and_returned(served: Served, method: str) -> None:
    rpc = call(served.channel, method, metadata=((REQUEST_ID_KEY, "abc-1"),))
    await finish(rpc)
    assert set(served.app.shapes.request_ids) == {"abc-1"}
    assert dict(await rpc.trailing_metadata())[REQUEST_ID_KEY] == "abc-1"


@pytest.mark.parametrize("sent", [None, "", "with space", "x" * 129, "semi;colon"])
async def test_request_id_is_made_where_none_can_be_taken(served: Served, sent: str | None) -> None:
    rpc = call(served.channel, "UnaryUnary", metadata=((REQUEST_ID_KEY, sent),) if sent is not None else None)
    await finish(rpc)
    made = served.app.shapes.request_ids[0]
    assert len(made) == 32
    assert dict(await rpc.trailing_metadata())[REQUEST_ID_KEY] == made


async def test_a_failed_call_returns_its_request_id_too(served: Served) -> None:
    served.app.shapes.fault = InvalidInput(Reason.NO_ITEMS, "no items")
    error = await failure(call(served.channel, "UnaryUnary", metadata=((REQUEST_ID_KEY, "abc-2"),)))
    trailing = error.trailing_metadata()
    assert trailing is not None
    assert trailing[REQUEST_ID_KEY] == "abc-2"


@every_shape
async def test_a_caller_that_leaves_cancels_the_work(served: Served, method: str) -> None:
    served.app.shapes.hold = asyncio.Event()
    rpc = call(served.channel, method)
    waiting = asyncio.create_task(finish(rpc))
    await asyncio.wait_for(served.app.shapes.entered.wait(), 30)
    rpc.cancel()
    await asyncio.wait_for(served.app.shapes.cancelled.wait(), 30)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_stream_nobody_reads_is_closed_when_its_caller_leaves(served: Served) -> None:
    """The generator then waits at a `yield` whose answer cannot be written."""
    rpc = call(served.channel, "UnaryStream", ["forever"])
    assert (await rpc.read()).value == "forever"
    await asyncio.wait_for(served.app.shapes.entered.wait(), 30)
    rpc.cancel()
    await asyncio.wait_for(served.app.shapes.closed.wait(), 30)


@every_shape
async def test_bytes_that_are_no_message_are_refused_as_such(served: Served, method: str) -> None:
    streamed_in, streamed_out = METHODS[method]
    make = getattr(served.channel, f"{'stream' if streamed_in else 'unary'}_{'stream' if streamed_out else 'unary'}")
    rpc = make(f"/{SHAPES}/{method}")(iter([b"\xff\xff"]) if streamed_in else b"\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (rpc.read() if streamed_out else rpc)
    if method == "StreamStreamWritten":  # reads by itself, past the check: still nothing but INTERNAL
        assert caught.value.code() is grpc.StatusCode.INTERNAL
    else:
        assert from_rpc_error(caught.value).reason is Reason.MESSAGE_MALFORMED


async def test_a_synchronous_handler_is_refused(served: Served) -> None:
    error = await failure(call(served.channel, "Synchronous"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "coroutine" in (error.details() or "")


async def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    error = await failure(call(served.channel, "NoSuchMethod"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
