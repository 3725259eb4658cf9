"""Services that go, come back, hang or have too much to do, while images come in."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import DeadlineExceeded, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.router.conftest import Mesh
from tests.router.fakes import FakeEncoder
from tests.router.helpers import error_of, item, reason_of, request, retry_s
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops


async def test_an_encoder_lost_and_back_costs_no_item(mesh: Mesh) -> None:
    mesh.encoder.faults.delay_s = 0.05
    running = asyncio.create_task(mesh.ingest(*(item(f"p{n}") for n in range(200))))
    await until(lambda: len(mesh.encoder.images) >= 32, "some are encoded")
    await mesh.host(mesh.encoder).kill()
    await asyncio.sleep(0.3)
    await mesh.host(mesh.encoder).start()
    results = await running
    assert all(result.HasField("item") for result in results.values())
    assert len(mesh.stored()) == 200
    written = [item_id for batch in mesh.search.writes for item_id in batch]
    assert len(written) == len(set(written)) == 200


async def test_a_lost_encoders_items_are_done_by_another(unstarted: Mesh) -> None:
    unstarted.encoders.append(FakeEncoder())
    mesh = await unstarted.start()
    for encoder in mesh.encoders:
        encoder.faults.delay_s = 0.05
    running = asyncio.create_task(mesh.ingest(*(item(f"p{n}") for n in range(200))))
    await until(lambda: all(encoder.images for encoder in mesh.encoders), "both work")
    await mesh.host(mesh.encoders[0]).kill()
    results = await running
    assert all(result.HasField("item") for result in results.values())
    assert len(mesh.stored()) == 200


async def test_overload_is_a_wait(mesh: Mesh) -> None:
    mesh.encoder.faults.fail_next = [Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1) for _ in range(6)]
    results = await mesh.ingest(*(item(f"p{n}") for n in range(50)))
    assert all(result.HasField("item") for result in results.values())


async def test_one_overloaded_item_of_a_batch_is_tried_again(mesh: Mesh) -> None:
    mesh.encoder.item_errors[b"p3"] = [Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1)]
    results = await mesh.ingest(*(item(f"p{n}") for n in range(5)))
    assert all(result.HasField("item") for result in results.values())
    assert mesh.encoder.images.count(b"p0") == 1


async def test_a_call_is_refused_where_a_stream_waits(mesh: Mesh) -> None:
    mesh.encoder.faults.fail_always = Overloaded(Reason.OVERLOADED, "full", retry_after_s=7)
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=item("p"))))
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 7


@pytest.mark.parametrize("fault", ["away", "busy"])
async def test_what_no_encoder_takes_in_time_fails_with_a_time_to_come_back(unstarted: Mesh, fault: str) -> None:
    mesh = await unstarted.start(wait_seconds=0.5)
    if fault == "away":
        await mesh.host(mesh.encoder).kill()
        reason = Reason.ENCODER_UNAVAILABLE
    else:
        mesh.encoder.faults.fail_always = Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1)
        reason = Reason.OVERLOADED
    results = await mesh.ingest(item("a"), item("b"))
    for result in results.values():
        assert reason_of(result.error) == reason
        assert retry_s(result.error)
    assert mesh.stored() == {}


async def test_an_encoder_nobody_has_seen_yet_is_waited_for(unstarted: Mesh) -> None:
    late = FakeEncoder()
    mesh = await unstarted.start()
    host = mesh.host(mesh.encoder)
    await host.kill()
    other = await Mesh(mesh._stack).start(encoder_targets=host.address)
    running = asyncio.create_task(other.ingest(item("a")))
    await asyncio.sleep(0.5)
    host.fake = late
    await host.start()
    results = await running
    assert results["a"].HasField("item")
    assert late.images == [b"a"]


async def test_a_store_that_is_down_and_back_costs_no_item(mesh: Mesh) -> None:
    await mesh.ingest(item("first"))
    mesh.search.faults.fail_always = Unavailable(Reason.STORE_UNAVAILABLE, "no database", retry_after_s=0.1)
    running = asyncio.create_task(mesh.ingest(*(item(f"p{n}") for n in range(20))))
    calls = len(mesh.search.faults.calls)
    await until(lambda: len(mesh.search.faults.calls) > calls + 2, "it is tried")
    mesh.search.faults.fail_always = None
    results = await running
    assert all(result.HasField("item") for result in results.values())
    assert len(mesh.stored()) == 21


async def test_a_store_that_stays_down_fails_each_item_with_its_reason(unstarted: Mesh) -> None:
    mesh = await unstarted.start(wait_seconds=0.5, collection_cache_seconds=60)
    await mesh.ingest(item("first"))
    mesh.search.faults.fail_always = Unavailable(Reason.STORE_UNAVAILABLE, "no database", retry_after_s=0.1)
    results = await mesh.ingest(item("a"), item("b"))
    assert {reason_of(result.error) for result in results.values()} == {Reason.STORE_UNAVAILABLE}
    assert all(retry_s(result.error) for result in results.values())


async def test_a_search_service_that_is_gone_is_named(unstarted: Mesh) -> None:
    mesh = await unstarted.start()
    await mesh.host(mesh.search).kill()
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=item("p"))))
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.SEARCH_UNAVAILABLE
    assert error.retry_after_s
    assert mesh.host(mesh.search).address in error.message


async def test_a_cancelled_stream_leaves_nothing_behind(mesh: Mesh) -> None:
    mesh.encoder.faults.gate = asyncio.Event()
    stream = mesh.router.IngestStream()
    await stream.write(request(item(f"p{n}") for n in range(256)))
    await until(lambda: mesh.encoder.faults.in_flight > 0, "the encoder works")
    stream.cancel()
    await until(lambda: mesh.encoder.faults.in_flight == 0, "the encoder is left alone")
    await until(lambda: mesh.captioner.faults.in_flight == 0, "the captioner is left alone")
    mesh.encoder.faults.gate.set()
    assert mesh.stored() == {}
    assert (await mesh.ingest(item("after")))["after"].HasField("item")


async def test_a_deadline_reaches_the_encoder_and_ends_the_call(mesh: Mesh) -> None:
    mesh.encoder.faults.gate = asyncio.Event()
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=item("p")), timeout=1.5))
    assert isinstance(error, DeadlineExceeded)
    # On each way gRPC rounds what is left up to hundredths of a second.
    assert 0 < mesh.encoder.time_left_s[0] <= 1.5 + 0.02
    await until(lambda: mesh.encoder.faults.in_flight == 0, "the encoder is left alone")


async def test_a_hanging_encoders_work_goes_to_another(unstarted: Mesh) -> None:
    unstarted.encoders.append(FakeEncoder())
    mesh = await unstarted.start(call_seconds=0.5)
    mesh.encoders[0].faults.gate = asyncio.Event()
    results = await mesh.ingest(*(item(f"p{n}") for n in range(100)))
    assert all(result.HasField("item") for result in results.values())
    assert mesh.encoders[0].images == []


async def test_draining_answers_what_was_read(mesh: Mesh) -> None:
    mesh.encoder.faults.gate = asyncio.Event()
    answered: list[str] = []
    more = asyncio.Event()

    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield request(item(f"p{n}") for n in range(10))
        await more.wait()
        yield request([item("late")])

    async def read() -> None:
        async for response in mesh.router.IngestStream(messages()):
            answered.extend(result.ref for result in response.results)

    reading = asyncio.create_task(read())
    await until(lambda: mesh.encoder.faults.in_flight > 0, "the encoder works")
    mesh.server.runtime.draining.set()
    mesh.encoder.faults.gate.set()
    with pytest.raises(grpc.RpcError) as caught:
        await reading
    more.set()
    error = from_rpc_error(caught.value)
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.DRAINING
    assert sorted(answered) == [f"p{n}" for n in range(10)]


async def test_a_stream_that_has_sent_nothing_does_not_hold_up_draining(mesh: Mesh) -> None:
    for method in (
        mesh.router.IngestStream,
        mesh.encoder_service.EncodeStream,
        mesh.captioner_service.CaptionStream,
    ):
        stream = method()
        await stream.wait_for_connection()
        mesh.server.runtime.draining.set()
        assert (await error_of(stream.read())).reason is Reason.DRAINING
        mesh.server.runtime.draining.clear()


async def test_a_draining_router_waits_for_nobody(mesh: Mesh) -> None:
    await mesh.ingest(item("first"))
    await mesh.host(mesh.encoder).kill()
    stream = mesh.router.IngestStream()
    await stream.write(request([item("a")]))
    await until(lambda: len(mesh.captioner.images) == 2, "the item is on its way")
    mesh.server.runtime.draining.set()
    response = await stream.read()
    [result] = response.results
    assert reason_of(result.error) == Reason.ENCODER_UNAVAILABLE
    assert retry_s(result.error)


async def test_the_request_id_reaches_the_encoder(mesh: Mesh) -> None:
    metadata = (("x-request-id", "from-the-caller"),)
    await mesh.router.Ingest(router_pb2.IngestRequest(item=item("p")), metadata=metadata)
    assert mesh.encoder.request_ids == ["from-the-caller"]


async def test_reading_stops_while_too_much_is_in_flight(unstarted: Mesh) -> None:
    mesh = await unstarted.start(stream_in_flight_bytes=500_000)
    mesh.encoder.faults.gate = asyncio.Event()
    sent = 0

    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        nonlocal sent
        for number in range(100):
            sent += 1
            yield request([item(f"p{number}", f"{number}".encode() + b"0" * 100_000)])

    async def read() -> list[str]:
        answers = mesh.router.IngestStream(messages())
        return [result.ref async for response in answers for result in response.results]

    reading = asyncio.create_task(read())
    await until(lambda: mesh.encoder.faults.in_flight > 0, "the encoder works")
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.5)
    assert sent < 100
    mesh.encoder.faults.gate.set()
    assert len(await reading) == 100
