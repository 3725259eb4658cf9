"""Traces: right parents, right statuses, nothing for health, nothing at all where tracing is off."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.interceptors import AccessLog, InFlight, ReadinessInterceptor, RequestIds, in_order
from lensmesh_chassis.telemetry.metrics import CallMetrics
from lensmesh_chassis.telemetry.spans import ITEM_REF
from lensmesh_chassis.telemetry.tracing import active_provider, client_interceptors, server_interceptors, start_tracing
from lensmesh_chassis.tls.callers import Callers
from tests.chassis.conftest import Serve
from tests.support.every_shape import METHODS, SHAPES, call, finish
from tests.support.spans_kept import Traced, of_kind


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_one_client_and_one_server_span(serve: Serve, traced: Traced, method: str) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        await finish(call(served.channel, method))
        spans = await traced.spans(2)
    client, server = of_kind(spans, SpanKind.CLIENT), of_kind(spans, SpanKind.SERVER)
    assert len(spans) == 2
    assert server.parent is not None
    assert client.context is not None
    assert server.parent.span_id == client.context.span_id
    assert server.name == f"/{SHAPES}/{method}"
    assert server.status.status_code is not StatusCode.ERROR


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (InvalidInput(Reason.NO_ITEMS, "no items"), grpc.StatusCode.INVALID_ARGUMENT),
        (ValueError("a bug"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_the_span_of_a_failed_call_says_so(
    serve: Serve, traced: Traced, method: str, fault: Exception, code: grpc.StatusCode
) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        served.app.shapes.fault = fault
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(call(served.channel, method))
        spans = await traced.spans(2)
    for span in spans:
        assert span.attributes is not None
        assert span.attributes["rpc.grpc.status_code"] == code.value[0]
    assert of_kind(spans, SpanKind.CLIENT).status.status_code is StatusCode.ERROR
    # Where the caller is at fault, the semantic conventions leave the server's span unset.
    ours = code is grpc.StatusCode.INTERNAL
    assert of_kind(spans, SpanKind.SERVER).status.status_code is (StatusCode.ERROR if ours else StatusCode.UNSET)


async def test_a_cancelled_stream_leaves_no_noise(
    serve: Serve, traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        rpc = call(served.channel, "UnaryStream", ["forever"])
        async for _ in rpc:
            break
        await asyncio.wait_for(served.app.shapes.entered.wait(), 30)
        rpc.cancel()
        await asyncio.wait_for(served.app.shapes.closed.wait(), 30)
    assert not [record for record in caplog.records if "detach" in record.getMessage()]


async def test_a_question_about_the_process_belongs_to_a_trace_or_makes_none(serve: Serve, traced: Traced) -> None:
    """Routers ask GetInfo of every replica, every few seconds."""
    get_info = encoder_pb2_grpc.EncoderServiceStub
    async with serve(tracer_provider=traced.provider) as served:
        async with open_channel(served.server.address, instrument=False) as untraced:
            await get_info(untraced).GetInfo(encoder_pb2.GetInfoRequest())
        await get_info(served.channel).GetInfo(encoder_pb2.GetInfoRequest())
        spans = await traced.spans(2)
    assert [span.kind for span in spans].count(SpanKind.SERVER) == 1


async def test_health_makes_no_span(serve: Serve, traced: Traced) -> None:
    async with serve(tracer_provider=traced.provider) as served:
        health = health_pb2_grpc.HealthStub(served.channel)
        await health.Check(health_pb2.HealthCheckRequest())
        watch = health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        watch.cancel()
        await finish(call(served.channel, "UnaryUnary"))
        spans = await traced.spans(2)
    assert {span.name for span in spans} == {f"/{SHAPES}/UnaryUnary"}


def test_without_a_collector_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert start_tracing("fake", "test") is None
    assert active_provider() is None
    assert server_interceptors(None) == ()
    assert client_interceptors(None) == ()


async def test_the_order_of_the_interceptors(traced: Traced) -> None:
    """Telemetry sees the call before all others; who is let in is counted, logged and has its id."""
    telemetry = server_interceptors(traced.provider)
    started, draining = asyncio.Event(), asyncio.Event()
    gate = ReadinessInterceptor(HealthState(), started, draining, InFlight())
    order = in_order(telemetry, CallMetrics(CollectorRegistry()), gate, Callers(["spiffe://mesh/*"]))
    names = [type(one) for one in order]
    assert names == [type(telemetry[0]), RequestIds, AccessLog, CallMetrics, Callers, ReadinessInterceptor]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], TracerProvider]]:
    """What start_tracing makes, for nobody but the test."""
    made: list[TracerProvider] = []

    def start() -> TracerProvider:
        made.append(start_tracing("test", "test") or pytest.fail("tracing is off"))
        return made[-1]

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    yield start
    for provider in made:
        provider.shutdown()


LIMITS = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT")


def kept(provider: TracerProvider) -> tuple[int, int, int]:
    """What a span keeps of a ref of 5 MB, of as much on an event, of 5,000 links. It never ends: nothing is sent."""
    span: Any = provider.get_tracer("test").start_span("item")
    span.set_attribute(ITEM_REF, "x" * 5_000_000)
    span.add_event("exception", {"exception.message": "x" * 5_000_000})
    for number in range(5000):
        span.add_link(SpanContext(1, number + 1, is_remote=False))
    return len(span.attributes[ITEM_REF]), len(span.events[0].attributes["exception.message"]), len(span.links)


def test_a_span_keeps_every_link_of_a_batch_and_no_endless_text(
    started: Callable[[], TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert kept(started()) == (1024, 16_384, 4096)


@pytest.mark.parametrize(
    ("variable", "expected"),
    list(zip(LIMITS, [(100, 100, 4096), (100, 16_384, 4096), (1024, 16_384, 100)], strict=True)),
)
def test_a_standard_variable_changes_what_a_span_keeps(
    started: Callable[[], TracerProvider],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    expected: tuple[int, int, int],
) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "100")
    assert kept(started()) == expected
