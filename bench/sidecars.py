"""The cost of two Envoys between a caller and an Encoder: milliseconds of a call with mutual TLS, against a direct one.

python -m bench.sidecars [--rounds 15] [--calls 200]

The Encoder is a separate process with mock models, so that only the way to it takes time. Direct calls and calls
through the Envoys (the router's and the Encoder's, as `lensmesh up --sidecars` starts them) take turns, round by round,
on one machine. A round's figure is the median of its calls. The command prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_local.process import Managed, Spec
from lensmesh_local.sidecars.certificates import Authority
from lensmesh_local.sidecars.local import write
from lensmesh_local.sidecars.model import Egress, HostPort, Inbound, Sidecar, Trust
from lensmesh_local.sidecars.ports import Reserved
from lensmesh_local.supervisor import serves

LOCAL = "127.0.0.1"


class Setting:
    """An Encoder, its Envoy and a caller's Envoy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trust, self._authority, self._ports = Trust(), Authority(), Reserved()
        self._running: list[Managed] = []

    async def start(self) -> tuple[str, str]:
        """Start everything. Return the Encoder's own address, and the one that leads through the Envoys."""
        ready = self._folder / "encoder.json"
        encoder = await self._run(
            Spec(
                name="encoder",
                module="encoder_svc",
                ready_file=ready,
                log_file=self._folder / "encoder.log",
                environment={
                    "LENSMESH_ENCODER_MODEL": "mock",
                    # The same message comes again and again.
                    "LENSMESH_ENCODER_CACHE_BYTES": "0",
                    "LENSMESH_ENCODER_LISTEN": f"{LOCAL}:0",
                    "LENSMESH_ENCODER_READY_FILE": str(ready),
                },
                serving=serves,
            )
        )
        own = str(encoder["addresses"][0])
        inbound, egress = self._ports.take(LOCAL, 0), self._ports.take(LOCAL, 0)
        await self._envoy(
            "encoder",
            inbound=Inbound("encoder", inbound, HostPort.parse(own), self._trust.callers("encoder")),
        )
        await self._envoy("router", egress=(Egress("encoder", egress, (inbound,), self._trust.id("encoder")),))
        async with open_channel(str(egress), instrument=False) as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            await stub.GetInfo(encoder_pb2.GetInfoRequest(), wait_for_ready=True, timeout=60)
        return own, str(egress)

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(process.stop() for process in self._running))
        self._ports.close()

    async def _run(self, spec: Spec) -> Mapping[str, Any]:
        process = Managed(spec, print)
        self._running.append(process)
        return await process.start()

    async def _envoy(self, name: str, **what: Any) -> None:
        folder = self._folder / name
        folder.mkdir()
        files = self._authority.issue(self._folder / "tls" / name, self._trust.id(name))
        sidecar = Sidecar(name=name, certificates=str(files.folder), configuration=str(folder), **what)
        ready = folder / "ready.json"
        await self._run(
            Spec(
                name=name,
                module="lensmesh_local.sidecars.process",
                arguments=(str(write(sidecar, folder)), str(ready)),
                ready_file=ready,
                log_file=folder / "log",
            )
        )


async def median_ms(address: str, request: Any, calls: int) -> float:
    """Return the median of as many calls, made one after another on a separate connection."""
    async with open_channel(address, instrument=False) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        method = stub.EncodeTexts if isinstance(request, encoder_pb2.EncodeTextsRequest) else stub.EncodeImages
        await method(request, timeout=60)
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            await method(request, timeout=60)
            taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def spread(values: list[float]) -> dict[str, float]:
    """Return the smallest, median and largest value."""
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


async def measure(rounds: int, calls: int) -> dict[str, Any]:
    """Measure both ways in turn, for a small request and for a large one."""
    large = [common_pb2.Image(content=os.urandom(1 << 20)) for _ in range(4)]
    requests: dict[str, tuple[Any, int]] = {
        "one text": (encoder_pb2.EncodeTextsRequest(texts=["a red circle"]), calls),
        # No images, so that nothing is decoded: each item fails at its header.
        "4 MiB in one message": (encoder_pb2.EncodeImagesRequest(images=large), max(10, calls // 10)),
    }
    found: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "rounds": rounds}
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
        setting = Setting(Path(folder))
        try:
            direct, through = await setting.start()
            for name, (request, count) in requests.items():
                pairs = []
                for _ in range(rounds):
                    pairs.append((await median_ms(direct, request, count), await median_ms(through, request, count)))
                found[name] = {
                    "calls in a round": count,
                    "direct ms": spread([one for one, _ in pairs]),
                    "through two Envoys ms": spread([other for _, other in pairs]),
                    "ratio": spread([other / one for one, other in pairs]),
                    "added ms": spread([other - one for one, other in pairs]),
                }
        finally:
            await setting.stop()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200, help="small calls in one round")
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(measure(chosen.rounds, chosen.calls)), indent=2))  # noqa: T201 - it is what it is for


if __name__ == "__main__":
    main()
