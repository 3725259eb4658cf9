"""The memory of each service while hostile callers flood it, compared with the limit of its manifest.

python -m bench.memory [--services router search] [--cases unary hostile] [--calls 64] [--streams 16] [--model shapes]

A mesh starts, with mock models unless others are chosen. The cases of a service run one after another, and what one
leaves behind counts in the next. The exit code is 1 where a service was above its limit, or ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import yaml
from PIL import Image

from bench.fuzz.hostile import hostile
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_client.bulk import WRITE_MET_THE_END
from lensmesh_local.supervisor import MeshOptions, Supervisor

MIB = 2**20
MANIFESTS = Path(__file__).parent.parent / "deploy" / "kubernetes" / "base"
CALL_S, HOSTILE_S, LOOK_S = 60.0, 300.0, 0.02
# How long answers are left unread, and what one asks again after when it was refused.
UNREAD_S, AGAIN_S = 30.0, 0.5
_FETCHED_BYTES = 16 * MIB
_SPACE, _UNIT = "vs1-" + "1".zfill(32), np.array([1, 0, 0, 0], "<f4").tobytes()
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
_METHOD_LIST, _METHOD_FIND = (
    "/lensmesh.search.v1.SearchService/ListItems",
    "/lensmesh.router.v1.RouterService/BatchSearch",
)

Call = Callable[[grpc.aio.Channel, int], Awaitable[Any]]


def limit_mib(service: str) -> float:
    """Return the memory limit of the service's container."""
    for document in yaml.safe_load_all((MANIFESTS / f"{service}.yaml").read_text(encoding="utf-8")):
        if document["kind"] == "Deployment":
            told: str = document["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
            return float(told[:-2]) * {"Mi": 1, "Gi": 1024}[told[-2:]]
    raise ValueError(f"{service}.yaml has no Deployment")


class Images:
    """JPEG files of about half a MiB, all different."""

    def __init__(self) -> None:
        noise = np.random.default_rng(1).integers(0, 255, (640, 800, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "JPEG", quality=92)
        self._file, self._made = buffer.getvalue(), 0

    def of(self, size: int, most: int) -> list[common_pb2.Image]:
        """Return at most `most` images, of `size` bytes together."""
        each = max(len(self._file), size // most)
        return [common_pb2.Image(content=self._one(each)) for _ in range(max(1, size // each))]

    def _one(self, size: int) -> bytes:
        self._made += 1
        return self._file + self._made.to_bytes(8, "big") + bytes(max(0, size - len(self._file) - 8))


class Floods:
    """The cases, by service. Each returns how its calls ended."""

    def __init__(self, calls: int, streams: int, address_port: int) -> None:
        self._images, self._calls, self._streams, self._port = Images(), calls, streams, address_port
        self._hostile = list(hostile().values())

    def of(self, service: str) -> dict[str, Callable[[str], Awaitable[Counter[str]]]]:
        """Return every case of a service by its name. Each takes the address to call."""
        stubs: dict[str, tuple[Call, Call | None, Call | None]] = {
            "router": (self._encode, self._ingest, self._ingest_hostile),
            "encoder": (self._encode, self._encode_stream, self._encode_hostile),
            "caption": (self._caption, self._caption_stream, self._caption_hostile),
            "search": (self._upsert, None, None),
        }
        unary, streamed, worst = stubs[service]
        cases: dict[str, Callable[[str], Awaitable[Counter[str]]]] = {"unary": lambda to: flood(to, unary, self._calls)}
        if streamed is not None:
            cases["streams"] = lambda to: flood(to, streamed, self._streams)
        if worst is not None:
            cases["hostile"] = lambda to: flood(to, worst, self._streams)
        cases["gzip"] = lambda to: flood(to, self._zipped(service), 40)
        if service == "search":
            cases["unread"] = lambda to: self._unread(to, self._listed, _METHOD_LIST)
        if service == "router":
            cases["unread"] = lambda to: self._unread(to, self._found, _METHOD_FIND)
            cases["burst"] = lambda to: flood(to, self._small, 3000, channels=1)
            cases["addresses"] = lambda to: flood(to, self._addresses, 1)
        return cases

    async def _encode(self, channel: grpc.aio.Channel, _: int) -> None:
        request = encoder_pb2.EncodeImagesRequest(images=self._images.of(20 * MIB, 60))
        await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(request, timeout=CALL_S)

    async def _small(self, channel: grpc.aio.Channel, _: int) -> None:
        request = encoder_pb2.EncodeImagesRequest(images=self._images.of(1, 1))
        await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(request, timeout=CALL_S)

    async def _encode_stream(self, channel: grpc.aio.Channel, _: int) -> None:
        items = [encoder_pb2.EncodeStreamItem(image=image) for image in self._images.of(30 * MIB, 60)]
        sent = _kept_open(encoder_pb2.EncodeStreamRequest(items=items))
        await _drain(encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(sent, timeout=CALL_S))

    def _worst(self, caller: int) -> list[common_pb2.Image]:
        """Return the images of bench/fuzz/hostile.py, with other bytes and in another order for each caller."""
        start = caller % len(self._hostile)
        turned = [*self._hostile[start:], *self._hostile[:start]]
        return [common_pb2.Image(content=content + caller.to_bytes(8, "big")) for content in turned]

    async def _encode_hostile(self, channel: grpc.aio.Channel, caller: int) -> None:
        messages = (
            encoder_pb2.EncodeStreamRequest(items=[encoder_pb2.EncodeStreamItem(image=image)])
            for image in self._worst(caller)
        )
        await _drain(encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(messages, timeout=HOSTILE_S))

    async def _caption_hostile(self, channel: grpc.aio.Channel, caller: int) -> None:
        messages = (
            caption_pb2.CaptionStreamRequest(items=[caption_pb2.CaptionStreamItem(image=image)])
            for image in self._worst(caller)
        )
        await _drain(caption_pb2_grpc.CaptionerServiceStub(channel).CaptionStream(messages, timeout=HOSTILE_S))

    async def _ingest_hostile(self, channel: grpc.aio.Channel, caller: int) -> None:
        options = router_pb2.IngestOptions(collection="memory")
        messages = (
            router_pb2.IngestStreamRequest(
                options=options if place == 0 else None, items=[router_pb2.IngestItem(ref=str(place), image=image)]
            )
            for place, image in enumerate(self._worst(caller))
        )
        await _drain(router_pb2_grpc.RouterServiceStub(channel).IngestStream(messages, timeout=HOSTILE_S))

    async def _caption(self, channel: grpc.aio.Channel, _: int) -> None:
        request = caption_pb2.CaptionImagesRequest(images=self._images.of(20 * MIB, 60))
        await caption_pb2_grpc.CaptionerServiceStub(channel).CaptionImages(request, timeout=CALL_S)

    async def _caption_stream(self, channel: grpc.aio.Channel, _: int) -> None:
        items = [caption_pb2.CaptionStreamItem(image=image) for image in self._images.of(30 * MIB, 60)]
        sent = _kept_open(caption_pb2.CaptionStreamRequest(items=items))
        await _drain(caption_pb2_grpc.CaptionerServiceStub(channel).CaptionStream(sent, timeout=CALL_S))

    async def _ingest(self, channel: grpc.aio.Channel, _: int) -> None:
        await self._ingested(channel, self._images.of(30 * MIB, 60))

    async def _addresses(self, channel: grpc.aio.Channel, _: int) -> None:
        uris = [f"http://127.0.0.1:{self._port}/{place}" for place in range(120)]
        await self._ingested(channel, [common_pb2.Image(uri=uri) for uri in uris])

    async def _ingested(self, channel: grpc.aio.Channel, images: Iterable[common_pb2.Image]) -> None:
        items = [router_pb2.IngestItem(ref=str(place), image=image) for place, image in enumerate(images)]
        options = router_pb2.IngestOptions(collection="memory")
        sent = _kept_open(router_pb2.IngestStreamRequest(options=options, items=items))
        await _drain(router_pb2_grpc.RouterServiceStub(channel).IngestStream(sent, timeout=CALL_S))

    async def _upsert(self, channel: grpc.aio.Channel, call: int, count: int = 320) -> None:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        space = common_pb2.VectorSpace(id=_SPACE, dimension=4, normalized=True)
        named = search_pb2.NamedSpace(name="image", space=space)
        kept = search_pb2.Collection(name="upserts", spaces=[named])
        await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=kept), timeout=CALL_S)
        one = common_pb2.Embedding(space_id=_SPACE, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=4, data=_UNIT)
        items = [search_pb2.Item(id=f"{call}-{place}", vectors={"image": one}) for place in range(count)]
        for item in items:
            item.metadata.fields["text"].string_value = "x" * (64 * 1024 - 64)
        await stub.UpsertItems(search_pb2.UpsertItemsRequest(collection="upserts", items=items), timeout=CALL_S)

    async def _listed(self, channel: grpc.aio.Channel) -> tuple[Any, Any]:
        """Store items. Return a request whose answer has 30 MiB, and one for a single item."""
        for part in range(2):
            await self._upsert(channel, part, 240)
        large, small = (search_pb2.ListItemsRequest(collection="upserts", page_size=count) for count in (480, 1))
        return large, small

    async def _found(self, channel: grpc.aio.Channel) -> tuple[Any, Any]:
        """Do as `_listed` does, for the Router."""
        items = [router_pb2.IngestItem(ref=str(place), image=self._images.of(1, 1)[0]) for place in range(50)]
        for item in items:
            item.metadata.fields["text"].string_value = "x" * (64 * 1024 - 64)
        asked = router_pb2.IngestStreamRequest(options=router_pb2.IngestOptions(collection="unread"), items=items)
        call = router_pb2_grpc.RouterServiceStub(channel).IngestStream(_once(asked), timeout=CALL_S)
        await _drain(call)
        query = router_pb2.Query(text="noise")
        large, small = (
            router_pb2.SearchRequest(collection="unread", queries=[query], limit=limit) for limit in (50, 1)
        )
        return router_pb2.BatchSearchRequest(searches=[large] * 9), router_pb2.BatchSearchRequest(searches=[small])

    async def _unread(
        self, address: str, prepare: Callable[[grpc.aio.Channel], Awaitable[tuple[Any, Any]]], method: str
    ) -> Counter[str]:
        """Call for large answers and read none of them; ask again when refused.

        One other caller reads small answers.
        """
        ends: Counter[str] = Counter()
        options = [*_OPTIONS, ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024)]

        async def one(channel: grpc.aio.Channel, request: bytes) -> None:
            ask: Any = channel.unary_stream(method)
            while True:
                call = ask(request)
                try:
                    ends[(await call.code()).name] += 1
                finally:
                    call.cancel()
                await asyncio.sleep(AGAIN_S)

        async def others(channel: grpc.aio.Channel, other: Any) -> None:
            ask: Any = channel.unary_unary(method)
            while True:
                try:
                    await ask(other.SerializeToString(), timeout=5.0)
                    ends["OK of another caller"] += 1
                except grpc.aio.AioRpcError as error:
                    ends[f"{error.code().name} of another caller"] += 1
                await asyncio.sleep(AGAIN_S)

        async with contextlib.AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
                for _ in range(self._calls + 1)
            ]
            request, other = await prepare(opened[0])
            tasks = [asyncio.ensure_future(one(channel, request.SerializeToString())) for channel in opened[1:]]
            tasks.append(asyncio.ensure_future(others(opened[0], other)))
            await asyncio.wait(tasks, timeout=UNREAD_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return ends

    def _zipped(self, service: str) -> Call:
        """Make a call of 16 MiB that arrive as 16 KiB.

        This program has to pack them: for more, packing would take longer than the calls.
        """
        stubs = {
            "router": "/lensmesh.router.v1.RouterService/Search",
            "encoder": "/lensmesh.encoder.v1.EncoderService/EncodeImages",
            "caption": "/lensmesh.caption.v1.CaptionerService/CaptionImages",
            "search": "/lensmesh.search.v1.SearchService/UpsertItems",
        }

        async def call(channel: grpc.aio.Channel, _: int) -> None:
            ask: Any = channel.unary_unary(stubs[service])
            await ask(bytes(16 * MIB), timeout=CALL_S, compression=grpc.Compression.Gzip)

        return call


async def _kept_open(message: Any) -> AsyncIterator[Any]:
    yield message
    await asyncio.sleep(CALL_S / 3)


async def _once(message: Any) -> AsyncIterator[Any]:
    yield message


async def _drain(answers: Any) -> None:
    async for _ in answers:
        pass


async def flood(address: str, call: Call, count: int, *, channels: int = 16) -> Counter[str]:
    """Make `count` calls at once. Return how many of them ended in which way."""
    ends: Counter[str] = Counter()

    async def one(place: int) -> None:
        try:
            await call(opened[place % len(opened)], place)
            ends["OK"] += 1
        except grpc.aio.AioRpcError as error:
            # gRPC forgets the status of a call that ends while a message is being written to it.
            met = error.details() == WRITE_MET_THE_END
            ends["ended in the middle of a message" if met else error.code().name] += 1

    opened = [grpc.aio.insecure_channel(address, _OPTIONS) for _ in range(min(channels, count))]
    try:
        await asyncio.gather(*(one(place) for place in range(count)))
    finally:
        for channel in opened:
            await channel.close()
    return ends


@asynccontextmanager
async def site() -> AsyncIterator[int]:
    """Run a server that answers every path with 16 MiB, and yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _FETCHED_BYTES)
            for _ in range(_FETCHED_BYTES // 2**16):
                writer.write(bytes(2**16))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def held_mib(process: psutil.Process) -> float:
    """Add up the resident memory of the process and of those that it started."""
    held = 0
    for one in (process, *process.children(recursive=True)):
        # A child may have ended since.
        with contextlib.suppress(psutil.NoSuchProcess):
            held += one.memory_info().rss
    return held / MIB


async def most_mib(process: psutil.Process, work: Awaitable[Counter[str]]) -> tuple[float, Counter[str]]:
    """Return the largest resident memory of the process and its children during `work`, and what `work` returned."""
    most, working = 0.0, asyncio.ensure_future(work)
    while not working.done():
        most = max(most, await asyncio.to_thread(held_mib, process))
        await asyncio.sleep(LOOK_S)
    return most, await working


async def measure(chosen: argparse.Namespace, folder: Path) -> bool:
    """Tell whether every service stayed below its limit in every case."""
    fetching = {"LENSMESH_ROUTER_URI_SCHEMES": "http", "LENSMESH_ROUTER_URI_PRIVATE": "true"}
    options = MeshOptions(
        data=folder, port=0, model=chosen.model, caption_model=chosen.model, environment=fetching, http=False
    )
    async with site() as port, Supervisor(options, lambda _: None) as mesh:
        floods, good = Floods(chosen.calls, chosen.streams, port), True
        say("| service | case | MiB before | most | limit | how calls ended |\n|---|---|---|---|---|---|")
        for service in chosen.services:
            process = psutil.Process(mesh.processes[service].pid)
            for name, case in floods.of(service).items():
                if chosen.cases and name not in chosen.cases:
                    continue
                before = held_mib(process)
                most, ends = await most_mib(process, case(mesh.address(service)))
                limit = limit_mib(service)
                good = good and most < limit and process.is_running()
                told = ", ".join(f"{count} {code}" for code, count in ends.most_common())
                say(f"| {service} | {name} | {before:.0f} | {most:.0f} | {limit:.0f} | {told} |")
    return good


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    services = ["router", "encoder", "caption", "search"]
    parser.add_argument("--services", nargs="+", choices=services, default=services)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--model", default="mock", help="model of Encoder and Captioner")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lensmesh-memory-") as folder:
        return 0 if asyncio.run(measure(chosen, Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
