"""Calls are refused by predicted wait, streams wait; two devices share one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from encoder_svc.model import EncoderInput, Worker
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.batching.faults import DeviceLost
from tests.encoder.helpers import HeldModel, refused, serving
from tests.support.waiting import until

BULK = encoder_pb2.EncodeOptions(priority=common_pb2.PRIORITY_BULK)


def texts(*words: str) -> encoder_pb2.EncodeTextsRequest:
    return encoder_pb2.EncodeTextsRequest(texts=words, options=BULK)


async def stream(stub: Any, words: Sequence[str]) -> dict[str, encoder_pb2.EncodeResult]:
    items = [encoder_pb2.EncodeStreamItem(ref=word, text=word) for word in words]
    call = stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(items=items)]), timeout=120)
    return {result.ref: result.result async for response in call for result in response.results}


async def test_a_call_that_would_wait_too_long_is_refused_and_a_stream_waits() -> None:
    model = HeldModel()
    async with serving(model, max_wait_seconds=0.2, cache_bytes=0) as served:
        batcher = served.engine.served[0].batcher
        model.inside.clear()
        model.free.clear()
        first = asyncio.ensure_future(served.stub.EncodeTexts(texts("first")))
        await until(model.inside.is_set)
        # A batch that runs over its prediction is expected to run over for as long again.
        await until(lambda: batcher.wait_s(Lane.BULK) > 0.2)
        error = await refused(served.stub.EncodeTexts(texts("second")))
        streamed = asyncio.ensure_future(stream(served.stub, [f"word {number}" for number in range(40)]))
        # Time for it to be refused, were it treated as a call.
        await asyncio.sleep(0.3)
        assert not streamed.done()
        assert batcher.held_items == 1
        model.free.set()
        assert len((await first).results) == 1
        results = await streamed
    assert isinstance(error, Overloaded)
    assert error.reason is Reason.OVERLOADED
    assert error.retry_after_s is not None
    assert error.retry_after_s > 0.2
    assert float(error.metadata["predicted_wait_seconds"]) > 0.2
    assert float(error.metadata["max_wait_seconds"]) == 0.2
    assert len(results) == 40
    assert all(result.HasField("embedding") for result in results.values())


class TwoDevices(HeldModel):
    """Two workers, the first of which can be unplugged."""

    def __init__(self) -> None:
        super().__init__()
        self.unplugged = False
        self.used: set[int] = set()

    def workers(self) -> Sequence[Worker]:
        return [lambda batch: self._on(0, batch), lambda batch: self._on(1, batch)]

    def _on(self, device: int, batch: Sequence[EncoderInput]) -> Any:
        self.used.add(device)
        outputs = self.compute(batch)
        if device == 0 and self.unplugged:
            raise DeviceLost("it fell off the bus")
        return outputs


async def test_a_lost_device_costs_no_item_and_the_other_serves_on() -> None:
    model = TwoDevices()
    async with serving(model, max_batch=4, cache_bytes=0) as served:
        batcher = served.engine.served[0].batcher
        assert batcher.devices == 2
        model.free.clear()
        words = [f"word {number}" for number in range(64)]
        streamed = asyncio.ensure_future(stream(served.stub, words))
        await until(lambda: len(batcher.running()) == 2)
        model.unplugged = True
        model.free.set()
        results = await streamed
        assert batcher.devices == 1
        assert model.used == {0, 1}
        answer = await served.stub.EncodeTexts(texts("after"))
    assert sorted(results) == sorted(words)
    assert all(result.HasField("embedding") for result in [*results.values(), *answer.results])
