"""What became of each image is counted, once, under the right name."""

import asyncio
from functools import partial

import grpc

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason
from router_svc.ingest.metrics import OUTCOMES
from tests.router.conftest import Mesh
from tests.router.helpers import error_of, item, request
from tests.support.waiting import until


def counted(mesh: Mesh) -> dict[str, float]:
    """Items by outcome, those that there are."""
    registry = mesh.server.runtime.registry
    found = {
        outcome: registry.get_sample_value("lensmesh_ingest_items_total", {"outcome": outcome}) for outcome in OUTCOMES
    }
    return {outcome: value for outcome, value in found.items() if value}


def value(mesh: Mesh, name: str) -> float | None:
    return mesh.server.runtime.registry.get_sample_value(f"lensmesh_ingest_{name}")


async def test_every_outcome_is_there_before_the_first_item(mesh: Mesh) -> None:
    registry = mesh.server.runtime.registry
    for outcome in OUTCOMES:
        assert registry.get_sample_value("lensmesh_ingest_items_total", {"outcome": outcome}) == 0


async def test_stored_items_are_counted_by_what_the_store_did(mesh: Mesh) -> None:
    await mesh.ingest(item("a"), item("b"))
    assert counted(mesh) == {"created": 2}
    await mesh.ingest(item("a"), item("c"))
    assert counted(mesh) == {"created": 3, "unchanged": 1}
    assert value(mesh, "item_seconds_count") == 4
    assert value(mesh, "in_flight_items") == 0
    assert value(mesh, "in_flight_bytes") == 0


async def test_a_call_of_one_item_counts_too(mesh: Mesh) -> None:
    await mesh.router.Ingest(router_pb2.IngestRequest(item=item("a")))
    await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=item("b", content=b""))))
    assert counted(mesh) == {"created": 1, "refused": 1}


async def test_the_callers_fault_is_refused_and_ours_is_failed(mesh: Mesh) -> None:
    mesh.encoder.item_errors[b"poison"] = [InternalFault(Reason.MODEL_FAILED, "the model failed on it")]
    await mesh.ingest(item("fine"), item("empty", content=b""), item("poison"))
    assert counted(mesh) == {"created": 1, "refused": 1, "failed": 1}
    assert value(mesh, "item_seconds_count") == 1


async def test_a_caller_that_leaves_is_neither(mesh: Mesh) -> None:
    mesh.encoder.faults.delay_s = 60
    stream = mesh.router.IngestStream(iter([request([item("a"), item("b")])]))
    reading = asyncio.create_task(stream.read())
    await until(lambda: value(mesh, "in_flight_items") == 2, "both are in flight")
    held = value(mesh, "in_flight_bytes")
    assert held is not None
    assert held > 0
    stream.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert await stream.code() is grpc.StatusCode.CANCELLED
    await until(lambda: counted(mesh) == {"cancelled": 2}, "both are counted")
    assert value(mesh, "in_flight_items") == 0


async def test_items_without_their_caption_are_counted(mesh: Mesh) -> None:
    await mesh.ingest(item("mute one"), item("fine"))
    assert counted(mesh) == {"created": 2}
    assert value(mesh, "uncaptioned_items_total") == 1


async def test_calls_to_the_services_behind_are_counted(mesh: Mesh) -> None:
    await mesh.ingest(item("a"))
    registry = mesh.server.runtime.registry

    def ended(service: str, method: str) -> bool:
        labels = {"grpc_type": "unary", "grpc_service": service, "grpc_method": method, "grpc_code": "OK"}
        return bool(registry.get_sample_value("grpc_client_handled_total", labels))

    for service, method in (
        ("lensmesh.encoder.v1.EncoderService", "EncodeImages"),
        ("lensmesh.caption.v1.CaptionerService", "CaptionImages"),
        ("lensmesh.search.v1.SearchService", "UpsertItems"),
    ):
        await until(partial(ended, service, method), f"{method} is counted")
