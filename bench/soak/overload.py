"""A client that sends ten times what the device can compute, as single calls and as streams."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

from bench.soak.images import small_images
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.channels import open_channel

SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
TIMES = 10.0
PROBED_S = 5.0
# In one call, so that the client itself keeps up.
IMAGES_A_CALL = 16
STREAMS = 2
SENT, DONE = ("sent in calls",), ("calls: done", "streams: answered")


class Flood:
    """A flood of one Encoder. `seen` counts images by their outcome; a refused call counts as sent."""

    def __init__(self, target: str) -> None:
        self._target = target
        images = [common_pb2.Image(content=content) for content in small_images(IMAGES_A_CALL)]
        # Made once: a client on the same machine could not send ten times as much otherwise.
        self._request = encoder_pb2.EncodeImagesRequest(images=images).SerializeToString()
        items = [encoder_pb2.EncodeStreamItem(ref="x", image=image) for image in images]
        self._message = encoder_pb2.EncodeStreamRequest(items=items).SerializeToString()
        self._stop = asyncio.Event()
        self.seen: Counter[str] = Counter()
        self.rate = 0.0
        """The images a second that the device can compute. It is measured first."""

    async def work(self) -> None:
        """Find the rate of the device, then send ten times as much until `stop`."""
        async with open_channel(self._target, services=(), instrument=False) as channel:
            encode: Any = channel.unary_unary(f"/{SERVICE}/EncodeImages")
            stream: Any = channel.stream_stream(f"/{SERVICE}/EncodeStream")
            await self._probe(encode)
            streams = [asyncio.create_task(self._stream(stream)) for _ in range(STREAMS)]
            await self._calls(encode)
            for one in streams:
                one.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    def stop(self) -> None:
        """End the flood."""
        self._stop.set()

    async def _probe(self, encode: Any) -> None:
        began, calls = time.monotonic(), 0

        async def one_caller() -> None:
            nonlocal calls
            while time.monotonic() < began + PROBED_S:
                await encode(self._request, timeout=600)
                calls += 1

        await asyncio.gather(*(one_caller() for _ in range(4)))
        self.rate = calls * IMAGES_A_CALL / (time.monotonic() - began)

    async def _calls(self, encode: Any) -> None:
        """Send calls at a constant rate, whatever becomes of them."""
        pause_s = IMAGES_A_CALL / (TIMES * self.rate)
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            due += pause_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._call(encode))
            running.add(task)
            task.add_done_callback(running.discard)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _call(self, encode: Any) -> None:
        self.seen["sent in calls"] += IMAGES_A_CALL
        try:
            await encode(self._request, timeout=30)
        except grpc.aio.AioRpcError as error:
            self.seen[f"calls: {error.code().name}"] += IMAGES_A_CALL
        else:
            self.seen["calls: done"] += IMAGES_A_CALL

    async def _stream(self, stream: Any) -> None:
        """Send a stream as fast as the service reads it."""

        async def requests() -> AsyncIterator[bytes]:
            while True:
                yield self._message

        async for response in stream(requests()):
            self.seen["streams: answered"] += len(encoder_pb2.EncodeStreamResponse.FromString(response).results)
