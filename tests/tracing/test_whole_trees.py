"""An ingest of fifty images and three searches, as a real Jaeger has them: nothing missing, nothing too much."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lensmesh_chassis.process.server_info import version
from tests.support.meshes import draw_images
from tests.tracing.conftest import Traced
from tests.tracing.ingest_trace import INGEST_STREAM, is_whole, stream_of
from tests.tracing.traces import Trace, assert_well_made, sort

COUNT = 50
STEPS = ["caption", "encode", "lookup", "write"]
# The calls that carry items.
CARRIERS = ("GetItems", "ListItems", "EncodeImages", "CaptionImages", "UpsertItems")


@pytest.fixture(scope="module")
def ingested(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The trace of `lensmesh ingest` of fifty images."""
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder, COUNT, start=10_000)
    done = traced.lensmesh("ingest", folder, "--collection", "whole", "--json")
    assert json.loads(done.stdout)["outcomes"] == {"created": COUNT}, done.stderr
    trace_id = traced.jaeger.find("router", INGEST_STREAM, collection="whole")
    return traced.jaeger.trace(trace_id, is_whole)


def test_the_ingest_is_well_made(ingested: Trace) -> None:
    assert_well_made(ingested)


def test_the_ingest_begins_with_its_caller(ingested: Trace) -> None:
    root = ingested.root
    assert (root.service, root.name) == ("cli", "lensmesh ingest_many")
    assert root.attributes["lensmesh.lane"] == "bulk"
    assert [span.method for span in ingested.below(root)] == ["GetStatus", "IngestStream"]


def test_every_item_has_a_span_of_its_own_with_every_step(ingested: Trace) -> None:
    stream = stream_of(ingested)
    items = ingested.below(stream, name="item")
    assert sorted(span.attributes["lensmesh.item.index"] for span in items) == list(range(COUNT))
    assert len({span.attributes["lensmesh.item.id"] for span in items}) == COUNT
    for item in items:
        assert sorted(span.name for span in ingested.below(item)) == STEPS
        assert item.attributes["lensmesh.item.outcome"] == "created"
        assert item.attributes["lensmesh.cache_hit"] is False
        assert item.start_us >= stream.start_us
        assert item.end_us <= stream.end_us + 1000
    others = {span.method for span in ingested.below(stream) if span.name != "item"}
    assert others == {"GetCollection", "CreateCollection", *CARRIERS}


@pytest.mark.parametrize("method", CARRIERS)
def test_every_item_rides_in_one_call_of_each_kind(ingested: Trace, method: str) -> None:
    stream = stream_of(ingested)
    calls = ingested.below(stream, method=method)
    carried = Counter(item.id for call in calls for item in ingested.linked(call))
    assert carried == {item.id: 1 for item in ingested.below(stream, name="item")}


def test_an_item_is_linked_to_those_calls_and_to_nothing_else(ingested: Trace) -> None:
    for item in ingested.below(stream_of(ingested), name="item"):
        assert sorted(call.method for call in ingested.linked(item)) == sorted(CARRIERS)


@pytest.mark.parametrize(("method", "service"), [("EncodeImages", "encoder"), ("CaptionImages", "caption")])
def test_inside_the_model_services(ingested: Trace, method: str, service: str) -> None:
    for call in ingested.all(method=method, kind="client"):
        served = ingested.served(call)
        carried = len(call.links)
        assert served.service == service
        assert served.attributes["lensmesh.batch.size"] == carried
        assert served.attributes["lensmesh.lane"] == "bulk"
        items = ingested.below(served, name="item")
        assert [item.attributes["lensmesh.item.index"] for item in items] == list(range(carried))
        for item in items:
            assert [span.name for span in ingested.below(item)] == ["decode", "queue", "forward"]
            assert [batch.name for batch in ingested.linked(item)] == ["batch"]
            assert item.attributes["lensmesh.item.bytes"] > 0
            assert str(item.attributes["lensmesh.model"]).startswith("mock")
        assert {sort(span) for span in ingested.below(served)} <= {"item", "batch"}
    batches = ingested.all(name="batch", service=service)
    assert sum(batch.attributes["lensmesh.batch.size"] for batch in batches) == COUNT


def test_down_to_the_database(ingested: Trace) -> None:
    written = 0
    for call in ingested.all(method="UpsertItems", kind="client"):
        store = ingested.only(ingested.served(call), name="store upsert")
        statements = [span.name for span in ingested.below(store)]
        assert statements[0] == "BEGIN"
        assert {"INSERT", "COMMIT"} <= set(statements)
        written += len(call.links)
    assert written == COUNT
    for statement in (span for span in ingested if sort(span) == "statement"):
        assert statement.service == "search"
        assert "db.statement.parameters" not in statement.attributes


def test_every_call_of_the_ingest_ended_as_it_should(ingested: Trace) -> None:
    """Only the look at a collection that is not there yet is told that it is not."""
    codes = Counter((span.method, span.kind, span.code) for span in ingested if span.code not in ("", "OK"))
    assert codes == {("GetCollection", "client", "NOT_FOUND"): 1, ("GetCollection", "server", "NOT_FOUND"): 1}
    [asked] = [span for span in ingested if span.failed]
    assert (asked.method, asked.kind) == ("GetCollection", "client")


def test_resources_say_who_it_was(ingested: Trace, traced: Traced) -> None:
    for service in ("router", "encoder", "caption", "search", "cli"):
        resource = traced.jaeger.resource(ingested.root.trace_id, f"lensmesh-{service}")
        assert resource["service.version"] == version()
        assert resource["service.namespace"] == "lensmesh"
        assert resource["service.instance.id"]


@pytest.mark.parametrize("words", ["a red circle", "two boats", "nothing at all"])
def test_a_search(traced: Traced, ingested: Trace, words: str) -> None:
    done = traced.lensmesh("search", words, "--collection", "whole", "--trace", "--json")
    told = json.loads(done.stdout)
    assert told["trace"] == f"{traced.jaeger.address}/trace/{told['trace_id']}"
    trace = traced.jaeger.trace(told["trace_id"], is_whole)
    assert_well_made(trace)
    assert (trace.root.service, trace.root.name) == ("cli", "lensmesh search")
    search = trace.served(trace.only(trace.root))
    assert search.method == "Search"
    assert search.attributes["lensmesh.collection"] == "whole"
    calls = [call.method for call in trace.below(search)]
    # A router forgets a collection after a few seconds, and asks again.
    assert calls in (["EncodeTexts", "Search"], ["GetCollection", "EncodeTexts", "Search"])
    encoded = trace.served(trace.only(search, method="EncodeTexts"))
    item = trace.only(encoded, name="item")
    assert [span.name for span in trace.below(item)] == ["tokenize", "queue", "forward"]
    assert item.attributes["lensmesh.lane"] == "interactive"
    store = trace.only(trace.served(trace.only(search, method="Search")), name="store search")
    # One round trip.
    assert [span.name for span in trace.below(store)] == ["WITH"]
    assert not [span for span in trace if span.failed or span.code not in ("", "OK")]
    # Nobody reads in a trace what was searched for.
    assert not [span for span in trace if words in str(span)]


def test_the_trace_s_address_is_printed_for_people(traced: Traced, ingested: Trace) -> None:
    done = traced.lensmesh("search", "a boat", "--collection", "whole", "--trace")
    [line] = [line for line in done.stderr.splitlines() if line.startswith("trace: ")]
    trace_id = line.rpartition("/")[2]
    assert line == f"trace: {traced.jaeger.address}/trace/{trace_id}"
    assert traced.jaeger.trace(trace_id, is_whole).root.name == "lensmesh search"


def test_a_second_ingest_says_what_was_there(traced: Traced, ingested: Trace, tmp_path: Path) -> None:
    draw_images(tmp_path, 3, start=10_000)
    done = traced.client("ingest_again", str(tmp_path))
    assert done.returncode == 0, done.stderr
    trace = traced.jaeger.trace(done.stdout.split()[0], is_whole)
    assert_well_made(trace)
    for item in trace.below(stream_of(trace), name="item"):
        assert item.attributes["lensmesh.cache_hit"] is True
        assert item.attributes["lensmesh.item.outcome"] == "unchanged"
        assert [span.name for span in trace.below(item)] == ["lookup"]


def test_a_synchronous_client_goes_on_with_its_callers_trace(traced: Traced, ingested: Trace) -> None:
    done = traced.client("search_blocking")
    assert done.returncode == 0, done.stderr
    trace = traced.jaeger.trace(done.stdout.strip(), is_whole)
    assert_well_made(trace)
    good, bad = trace.below(trace.root, name="lensmesh search")
    assert trace.only(good).code == "OK"
    assert (trace.only(bad).code, trace.served(trace.only(bad)).code) == ("NOT_FOUND", "NOT_FOUND")
    # Search found out; the others passed it on.
    assert [span.service for span in trace if span.exceptions] == ["search"]
