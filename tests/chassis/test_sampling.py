"""Which traces are kept: the standard variables, a smaller share of bulk, and only what belongs to a call."""

from collections.abc import Mapping

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from lensmesh_chassis.settings import SettingsError
from lensmesh_chassis.telemetry.sampling import BULK_VARIABLE, DEFAULT_BULK_RATIO, MeshSampler, bulk_ratio

BULK = {"lensmesh.lane": "bulk"}
STREAM = {"rpc.method": "IngestStream"}
MANY = 4000


def share(sampler: Sampler, attributes: Mapping[str, str]) -> float:
    """How much of many new traces is kept."""
    tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test")
    kept = [tracer.start_span("one", attributes=attributes).is_recording() for _ in range(MANY)]
    return sum(kept) / MANY


@pytest.mark.parametrize("attributes", [BULK, STREAM])
def test_of_bulk_work_a_part_is_kept(attributes: dict[str, str]) -> None:
    assert share(MeshSampler(ParentBased(ALWAYS_ON), 0.0), attributes) == 0
    assert share(MeshSampler(ParentBased(ALWAYS_ON), 1.0), attributes) == 1
    assert 0.4 < share(MeshSampler(ParentBased(ALWAYS_ON), 0.5), attributes) < 0.6


def test_other_work_is_the_standard_samplers_matter() -> None:
    search = {"rpc.method": "Search"}
    assert share(MeshSampler(ParentBased(ALWAYS_ON), 0.0), search) == 1
    assert share(MeshSampler(ParentBased(ALWAYS_OFF), 1.0), search) == 0
    assert 0.2 < share(MeshSampler(TraceIdRatioBased(0.3), 0.0), search) < 0.4
    # An owner who says that a stream is not bulk is believed.
    assert share(MeshSampler(ParentBased(ALWAYS_ON), 0.0), STREAM | {"lensmesh.lane": "interactive"}) == 1


def test_bulk_never_exceeds_what_the_standard_sampler_keeps() -> None:
    assert share(MeshSampler(ParentBased(ALWAYS_OFF), 1.0), BULK) == 0


@pytest.mark.parametrize("kept", [True, False])
def test_all_of_a_trace_follows_its_first_span(kept: bool) -> None:
    tracer = TracerProvider(sampler=MeshSampler(ParentBased(ALWAYS_ON), float(kept)), shutdown_on_exit=False)
    first = tracer.get_tracer("test").start_span("first", attributes=BULK)
    inside = trace.set_span_in_context(first)
    for attributes in ({}, BULK, STREAM, {"db.system": "postgresql"}):
        assert tracer.get_tracer("test").start_span("next", inside, attributes=attributes).is_recording() is kept


def test_statements_that_no_call_asked_for_begin_no_trace() -> None:
    assert share(MeshSampler(ParentBased(ALWAYS_ON), 1.0), {"db.system": "postgresql"}) == 0


def test_the_share_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BULK_VARIABLE, raising=False)
    assert bulk_ratio() == DEFAULT_BULK_RATIO
    monkeypatch.setenv(BULK_VARIABLE, "0.25")
    assert bulk_ratio() == 0.25
    for wrong in ("much", "2", "-0.1", "nan"):
        monkeypatch.setenv(BULK_VARIABLE, wrong)
        with pytest.raises(SettingsError, match=f"{BULK_VARIABLE} is '{wrong}': write a number from 0"):
            bulk_ratio()
