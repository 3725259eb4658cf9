"""From a bucket of a latency histogram to the trace of a call that fell into it, through a real Prometheus."""

import functools
import secrets
import time

import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from tests.observability.prometheus import SERVICES, Prometheus, metrics_of
from tests.support.exposed import scrape
from tests.support.meshes import Mesh
from tests.support.waiting import wait_until

# A method that the load does not use, so that no other call takes the bucket's place.
METHOD = "ListCollections"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def call(mesh: Mesh, trace_id: str, flags: str) -> None:
    """One call as a traced client makes it; `flags` "01": its trace is sampled."""
    parent = f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
    with grpc.insecure_channel(mesh.target) as channel:
        search_pb2_grpc.SearchServiceStub(channel).ListCollections(
            search_pb2.ListCollectionsRequest(), metadata=(("traceparent", parent),), timeout=60
        )


def traces(watched: Prometheus, metric: str, selector: str) -> set[str]:
    """The trace ids that Prometheus has kept for a histogram."""
    now = time.time()
    found = watched.get(
        "query_exemplars", query=f"{metric}_bucket{{{selector}}}", start=str(now - 3600), end=str(now + 60)
    )
    return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}


def comes(watched: Prometheus, trace_id: str, metric: str, selector: str) -> None:
    """Waits for one trace in one histogram."""
    wait_until(lambda: trace_id in traces(watched, metric, selector), f"the trace in {metric}{{{selector}}}")


def test_a_sampled_call_is_found_by_its_trace_in_every_service_it_passed(mesh: Mesh, watched: Prometheus) -> None:
    trace_id = secrets.token_hex(16)
    call(mesh, trace_id, "01")
    for job, metric in (
        ("router", "grpc_server_handling_seconds"),
        ("router", "grpc_client_handling_seconds"),
        ("search", "grpc_server_handling_seconds"),
    ):
        comes(watched, trace_id, metric, f'job="{job}",grpc_method="{METHOD}"')
    comes(watched, trace_id, "lensmesh_store_operation_seconds", 'job="search",operation="list_collections"')


@pytest.mark.parametrize(
    "metric",
    [
        "lensmesh_engine_forward_seconds",
        "lensmesh_engine_queue_seconds",
        "lensmesh_engine_prepare_seconds",
        "lensmesh_ingest_item_seconds",
    ],
)
def test_engines_and_ingest_have_exemplars_too(watched: Prometheus, metric: str) -> None:
    wait_until(lambda: bool(traces(watched, metric, 'job=~".+"')), f"exemplars of {metric}")


def calls(watched: Prometheus, job: str) -> float:
    """How many of them Prometheus knows of, in the histogram of one service."""
    [one] = watched.query(f'sum(grpc_server_handling_seconds_count{{job="{job}",grpc_method="{METHOD}"}})')
    return float(one["value"][1])


def has_more(watched: Prometheus, job: str, before: float) -> bool:
    """Whether a scrape has brought a call since."""
    return calls(watched, job) > before


def test_a_call_that_is_not_sampled_leaves_none(mesh: Mesh, watched: Prometheus) -> None:
    """The unsampled call comes last: none after it takes the place where its exemplar would be."""
    sampled, unsampled = secrets.token_hex(16), secrets.token_hex(16)
    metric, jobs = "grpc_server_handling_seconds", ("router", "search")
    call(mesh, sampled, "01")
    for job in jobs:
        comes(watched, sampled, metric, f'job="{job}",grpc_method="{METHOD}"')
    before = {job: calls(watched, job) for job in jobs}
    call(mesh, unsampled, "00")
    for job in jobs:
        wait_until(functools.partial(has_more, watched, job, before[job]), f"the call in {job}'s histogram")
    assert unsampled not in traces(watched, metric, f'grpc_method="{METHOD}"')
    for job in jobs:
        shown = scrape(metrics_of(mesh, job), OPEN_METRICS)
        assert "trace_id=" in shown
        assert unsampled not in shown


def test_exemplars_are_shown_in_openmetrics_only(mesh: Mesh) -> None:
    for service in SERVICES:
        open_metrics = scrape(metrics_of(mesh, service), OPEN_METRICS)
        assert open_metrics.endswith("# EOF\n")
        assert "trace_id=" in open_metrics
        assert "trace_id=" not in scrape(metrics_of(mesh, service))
