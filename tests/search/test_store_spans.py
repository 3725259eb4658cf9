"""What a call does in the store, as spans: operations of any store, statements of PostgreSQL, none without a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from prometheus_client import CollectorRegistry

from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.telemetry.sampling import MeshSampler
from lensmesh_chassis.telemetry.spans import CONTENT_VARIABLE
from search_svc.app import SearchApp
from tests.search.conftest import settings_for
from tests.search.jobs import ended, filled, start
from tests.search.standin import StandIn
from tests.search.support import Stub, create, found, item, search_request, upsert
from tests.support.spans_kept import Traced, id_of, named, parent_of
from tests.support.waiting import until

SECRET = "nobodys-business"


@asynccontextmanager
async def traced_search(url: str) -> AsyncIterator[tuple[Stub, Traced, CollectorRegistry]]:
    """The service on a store, its spans kept as a mesh keeps them."""
    traced = Traced(MeshSampler(ParentBased(ALWAYS_ON), 1.0))
    async with (
        running(
            settings_for(url, store_check_seconds=0.05), SearchApp, "search", tracer_provider=traced.provider
        ) as server,
        open_channel(server.address, tracer_provider=traced.provider) as channel,
    ):
        yield search_pb2_grpc.SearchServiceStub(channel), traced, server.runtime.registry
    traced.provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def statements(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if "db.system" in attributes(span)]


async def used(url: str) -> list[ReadableSpan]:
    """Spans of making a collection, writing an item and finding it."""
    async with traced_search(url) as (stub, traced, registry):
        await create(stub)
        await upsert(stub, item(SECRET, [1, 0, 0, 0]))
        assert await found(stub, search_request([1, 0, 0, 0])) == [SECRET]
        checks = partial(registry.get_sample_value, "lensmesh_store_operation_seconds_count", {"operation": "check"})
        before = checks() or 0
        await until(lambda: (checks() or 0) >= before + 3)
        return list(traced.exporter.get_finished_spans())


async def test_an_attempt_at_a_job_is_linked_with_the_call_that_started_it(store_url: str) -> None:
    async with traced_search(store_url) as (stub, traced, _):
        await filled(stub, 3)
        job = await ended(stub, (await start(stub, "one")).id)

        def attempts() -> list[ReadableSpan]:
            return named(list(traced.exporter.get_finished_spans()), "lensmesh job delete_items")

        await until(attempts)
        [attempt] = attempts()
        calls = [
            span
            for span in traced.exporter.get_finished_spans()
            if attributes(span).get("rpc.method") == "StartDeleteItems" and span.context is not None
        ]
        [link] = attempt.links
        assert link.context.span_id in {span.context.span_id for span in calls if span.context}
        assert (attempt.parent, attributes(attempt)["lensmesh.job.outcome"]) == (None, "succeeded")
        assert attributes(attempt)["lensmesh.job.id"] == job.id
        # What it did for hours, it may be, is in no trace.
        assert [span for span in traced.exporter.get_finished_spans() if parent_of(span) == id_of(attempt)] == []
        assert named(list(traced.exporter.get_finished_spans()), "store delete_batch") == []


async def test_operations_stand_below_their_calls(store_url: str) -> None:
    spans = await used(store_url)
    by_id = {id_of(span): span for span in spans}
    methods = {"create_collection": "CreateCollection", "upsert": "UpsertItems", "search": "Search"}
    for operation, method in methods.items():
        [span] = named(spans, f"store {operation}")
        assert attributes(by_id[parent_of(span)])["rpc.method"] == method
        assert attributes(span)["db.operation.name"] == operation
        assert attributes(span)["db.system.name"] == store_url.partition(":")[0].replace("postgres://", "postgresql")
    roots = [span for span in spans if not span.parent]
    assert {attributes(span).get("rpc.method") for span in roots} == set(methods.values())


async def test_statements_stand_below_operations_without_their_values(database_url: str) -> None:
    spans = await used(database_url)
    by_id = {id_of(span): span for span in spans}
    [store] = named(spans, "store upsert")
    below = [span.name for span in statements(spans) if parent_of(span) == id_of(store)]
    assert below[0] == "BEGIN"
    assert {"INSERT", "COMMIT"} <= set(below)
    for statement in statements(spans):
        over = by_id[parent_of(statement)]
        assert over.name.startswith("store ") or "rpc.method" in attributes(over)
    assert SECRET not in str([attributes(span) for span in spans])


@pytest.mark.parametrize("count", [1, 100])
async def test_a_call_is_written_by_a_few_statements_whatever_its_items(database_url: str, count: int) -> None:
    async with traced_search(database_url) as (stub, traced, _):
        await create(stub)
        for vector in ([1, 0, 0, 0], [0, 1, 0, 0]):
            traced.exporter.clear()
            await upsert(stub, *(item(str(n), vector, {"n": vector[0]}) for n in range(count)))
            spans = list(traced.exporter.get_finished_spans())
            [store] = named(spans, "store upsert")
            below = [span.name for span in statements(spans) if parent_of(span) == id_of(store)]
            # What is there is locked, content and vectors are written; vectors that nobody has any more go.
            expected = ["BEGIN", "SELECT", "INSERT", "WITH", "COMMIT"]
            if vector[1]:
                expected = ["BEGIN", "SELECT", "WITH", "WITH", "DELETE", "COMMIT"]
            assert below == expected


async def test_a_setting_shows_the_values(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTENT_VARIABLE, "true")
    values = [attributes(span).get("db.statement.parameters") for span in statements(await used(database_url))]
    assert SECRET in str(values)


async def test_once_it_stopped_nothing_is_traced_any_more(database_url: str) -> None:
    async with traced_search(database_url) as (stub, traced, _):
        await create(stub)
    before = len(traced.exporter.get_finished_spans())
    async with (
        running(settings_for(database_url), SearchApp, "search") as server,
        open_channel(server.address, tracer_provider=traced.provider) as channel,
    ):
        await upsert(search_pb2_grpc.SearchServiceStub(channel), item("b", [1, 0, 0, 0]))
    # The client's own.
    assert [span.name.rpartition("/")[2] for span in traced.exporter.get_finished_spans()[before:]] == []


async def test_calls_to_qdrant_stand_below_operations_and_carry_the_trace() -> None:
    standin = StandIn()
    await standin.start()
    try:
        spans = await used(standin.url())
    finally:
        await standin.remove()
    by_id = {id_of(span): span for span in spans}
    below: dict[str, list[object]] = {}
    for span in spans:
        if str(attributes(span).get("rpc.service")).startswith("qdrant."):
            below.setdefault(by_id[parent_of(span)].name, []).append(attributes(span)["rpc.method"])
            assert attributes(span)["server.address"] == f"127.0.0.1:{standin.port}"
    # What is there is read before it is written.
    assert below["store upsert"] == ["Get", "Upsert"]
    assert below["store search"] == ["Query", "Query", "Get"]
    # The one before wrote the collection's name.
    _, upsert = (span for span in spans if attributes(span).get("rpc.method") == "Upsert")
    assert upsert.context is not None
    [parent] = [value for key, value in standin.seen["Upsert"] if key == "traceparent"]
    assert parent.split("-")[1:3] == [f"{upsert.context.trace_id:032x}", f"{id_of(upsert):016x}"]
