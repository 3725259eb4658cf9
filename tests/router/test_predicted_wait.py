"""Services that refuse by predicted wait: a router's stream waits its turn and reads no further, a call is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from tests.router.conftest import Mesh
from tests.router.fakes import SPACE, FakeEncoder, vector
from tests.router.helpers import error_of, item
from tests.support.waiting import until


class SlowEncoder(FakeEncoder):
    """One call at a time, each for so long; whoever would wait longer than a moment is refused with the wait."""

    def __init__(self, call_s: float) -> None:
        super().__init__()
        self.call_s = call_s
        self.busy_until = 0.0
        self.refused: list[float] = []

    async def EncodeImages(self, request: encoder_pb2.EncodeImagesRequest, context: Any) -> Any:
        wait_s = self.busy_until - time.monotonic()
        if wait_s > 0:
            self.refused.append(wait_s)
            raise Overloaded(
                Reason.OVERLOADED,
                f"The predicted wait for fake is {wait_s:.3g} s, the limit is 0 s: try again later.",
                retry_after_s=wait_s,
                metadata={"predicted_wait_seconds": wait_s},
            )
        self.busy_until = time.monotonic() + self.call_s
        await asyncio.sleep(self.call_s)
        return await super().EncodeImages(request, context)


async def test_a_stream_through_the_router_waits_its_turn_and_loses_nothing(unstarted: Mesh) -> None:
    slow = SlowEncoder(0.05)
    unstarted.encoders = [slow]
    mesh = await unstarted.start(batch_items=8, batch_calls=4)
    refs = [f"p{number}" for number in range(64)]
    items = [encoder_pb2.EncodeStreamItem(ref=ref, image=common_pb2.Image(content=ref.encode())) for ref in refs]
    results: dict[str, encoder_pb2.EncodeResult] = {}
    async for response in mesh.encoder_service.EncodeStream(
        iter([encoder_pb2.EncodeStreamRequest(items=items)]), timeout=120
    ):
        for result in response.results:
            assert result.ref not in results
            results[result.ref] = result.result
    assert {ref: result.embedding for ref, result in results.items()} == {
        ref: vector(ref.encode(), SPACE) for ref in refs
    }
    # It was refused, and what was refused was done once.
    assert slow.refused
    assert sorted(slow.images) == sorted(ref.encode() for ref in refs)


async def test_ingest_waits_as_well(unstarted: Mesh) -> None:
    slow = SlowEncoder(0.05)
    unstarted.encoders = [slow]
    mesh = await unstarted.start(batch_items=8)
    results = await mesh.ingest(*(item(f"p{number}") for number in range(64)))
    assert len(results) == 64
    assert all(result.HasField("item") for result in results.values())
    assert slow.refused


async def test_a_stream_is_read_no_further_while_nobody_takes_its_items(unstarted: Mesh) -> None:
    mesh = await unstarted.start(stream_in_flight_bytes=500_000, batch_items=4)
    mesh.encoder.faults.fail_always = Overloaded(Reason.OVERLOADED, "the predicted wait is long", retry_after_s=0.2)
    sent = 0

    async def messages() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        nonlocal sent
        for number in range(400):
            image = common_pb2.Image(content=number.to_bytes(4, "big") * 12_500)
            yield encoder_pb2.EncodeStreamRequest(items=[encoder_pb2.EncodeStreamItem(ref=str(number), image=image)])
            sent += 1

    stream = mesh.encoder_service.EncodeStream(messages(), timeout=120)
    answers = asyncio.create_task(_count(stream))
    await until(lambda: len(mesh.encoder.faults.calls) > 6, "refused more than once")
    # 20 MB in all; what lies in between is the transport's windows, on both sides.
    assert sent < 200
    assert not answers.done()
    mesh.encoder.faults.fail_always = None
    assert await answers == 400


async def test_a_call_is_told_when_to_come_back(unstarted: Mesh) -> None:
    slow = SlowEncoder(0.5)
    slow.busy_until = time.monotonic() + 3600
    unstarted.encoders = [slow]
    mesh = await unstarted.start()
    request = encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=b"p")])
    error = await error_of(mesh.encoder_service.EncodeImages(request))
    assert isinstance(error, Overloaded)
    assert error.retry_after_s is not None
    assert 3000 < error.retry_after_s < 3600
    assert float(error.metadata["predicted_wait_seconds"]) > 3000


async def _count(stream: Any) -> int:
    count = 0
    async for response in stream:
        assert all(result.result.HasField("embedding") for result in response.results)
        count += len(response.results)
    return count
