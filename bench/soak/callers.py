"""Callers of every kind, at work until they are told to stop: good, bad, late, impatient, and suddenly disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from bench.soak.images import Images
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_client import Client, IngestItem, LensmeshError
from lensmesh_client.errors import Overloaded

# Between two calls of one caller: together they keep the mesh busy and not drowned.
PAUSE_S = 0.05
INGESTED = 24
# Of those one is bad.
BAD_EVERY = 8
# What the store holds is not what is measured: each collection is deleted after so many streams.
STREAMS_OF_A_COLLECTION = 10


class Callers:
    """All callers of one mesh.

    `seen` counts outcomes by kind of call; `surprises` are outcomes that should not happen.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._images = Images()
        self._random = random.Random(5)
        self._stop = asyncio.Event()
        self.seen: Counter[str] = Counter()
        self.surprises: list[str] = []

    async def work(self) -> None:
        """Call until `stop`."""
        kinds = (self._ingest, self._ask, self._mistake, self._leave, self._be_late, self._connect, self._break_off)
        await asyncio.gather(*(self._again_and_again(kind) for kind in kinds))

    def stop(self) -> None:
        """Let every caller end after its current call."""
        self._stop.set()

    async def _again_and_again(self, kind: Callable[[Client, int], Awaitable[None]]) -> None:
        number = 0
        async with Client(self._target, timeout_s=120) as client:
            while not self._stop.is_set():
                await kind(client, number)
                number += 1
                await asyncio.sleep(PAUSE_S)

    async def _good(self, what: str, call: Awaitable[object]) -> None:
        """Make a call that has to succeed. To be told to come back later is an allowed answer too."""
        try:
            await call
        except Overloaded:
            self.seen[f"{what}: refused for the moment"] += 1
        except LensmeshError as error:
            self._surprise(f"{what}: {error!r}")
        else:
            self.seen[f"{what}: ok"] += 1

    async def _bad(self, what: str, call: Awaitable[object]) -> None:
        """Make a call that has to fail by the caller's own fault."""
        try:
            await call
        except LensmeshError as error:
            if type(error).__name__ not in {"InvalidInput", "NotFound", "PreconditionFailed", "Overloaded"}:
                self._surprise(f"{what}: {error!r}")
            self.seen[f"{what}: {error.reason}"] += 1
        else:
            self._surprise(f"{what}: was done")

    def _surprise(self, what: str) -> None:
        self.seen["surprises"] += 1
        if len(self.surprises) < 20:
            self.surprises.append(what)

    async def _ingest(self, client: Client, number: int) -> None:
        """Send a stream of images, some of them bad. Each must be answered once."""
        collection = f"soak-{number // STREAMS_OF_A_COLLECTION}"
        bad = {place for place in range(INGESTED) if place % BAD_EVERY == 3}
        contents = [self._images.bad() if place in bad else self._images.good() for place in range(INGESTED)]
        answered: Counter[int] = Counter()
        stream = client.ingest_many([IngestItem(content) for content in contents], collection=collection)
        async for result in stream:
            answered[result.index] += 1
            self.seen["ingested" if result.ok else "ingest refused"] += 1
            if result.ok == (result.index in bad):
                self._surprise(f"ingest of a {'bad' if result.ok else 'good'} image: {result.error!r}")
        if answered != Counter(range(INGESTED)):
            self._surprise(f"ingest: of {INGESTED} items answered {answered}")
        if number % STREAMS_OF_A_COLLECTION == STREAMS_OF_A_COLLECTION - 1:
            async with open_channel(self._target) as channel:
                stub = search_pb2_grpc.SearchServiceStub(channel)
                await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=collection), timeout=120)

    async def _ask(self, client: Client, number: int) -> None:
        """Make the calls that people usually make."""
        words = f"a red circle left of {number} blue squares"
        await self._good("embed texts", client.embed(texts=[words, "the same words each time"]))
        await self._good("embed images", client.embed(images=[self._images.good(), self._images.same()]))
        await self._good("caption", client.caption([self._images.good(), self._images.same()]))
        await self._good("status", client.status())

    async def _mistake(self, client: Client, number: int) -> None:
        """Make calls that cannot succeed."""
        await self._bad("unknown collection", client.search(f"words {number}", collection="no-such-collection"))
        await self._bad("empty words", client.search(" ", collection="no-such-collection"))
        await self._bad("unknown space", client.embed(texts=["x"], space_id="vs1-" + "0" * 32))
        found = await client.embed(texts=["", "x" * 100_000, "good"])
        if [bool(found.errors.get(place)) for place in range(3)] != [True, True, False]:
            self._surprise(f"bad texts: {found.errors!r}")
        captions = await client.caption([self._images.bad(), self._images.good()])
        if [bool(caption.error) for caption in captions] != [True, False]:
            self._surprise(f"bad images: {captions!r}")

    async def _leave(self, client: Client, number: int) -> None:
        """Cancel calls while they run."""
        images = [self._images.good() for _ in range(4)]
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: client.embed(images=images),
            lambda: client.caption(images),
            lambda: client.embed(texts=["words"] * 100),
        )
        task = asyncio.ensure_future(calls[number % len(calls)]())
        await asyncio.sleep(self._random.uniform(0, 0.1))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LensmeshError):
            await task
        self.seen["cancelled"] += 1

    async def _be_late(self, client: Client, number: int) -> None:
        """Make calls whose deadline passes."""
        images = [self._images.good() for _ in range(4)]
        seconds = self._random.uniform(0.001, 0.15)
        try:
            if number % 2:
                await client.embed(images=images, timeout_s=seconds)
            else:
                await client.caption(images, timeout_s=seconds)
        except LensmeshError as error:
            if type(error).__name__ not in {"DeadlineExceeded", "Overloaded", "Cancelled"}:
                self._surprise(f"late: {error!r}")
            self.seen[f"late: {type(error).__name__}"] += 1
        else:
            self.seen["late: in time"] += 1

    async def _connect(self, _client: Client, number: int) -> None:
        """Open a connection for one call, and one that speaks no gRPC."""
        async with Client(self._target) as client:
            await self._good("first call of a connection", client.embed(texts=[f"hello {number}"]))
        host, _, port = self._target.rpartition(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.seen["connection that speaks no gRPC"] += 1

    async def _break_off(self, client: Client, number: int) -> None:
        """Leave a stream in the middle of its answers."""

        async def items() -> AsyncIterator[IngestItem]:
            for _ in range(64):
                yield IngestItem(self._images.good(), caption="somebody's own words")

        stream = client.ingest_many(items(), collection="soak-broken", patience_s=10)
        with contextlib.suppress(LensmeshError, grpc.RpcError):
            async for _ in stream:
                break
        await stream.aclose()
        self.seen["stream broken off"] += 1
