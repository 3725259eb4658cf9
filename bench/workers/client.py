"""A caller of EncoderService, in a separate process as callers are: python -m bench.workers.client FOLDER ADDRESS."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from bench.worker import Asked, serve
from lensmesh.caption.v1.caption_pb2_grpc import CaptionerServiceStub
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.encoder.v1.encoder_pb2_grpc import EncoderServiceStub
from lensmesh_chassis.channels import open_channel
from lensmesh_cli.load import captioning, encoding, supply
from lensmesh_cli.load.figures import CallSample, LoadFigures, summarize
from lensmesh_cli.load.loops import LoadAnswer, closed_loop, open_loop

if TYPE_CHECKING:
    from lensmesh.encoder.v1.encoder_pb2_grpc import EncoderServiceAsyncStub

# More than any service keeps of one stream: it is the service that stops reading, not we that stop sending.
IN_FLIGHT = 512
STREAMS = 4
FLOOD_CALLS_PER_S = 60.0
FLOOD_MOST_A_CALL = 16
# After a stream was refused.
REFUSED_S = 0.5
# Between two texts of the one who waits: often enough for percentiles, too seldom to be a load.
PAUSE_S = 0.05


class Caller:
    """The handlers for one service. Each measurement warms up first, on the same connection."""

    def __init__(self, folder: Path, address: str) -> None:
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        self._address = address
        self._salt = 0

    def facts(self, asked: Asked) -> dict[str, str]:
        """Return what the service says that it computes with."""

        async def ask() -> dict[str, str]:
            async with open_channel(self._address, instrument=False) as channel:
                info = await EncoderServiceStub(channel).GetInfo(encoder_pb2.GetInfoRequest(), timeout=60)
                model = info.models[0].model
                return {"model": model.name, "backend": model.backend, "precision": model.precision}

        return asyncio.run(ask())

    def stream(self, asked: Asked) -> dict[str, Any]:
        """Measure EncodeStream, as full as the service allows."""
        return self._measure(
            asked,
            lambda stub, items, seconds: encoding.stream(
                stub, items, in_flight=asked.get("in_flight", IN_FLIGHT), seconds=seconds
            ),
        )

    def closed(self, asked: Asked) -> dict[str, Any]:
        """Measure calls of `batch` items by `concurrency` callers."""
        return self._measure(
            asked,
            lambda stub, items, seconds: closed_loop(
                encoding.calls(stub, items, batch=asked["batch"]), concurrency=asked["concurrency"], seconds=seconds
            ),
        )

    def open(self, asked: Asked) -> dict[str, Any]:
        """Measure calls of one item at a constant `rate`."""
        return self._measure(
            asked,
            lambda stub, items, seconds: open_loop(encoding.calls(stub, items), rate=asked["rate"], seconds=seconds),
            offered=asked["rate"],
        )

    def waiting(self, asked: Asked) -> dict[str, Any]:
        """Measure texts that a waiting caller sends one after another. With `bulk`, images stream beside them.

        Returns the figures of the texts and of the bulk images.
        """
        return asyncio.run(self._waiting(asked))

    async def _waiting(self, asked: Asked) -> dict[str, Any]:
        seconds, warm = asked["seconds"], asked["warm"]
        async with (
            open_channel(self._address, instrument=False) as one,
            open_channel(self._address, instrument=False) as other,
        ):
            bulk: asyncio.Task[list[CallSample]] | None = None
            clock = asyncio.get_running_loop().time
            begin = clock() + warm
            if asked["bulk"]:
                pressed = encoding.stream(
                    EncoderServiceStub(other), self._supply("images"), in_flight=IN_FLIGHT, seconds=warm + seconds
                )
                bulk = asyncio.create_task(pressed)
            call = encoding.calls(
                EncoderServiceStub(one), self._supply("texts"), priority=common_pb2.PRIORITY_INTERACTIVE
            )

            texts: list[CallSample] = []
            while (began := clock()) < begin + seconds:
                answer = await call()
                texts.append(CallSample(began, clock(), answer.items, answer.errors, answer.steps))
                await asyncio.sleep(PAUSE_S)
            end = clock()
            images = [] if bulk is None else await bulk
        return {
            "texts": asdict(summarize(texts, begin, end)),
            "bulk": asdict(summarize(images, begin, end)) if images else None,
        }

    def captions(self, asked: Asked) -> dict[str, Any]:
        """Measure CaptionImages of `batch` images by `concurrency` callers. The address must be a Captioner's then."""
        return asyncio.run(self._captions(asked))

    async def _captions(self, asked: Asked) -> dict[str, Any]:
        async with open_channel(self._address, instrument=False) as channel:
            clock = asyncio.get_running_loop().time
            begin = clock() + asked["warm"]
            end = begin + asked["seconds"]
            self._salt += 1
            images = supply.images(self._contents, self._salt)
            call = captioning.calls(
                CaptionerServiceStub(channel), images, batch=asked["batch"], max_tokens=asked["tokens"]
            )
            samples = await closed_loop(
                call, concurrency=asked["concurrency"], seconds=asked["warm"] + asked["seconds"]
            )
            return asdict(summarize(samples, begin, end))

    def flood(self, asked: Asked) -> dict[str, Any]:
        """Send calls at `rate` images a second and four streams as full as the service allows, at the same time.

        `offered` of the answer is what the calls did send: a client may be too slow for `rate`.
        """
        return asyncio.run(self._flood(asked["rate"], asked["seconds"]))

    async def _flood(self, rate: float, seconds: float) -> dict[str, Any]:
        async with open_channel(self._address, instrument=False) as channel:
            stub, clock = EncoderServiceStub(channel), asyncio.get_running_loop().time
            begin = last = clock()
            # More images in a call, not more calls: those are what costs a client its time. But no call too large.
            batch = min(FLOOD_MOST_A_CALL, math.ceil(rate / FLOOD_CALLS_PER_S))
            send, sent = encoding.calls(stub, self._supply("images"), batch=batch), 0

            async def call() -> LoadAnswer:
                nonlocal sent, last
                sent, last = sent + batch, clock()
                return await send()

            async with asyncio.TaskGroup() as pressing:
                calls = pressing.create_task(open_loop(call, rate=rate / batch, seconds=seconds))
                streams = [pressing.create_task(self._pressing_stream(stub, seconds)) for _ in range(STREAMS)]
            samples = [sample for task in (calls, *streams) for sample in task.result()]
            return asdict(summarize(samples, begin, clock(), sent / max(seconds, last - begin)))

    async def _pressing_stream(self, stub: EncoderServiceAsyncStub, seconds: float) -> list[CallSample]:
        """Keep a full stream open for so long. One that is refused, as calls are, counts, and another one begins."""
        clock = asyncio.get_running_loop().time
        answered: list[CallSample] = []
        end = clock() + seconds
        while (left := end - (began := clock())) > 0:
            try:
                await encoding.stream(
                    stub, self._supply("images"), in_flight=IN_FLIGHT, seconds=left, on_answer=answered.append
                )
            except grpc.RpcError as error:
                answered.append(CallSample(began, clock(), 1, (encoding.reason_of(error),)))
                await asyncio.sleep(REFUSED_S)
        return answered

    def _measure(
        self,
        asked: Asked,
        press: Callable[[EncoderServiceAsyncStub, Iterator[encoding.Item], float], Awaitable[Sequence[CallSample]]],
        offered: float | None = None,
    ) -> dict[str, Any]:
        async def run() -> LoadFigures:
            async with open_channel(self._address, instrument=False) as channel:
                clock = asyncio.get_running_loop().time
                begin = clock() + asked["warm"]
                end = begin + asked["seconds"]
                samples = await press(
                    EncoderServiceStub(channel), self._supply(asked["items"]), asked["warm"] + asked["seconds"]
                )
                return summarize(samples, begin, end, offered)

        return asdict(asyncio.run(run()))

    def _supply(self, items: str) -> Iterator[encoding.Item]:
        # New ones each time: whatever the service remembers of the last measurement helps it nothing.
        self._salt += 1
        return supply.texts(self._salt * 10_007) if items == "texts" else supply.images(self._contents, self._salt)


def main() -> None:
    """Serve one caller."""
    caller = Caller(Path(sys.argv[1]), sys.argv[2])
    serve(
        {name: getattr(caller, name) for name in ("facts", "stream", "closed", "open", "waiting", "flood", "captions")}
    )


if __name__ == "__main__":
    main()
