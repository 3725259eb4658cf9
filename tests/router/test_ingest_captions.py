"""What a missing captioner means is the caller's decision."""

import asyncio

import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from router_svc.settings import RouterSettings
from tests.router.conftest import Mesh
from tests.router.helpers import error_of, item, reason_of, retry_s
from tests.support.waiting import until


async def test_best_effort_stores_without_and_says_so(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    results = await mesh.ingest(*(item(f"p{n}") for n in range(5)))
    for result in results.values():
        assert reason_of(result.item.caption_error) == Reason.CAPTIONER_UNAVAILABLE
        assert not result.item.HasField("caption")
    assert len(mesh.stored()) == 5


async def test_what_was_stored_without_gets_its_caption_later(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    await mesh.ingest(item("p"))
    await mesh.host(mesh.captioner).start()

    for _ in range(100):
        [result] = (await mesh.ingest(item("p"))).values()
        if result.item.HasField("caption"):
            break
        await asyncio.sleep(0.1)
    [stored] = mesh.stored().values()
    assert stored.caption.text == "an image of p"
    assert len(mesh.encoder.images) == 1


async def test_required_refuses_with_a_time_to_come_back(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    results = await mesh.ingest(item("a"), item("b"), captions=router_pb2.CAPTION_POLICY_REQUIRED)
    for result in results.values():
        assert reason_of(result.error) == Reason.CAPTIONER_UNAVAILABLE
        assert retry_s(result.error)
        assert mesh.host(mesh.captioner).address in result.error.message
    assert mesh.stored() == {}


async def test_none_asks_for_none(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    [result] = (await mesh.ingest(item("p"), captions=router_pb2.CAPTION_POLICY_NONE)).values()
    assert not result.item.HasField("caption_error")
    assert not result.item.HasField("caption")


@pytest.mark.parametrize("policy", [router_pb2.CAPTION_POLICY_BEST_EFFORT, router_pb2.CAPTION_POLICY_REQUIRED])
async def test_an_image_that_leaves_the_model_speechless(
    mesh: Mesh, policy: router_pb2.CaptionPolicy.ValueType
) -> None:
    results = await mesh.ingest(item("mute one"), item("fine"), captions=policy)
    assert results["fine"].item.caption.text == "an image of fine"
    if policy == router_pb2.CAPTION_POLICY_REQUIRED:
        assert reason_of(results["mute one"].error) == Reason.CAPTION_REQUIRED
        assert retry_s(results["mute one"].error) is None
        assert len(mesh.stored()) == 1
    else:
        assert reason_of(results["mute one"].item.caption_error) == Reason.MODEL_FAILED
        assert len(mesh.stored()) == 2


async def test_a_router_without_captioners(unstarted: Mesh) -> None:
    mesh = await unstarted.start(caption_targets="")
    results = await mesh.ingest(item("p"))
    assert reason_of(results["p"].item.caption_error) == Reason.CAPTIONER_UNAVAILABLE
    required = router_pb2.IngestOptions(captions=router_pb2.CAPTION_POLICY_REQUIRED)
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(options=required, item=item("q"))))
    assert error.reason is Reason.CAPTION_REQUIRED
    assert "caption_targets" in error.message
    assert error.retry_after_s is None


async def test_a_busy_captioner_is_waited_for(mesh: Mesh) -> None:
    mesh.captioner.faults.fail_next = [Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1) for _ in range(3)]
    results = await mesh.ingest(*(item(f"p{n}") for n in range(5)))
    assert all(result.item.HasField("caption") for result in results.values())


async def test_a_captioner_that_restarts_costs_no_caption(unstarted: Mesh) -> None:
    """It is away for longer than a few tries; and what is ingested meanwhile waits for it."""
    default = RouterSettings().caption_wait_seconds
    assert default >= 60
    mesh = await unstarted.start(caption_wait_seconds=default)
    await mesh.ingest(item("first"))
    host = mesh.host(mesh.captioner)
    await host.kill()
    running = asyncio.create_task(mesh.ingest(*(item(f"p{n}") for n in range(60))))
    await until(lambda: len(mesh.encoder.images) == 61, "all is encoded, and waits for captions")
    await asyncio.sleep(0.5)
    assert not running.done()
    await host.start()
    results = await running
    assert all(result.item.caption.text for result in results.values())
    assert not any(result.item.HasField("caption_error") for result in results.values())


async def test_a_captioner_that_never_was_there_is_waited_for_a_moment_only(
    unstarted: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router_svc.ingest.dependencies.STRANGER_WAIT_S", 0.1)
    unstarted.away = {id(unstarted.captioner)}
    mesh = await unstarted.start(caption_wait_seconds=600)
    [result] = (await mesh.ingest(item("p"))).values()
    assert reason_of(result.item.caption_error) == Reason.CAPTIONER_UNAVAILABLE
    assert mesh.host(mesh.captioner).address in result.item.caption_error.message
    assert "ingest it again" in result.item.caption_error.message
    # The same again asks for what it lacks, and nothing else.
    await mesh.host(mesh.captioner).start()
    await until(lambda: mesh.host(mesh.captioner).runtime is not None, "it is there")
    for _ in range(100):
        [result] = (await mesh.ingest(item("p"))).values()
        if result.item.HasField("caption"):
            break
        await asyncio.sleep(0.1)
    assert list(result.item.changes) == [search_pb2.ITEM_CHANGE_CAPTION]
    assert mesh.encoder.images == [b"p"]
