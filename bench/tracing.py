"""The cost of tracing: CPU seconds per image of Encoder and Router, off, with every call kept, and by default.

python -m bench.tracing --jaeger .tools/bin/jaeger

Three meshes of one Router and one Encoder run at the same time and take turns, so that a busy machine is as bad for one
as for another. A round sends the same images through each, in its own order, as bulk streams of a few images (a stream
is one trace). The processor time of both processes is measured, including the sending of spans; Jaeger's own is not.
The model has its full size and random weights. The same is measured without a model too: that is tracing's own time, to
a precision that a model's noise would hide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_local.jaeger import configuration

MODES = {
    "off": {},
    "every call": {"LENSMESH_TRACES_BULK_RATIO": "1"},
    "default": {},
}
START_S = 600.0
# Until an exporter has sent what it has: OpenTelemetry's own delay is five seconds.
QUIET_S = 6.0
SIDE_PX = 400


@dataclass(frozen=True)
class Pair:
    """A Router and its Encoder."""

    mode: str
    address: str
    encoder: str
    processes: tuple[psutil.Process, ...]

    def cpu_seconds(self) -> float:
        """Return the processor time of both so far, including the kernel's for them."""
        times = [process.cpu_times() for process in self.processes]
        return sum(one.user + one.system for one in times)


def images(count: int) -> list[bytes]:
    """Make JPEG images that cost as much to decode as photographs, no two alike."""
    noise = random.Random(7)
    found = []
    for _ in range(count):
        small = Image.frombytes("RGB", (50, 50), noise.randbytes(50 * 50 * 3))
        file = io.BytesIO()
        small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(arguments: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """Run a process until the block is left."""
    with log.open("wb") as output:
        started = subprocess.Popen(arguments, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(60)


async def until_serving(address: str) -> None:
    """Wait until grpc.health.v1 says SERVING."""
    async with asyncio.timeout(START_S), grpc.aio.insecure_channel(address) as channel:
        while True:
            with contextlib.suppress(grpc.RpcError):
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def pair(mode: str, model: str, collector: str, folder: Path) -> AsyncIterator[Pair]:
    """Run a Router and an Encoder in one of the modes."""
    encoder, router = (f"127.0.0.1:{free_port()}" for _ in range(2))
    shared = {"OMP_WAIT_POLICY": "PASSIVE", **MODES[mode]}
    if mode != "off":
        shared["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
    name = f"{mode.replace(' ', '-')}-{model.replace('/', '-')}"
    settings = {
        "encoder": {
            "LISTEN": encoder,
            "MODEL": model,
            "THREADS": "1",
            "DECODE_THREADS": "1",
            "DEVICE": "cpu",
            "CACHE_BYTES": "0",  # the same images are sent again and again
        },
        "router": {"LISTEN": router, "ENCODER_TARGETS": encoder},
    }
    with contextlib.ExitStack() as stack:
        processes = tuple(
            stack.enter_context(
                running(
                    [sys.executable, "-m", f"{service}_svc"],
                    shared | {f"LENSMESH_{service.upper()}_{key}": value for key, value in own.items()},
                    folder / f"{name}-{service}.log",
                )
            )
            for service, own in settings.items()
        )
        # They start while the next pair is begun.
        yield Pair(mode, router, encoder, processes)


async def send(address: str, contents: Sequence[bytes], stream_items: int) -> None:
    """Send the images in streams of a few, four streams at a time."""
    gate = asyncio.Semaphore(4)

    async def one(part: Sequence[bytes]) -> None:
        items = [
            encoder_pb2.EncodeStreamItem(ref=str(index), image=common_pb2.Image(content=content))
            for index, content in enumerate(part)
        ]
        async with gate:
            answers = 0
            async for response in stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(items=items)])):
                for result in response.results:
                    if result.result.HasField("error"):
                        raise SystemExit(f"an image failed: {result.result.error.message}")
                answers += len(response.results)
        if answers != len(part):
            raise SystemExit(f"{answers} answers to {len(part)} images")

    async with grpc.aio.insecure_channel(address) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        parts = [contents[start : start + stream_items] for start in range(0, len(contents), stream_items)]
        await asyncio.gather(*(one(part) for part in parts))


async def measure(
    model: str, collector: str, folder: Path, *, rounds: int, items: int, stream: int
) -> dict[str, list[float]]:
    """Measure the CPU seconds per image of each mode, one figure for each round."""
    contents = images(items)
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(pair(mode, model, collector, folder)) for mode in MODES]
        for one in pairs:
            await until_serving(one.encoder)
            await until_serving(one.address)
            await send(one.address, contents, stream)
        await asyncio.sleep(QUIET_S)
        for number in range(rounds):
            for one in random.Random(number).sample(pairs, len(pairs)):
                before, began = one.cpu_seconds(), time.monotonic()
                await send(one.address, contents, stream)
                await asyncio.sleep(QUIET_S)
                found[one.mode].append((one.cpu_seconds() - before) / items)
                sys.stderr.write(
                    f"{model} round {number + 1}: {one.mode:10} {1000 * found[one.mode][-1]:8.3f} ms CPU an image, "
                    f"{time.monotonic() - began:.1f} s\n"
                )
    return found


def table(found: dict[str, list[float]]) -> str:
    """Return a Markdown table: milliseconds of CPU per image, and the ratio to tracing off, round by round."""
    lines = [
        "| tracing | min | median | max | of off: median of the rounds | of the medians |",
        "|---|---|---|---|---|---|",
    ]
    off = found["off"]
    for mode, values in found.items():
        by_round = statistics.median(value / base for value, base in zip(values, off, strict=True))
        of_medians = statistics.median(values) / statistics.median(off)
        lowest, middle, highest = (1000 * figure for figure in (min(values), statistics.median(values), max(values)))
        lines.append(f"| {mode} | {lowest:.2f} | {middle:.2f} | {highest:.2f} | {by_round:.3f} | {of_medians:.3f} |")
    return "\n".join(lines)


@contextlib.contextmanager
def jaeger(binary: str, folder: Path) -> Iterator[str]:
    """Run a Jaeger, and yield the address at which it takes traces."""
    query, otlp = free_port(), free_port()
    settings = folder / "jaeger.json"
    settings.write_text(json.dumps(configuration(query, otlp)))
    with running([binary, "--config", str(settings)], {}, folder / "jaeger.log"):
        yield f"http://127.0.0.1:{otlp}"


async def main() -> None:
    """Measure with the model and without one, and print both tables."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--jaeger", required=True, help="program of a Jaeger 2")
    asked.add_argument("--model", default="ViT-B-32/random", help="a model, as in LENSMESH_ENCODER_MODEL")
    asked.add_argument("--rounds", type=int, default=15)
    asked.add_argument("--items", type=int, default=32, help="images in a round")
    asked.add_argument("--stream", type=int, default=4, help="images in a stream")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as name, jaeger(options.jaeger, Path(name)) as collector:
        for model, items in ((options.model, options.items), ("mock", 16 * options.items)):
            found = await measure(
                model, collector, Path(name), rounds=options.rounds, items=items, stream=options.stream
            )
            sys.stdout.write(f"\n{model}: CPU milliseconds an image, {options.rounds} rounds of {items} images\n\n")
            sys.stdout.write(table(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
