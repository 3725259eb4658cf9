"""Containers of the manifests as processes of this machine: the same environment, other ports and folders."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh_chassis.channels import OWN_CONNECTIONS
from tests.kubernetes.manifests import Manifest, service_of

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


@dataclass
class Container:
    """A running one."""

    process: subprocess.Popen[bytes]
    ready_file: Path
    log: Path

    def ready(self) -> bool:
        """Whether it answers. Raises where it ended instead."""
        assert self.process.poll() is None, self.log.read_text()
        return self.ready_file.exists()

    async def probe(self, probe: Manifest) -> int:
        """What the kubelet would be told: a ServingStatus of grpc.health.v1."""
        address = json.loads(self.ready_file.read_text())["health"]
        async with grpc.aio.insecure_channel(address, [OWN_CONNECTIONS]) as channel:
            request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            answer: Any = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
            return int(answer.status)

    def end(self) -> int:
        """Ends it as the kubelet does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def base_environment() -> dict[str, str]:
    """What an image brings along."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | {
        name: os.environ[name] for name in _PASSED_ON if name in os.environ
    }


@contextlib.contextmanager
def started(container: Manifest, environment: dict[str, str], folder: Path) -> Iterator[Container]:
    """One service with the manifest's environment, its TCP ports exchanged for free ones; killed when left."""
    service = service_of(container)
    prefix = f"LENSMESH_{service.upper()}_"
    ready, log = folder / f"{service}.json", folder / f"{service}.log"
    changed = dict(environment) | {prefix + "READY_FILE": str(ready)}
    for name in ("LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN"):
        if not changed[prefix + name].startswith("unix:"):
            changed[prefix + name] = "127.0.0.1:0"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{service}_svc"], env=base_environment() | changed, stdout=output, stderr=output
        )
    try:
        yield Container(process, ready, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
