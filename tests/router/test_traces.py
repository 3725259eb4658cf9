"""Spans of the router: an item's steps, the calls that carry items, another replica's turn, a stream that is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry import trace

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import InvalidInput, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from router_svc.micro_batcher import MicroBatcher
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import UpstreamMethod
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.tries import Upstream
from tests.chassis.conftest import serving
from tests.support.every_shape import SHAPES, call, finish
from tests.support.spans_kept import Traced, id_of, links_of, named, parent_of
from tests.support.waiting import until


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    one = Traced()
    spans.current_tracer.set(one.provider.get_tracer("test"))
    yield one
    one.provider.shutdown()


UNARY = UpstreamMethod("UnaryUnary", StringValue, StringValue)
STREAMED = UpstreamMethod("UnaryStream", StringValue, StringValue)


class ShapesStub:
    """The stub that a generator would make of the test service's contract."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def UnaryUnary(self, request: StringValue, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        return await finish(call(self._channel, "UnaryUnary", [request.value], timeout=timeout))

    def UnaryStream(self, request: StringValue, timeout: float) -> Any:
        return call(self._channel, "UnaryStream", [request.value], timeout=timeout)


def batcher(run: Any, **more: Any) -> MicroBatcher[int, int]:
    return MicroBatcher(run, size_of=lambda _: 1, max_items=2, max_bytes=100, max_calls=1, step="encode", **more)


async def test_a_call_belongs_to_the_stream_and_is_linked_to_the_items_it_carries(traced: Traced) -> None:
    async def run(items: Sequence[int]) -> Sequence[int]:
        with spans.span("call") as made:
            spans.link_passengers(made)
        return items

    with spans.operation("stream") as stream:
        one = batcher(run)

        async def submit(item: int) -> None:
            with spans.span("item", {spans.ITEM_INDEX: item}):
                await one.submit(item)

        await asyncio.gather(*map(submit, range(3)))
    kept = await traced.spans(1 + 3 + 3 + 2)
    items, calls = named(kept, "item"), named(kept, "call")
    assert {parent_of(made) for made in calls} == {stream.get_span_context().span_id}
    assert sorted(len(made.links) for made in calls) == [1, 2]
    for item in items:
        [riding] = [made for made in calls if id_of(item) in links_of(made)]
        assert links_of(item) == {id_of(riding)}
        [step] = [step for step in named(kept, "encode") if parent_of(step) == id_of(item)]
        assert (step.start_time or 0) <= (riding.start_time or 0)
        assert (riding.end_time or 0) <= (step.end_time or 0)


async def test_a_step_fails_as_its_outcome_says(traced: Traced) -> None:
    async def run(items: Sequence[int]) -> Sequence[int]:
        return items

    def failure(outcome: int) -> LensmeshError | None:
        return InvalidInput(Reason.IMAGE_EMPTY, "no bytes") if outcome == 7 else None

    with spans.operation("stream"):
        one = batcher(run, failure_of=failure)
        await asyncio.gather(one.submit(7), one.submit(8))
    kept = await traced.spans(3)
    assert [step.status.description for step in named(kept, "encode")] == ["IMAGE_EMPTY: no bytes", None]


async def test_only_the_items_that_a_part_carries_are_linked_to_it(traced: Traced) -> None:
    tracer = traced.provider.get_tracer("test")
    items = [tracer.start_span(f"item {number}") for number in range(4)]
    with spans.operation("call") as made, spans.carrying(items), spans.carrying_some([1, 3]):
        spans.link_passengers(made)
    for item in items:
        item.end()
    kept = await traced.spans(5)
    [found] = named(kept, "call")
    assert links_of(found) == {items[number].get_span_context().span_id for number in (1, 3)}
    assert [len(span.links) for span in kept if span is not found] == [0, 1, 0, 1]


async def test_another_replica_s_turn_is_another_call(traced: Traced) -> None:
    """What the pool does again by itself shows as two calls, each with its own end and its own upstream."""
    async with serving(traced.provider) as lost, serving(traced.provider) as found:
        lost.app.shapes.fault = Unavailable(Reason.DRAINING, "shutting down")
        channels = {served.server.address: served.channel for served in (lost, found)}
        pool = UpstreamPool(
            Kind.ENCODER,
            [Upstream(address, ShapesStub(channel)) for address, channel in channels.items()],
            draining=asyncio.Event(),
            call_s=60,
        )
        # The pool begins with either; each order must show what happened.
        with spans.operation("stream"):
            for _ in range(2):
                await pool.call(UNARY, StringValue(value="a"))
                for upstream in pool._upstreams.values():
                    upstream.shunned_until = float("-inf")
        kept = await traced.spans(1)
        await until(lambda: len(named(list(traced.exporter.get_finished_spans()), "stream")) == 1)
        kept = list(traced.exporter.get_finished_spans())
    calls = [span for span in kept if span.kind is trace.SpanKind.CLIENT]
    ends = [
        ((span.attributes or {})["server.address"], (span.attributes or {})["rpc.response.status_code"])
        for span in calls
    ]
    assert ends.count((found.server.address, "OK")) == 2
    assert ends.count((lost.server.address, "UNAVAILABLE")) == 1
    assert len(ends) == 3
    [stream] = named(kept, "stream")
    assert {parent_of(span) for span in calls} == {id_of(stream)}


async def test_a_streamed_answer_that_is_left_is_left_behind_the_router_too(traced: Traced) -> None:
    async with serving(traced.provider) as served, open_channel(served.server.address, instrument=False) as channel:
        pool = UpstreamPool(Kind.CAPTIONER, [Upstream("one", ShapesStub(channel))], draining=asyncio.Event(), call_s=60)
        pieces: Any = pool.stream(STREAMED, StringValue(value="forever"), targets=["one"])
        assert (await anext(pieces)).value == "forever"
        await pieces.aclose()
        await asyncio.wait_for(served.app.shapes.closed.wait(), 60)
        [server] = await traced.spans(1)
    assert server.name == f"/{SHAPES}/UnaryStream"
    assert (server.attributes or {})["rpc.response.status_code"] == grpc.StatusCode.CANCELLED.name
