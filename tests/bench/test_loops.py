"""The two loops keep to what they promise, by counting; and a stream holds no more items than it was told to."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_cli.load import encoding, supply
from lensmesh_cli.load.loops import LoadAnswer, closed_loop, open_loop


async def test_a_closed_loop_has_so_many_calls_at_a_time() -> None:
    running, most = 0, 0

    async def call() -> LoadAnswer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return LoadAnswer(2)

    samples = await closed_loop(call, concurrency=5, seconds=0.2)
    assert most == 5
    assert len(samples) >= 5
    assert all(sample.items == 2 and sample.ended > sample.began for sample in samples)


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    answered = asyncio.Event()
    calls = 0

    async def call() -> LoadAnswer:
        nonlocal calls
        calls += 1
        if calls == 20:
            answered.set()
        await answered.wait()
        return LoadAnswer(1)

    # Were it to wait for the first answer, this would never end.
    samples = await asyncio.wait_for(open_loop(call, rate=100, seconds=0.2), 60)
    assert len(samples) == 20
    begins = sorted(sample.began for sample in samples)
    assert begins[-1] - begins[0] == pytest.approx(0.19)


async def test_an_open_loop_counts_from_when_a_call_was_due() -> None:
    async def call() -> LoadAnswer:
        # The client itself is held up: calls that were due meanwhile waited all the same.
        time.sleep(0.05)  # noqa: ASYNC251 - it is the loop that is held up
        return LoadAnswer(1)

    samples = await open_loop(call, rate=100, seconds=0.1)
    assert max(sample.ended - sample.began for sample in samples) > 0.2


class FakeStream:
    """Answers an EncodeStream in groups of four, out of order, and watches how many items it holds."""

    def __init__(self) -> None:
        self.most = 0

    async def EncodeStream(self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest]) -> AsyncIterator[Any]:
        held: list[str] = []
        reading = asyncio.create_task(self._read(requests, held))
        while not reading.done() or held:
            await asyncio.sleep(0.002)
            self.most = max(self.most, len(held))
            group, held[:] = held[-4:][::-1], held[:-4]
            if group:
                embedded = encoder_pb2.EncodeResult(embedding=common_pb2.Embedding(dimension=1))
                yield encoder_pb2.EncodeStreamResponse(
                    results=[encoder_pb2.EncodeStreamResult(ref=ref, result=embedded) for ref in group]
                )

    async def _read(self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest], held: list[str]) -> None:
        async for request in requests:
            held += [item.ref for item in request.items]


async def test_a_stream_keeps_its_window() -> None:
    service: Any = FakeStream()
    samples = await encoding.stream(service, supply.texts(1), in_flight=16, seconds=0.3, per_message=8)
    assert 8 <= service.most <= 16
    assert len(samples) >= 16
    assert not any(sample.errors for sample in samples)
