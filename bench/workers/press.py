"""A caller that gives a service all that it takes: answers a second, and the processor time of each server for one.

python -m bench.workers.press FOLDER
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processor import family_s
from bench.worker import Asked, serve
from bench.workers import http_press
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1.encoder_pb2_grpc import EncoderServiceStub
from lensmesh.router.v1 import router_pb2
from lensmesh.router.v1.router_pb2_grpc import RouterServiceStub
from lensmesh_chassis.channels import open_channel
from lensmesh_cli.load import encoding, supply
from lensmesh_cli.load.loops import LoadAnswer, closed_loop

if TYPE_CHECKING:
    from lensmesh.router.v1.router_pb2_grpc import RouterServiceAsyncStub

# More than a service keeps of one stream: it is the service that stops reading, not we that stop sending.
IN_FLIGHT = 512
MESSAGE = 8
# Before and after what is measured.
FIRST_S, AFTER_S = 0.05, 0.2


class Count:
    """The answers so far."""

    def __init__(self) -> None:
        self.answers = 0

    def add(self, items: int, errors: tuple[str, ...]) -> None:
        """Count an answer. Raises ValueError for one that failed: nothing may fail here."""
        if errors:
            raise ValueError(f"an item failed: {errors[0]}")
        self.answers += items


Press = Callable[[str, Count, float], Awaitable[object]]


class Presser:
    """The handlers. `pids` maps names to the processes that are counted, with those that they started."""

    def __init__(self, folder: Path) -> None:
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        self._salt = 0

    def stream(self, asked: Asked) -> dict[str, float]:
        """Measure EncodeStream of "images" or "texts", `message` in each message."""

        async def press(address: str, count: Count, seconds: float) -> object:
            async with open_channel(address, instrument=False) as channel:
                return await encoding.stream(
                    EncoderServiceStub(channel),
                    self._supply(asked["items"]),
                    in_flight=IN_FLIGHT,
                    seconds=seconds,
                    per_message=asked["message"],
                    on_answer=lambda sample: count.add(sample.items, sample.errors),
                )

        return asyncio.run(_measure(asked, press))

    def unary(self, asked: Asked) -> dict[str, float]:
        """Measure calls of one image or text by `callers` callers."""

        async def press(address: str, count: Count, seconds: float) -> object:
            async with open_channel(address, instrument=False) as channel:
                send = encoding.calls(EncoderServiceStub(channel), self._supply(asked["items"]))

                async def call() -> LoadAnswer:
                    answer = await send()
                    count.add(answer.items, answer.errors)
                    return answer

                return await closed_loop(call, concurrency=asked["callers"], seconds=seconds)

        return asyncio.run(_measure(asked, press))

    def ingest(self, asked: Asked) -> dict[str, float]:
        """Measure IngestStream of images into `collection`, which is made by it; `deferred`: without its index."""
        options = router_pb2.IngestOptions(collection=asked["collection"], deferred_index=asked["deferred"])

        async def press(address: str, count: Count, seconds: float) -> None:
            async with open_channel(address, instrument=False) as channel:
                await _ingest(RouterServiceStub(channel), options, self._supply("images"), count, seconds)

        return asyncio.run(_measure(asked, press))

    def http_ingest(self, asked: Asked) -> dict[str, float]:
        """Measure POST /v1/ingest of lines of JSON with base64, into `collection`."""

        async def press(address: str, count: Count, seconds: float) -> None:
            path = f"/v1/ingest?collection={asked['collection']}&deferred_index={str(asked['deferred']).lower()}"
            await http_press.ingest(address, path, self._supply("images"), count.add, seconds, in_flight=IN_FLIGHT)

        return asyncio.run(_measure(asked, press))

    def predict(self, asked: Asked) -> dict[str, float]:
        """Measure `/predict` as Immich asks for it: one image a request, by `callers` callers."""

        async def press(address: str, count: Count, seconds: float) -> None:
            images = self._supply("images")
            await http_press.predict(address, asked["model"], images, count.add, seconds, callers=asked["callers"])

        return asyncio.run(_measure(asked, press))

    def _supply(self, items: str) -> Iterator[encoding.Item]:
        self._salt += 1
        return supply.texts(self._salt * 10_007) if items == "texts" else supply.images(self._contents, self._salt)


async def _ingest(
    stub: RouterServiceAsyncStub,
    options: router_pb2.IngestOptions,
    images: Iterator[encoding.Item],
    count: Count,
    seconds: float,
) -> None:
    clock = asyncio.get_running_loop().time
    end, left, room = clock() + seconds, IN_FLIGHT, asyncio.Event()
    refs = itertools.count()

    async def requests() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        nonlocal left
        yield router_pb2.IngestStreamRequest(options=options)
        while clock() < end:
            while left < MESSAGE:
                room.clear()
                await room.wait()
            left -= MESSAGE
            yield router_pb2.IngestStreamRequest(items=[_item(next(refs), next(images)) for _ in range(MESSAGE)])

    async for response in stub.IngestStream(requests()):
        for result in response.results:
            count.add(1, (result.error.message,) if result.HasField("error") else ())
        left += len(response.results)
        room.set()


def _item(ref: int, content: encoding.Item) -> router_pb2.IngestItem:
    assert isinstance(content, bytes)
    digest = hashlib.sha256(content).digest()
    return router_pb2.IngestItem(ref=str(ref), image=common_pb2.Image(content=content), content_digest=digest)


async def _measure(asked: Asked, press: Press) -> dict[str, float]:
    """Press from before the measured seconds until after them."""
    count, pids = Count(), {**asked["pids"], "caller": os.getpid()}
    # The first answers open what the later ones use, however long that takes.
    await press(asked["address"], Count(), FIRST_S)
    seconds = asked["warm"] + asked["seconds"] + AFTER_S
    async with asyncio.TaskGroup() as running:
        pressing = running.create_task(_await(press(asked["address"], count, seconds)))
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(asked["warm"])
        began, before, first = clock(), spent(pids), count.answers
        await asyncio.sleep(asked["seconds"])
        if count.answers == first:
            # A busy machine: all that was sent is answered in the end.
            await pressing
        seconds, after, answers = clock() - began, spent(pids), count.answers - first
    if not answers:
        raise ValueError(f"no answer in {seconds:g} s")
    return {"rate": answers / seconds} | {
        f"{name}_cpu_ms": 1e3 * (after[name] - before[name]) / answers for name in pids
    }


async def _await(pressing: Awaitable[object]) -> None:
    await pressing


def spent(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the processor seconds of each so far."""
    return {name: family_s(pid) for name, pid in pids.items()}


def main() -> None:
    """Serve one caller."""
    presser = Presser(Path(sys.argv[1]))
    serve({name: getattr(presser, name) for name in ("stream", "unary", "ingest", "http_ingest", "predict")})


if __name__ == "__main__":
    main()
