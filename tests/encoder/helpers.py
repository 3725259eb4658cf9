"""Images, a model that can be held and poisoned, and encoders in this process and in another one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.rpc import status_pb2
from PIL import Image

from encoder_svc.app import EncoderApp
from encoder_svc.engine import ServedEncoder
from encoder_svc.model import EncoderInput, EncoderModel, Vector
from encoder_svc.models.mock import MockModel
from encoder_svc.settings import EncoderSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.server import RunningServer, Runtime, running
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from lensmesh_inference.registry import ModelRegistry

ROOT = Path(__file__).resolve().parents[2]


def png(number: int = 0, size: int = 24) -> bytes:
    """A small image of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image(number: int = 0) -> common_pb2.Image:
    return common_pb2.Image(content=png(number))


def vector(embedding: common_pb2.Embedding) -> npt.NDArray[np.float32]:
    """The numbers of an embedding that came as bytes."""
    assert not embedding.floats
    kind = {common_pb2.DATA_TYPE_FLOAT32: "<f4", common_pb2.DATA_TYPE_FLOAT16: "<f2"}[embedding.data_type]
    numbers = np.frombuffer(embedding.data, dtype=kind)
    assert len(numbers) == embedding.dimension
    return numbers.astype(np.float32)


def rows(answer: encoder_pb2.ClassifyImagesResponse) -> npt.NDArray[np.float64]:
    """The probabilities of all labels, a row for each image."""
    return np.array([list(result.scores.probabilities) for result in answer.results])


def failure(status: status_pb2.Status) -> LensmeshError:
    """One item's error, typed."""
    return from_status(status)


class HeldModel(MockModel):
    """The mock, with a device that can be held and inputs that it cannot stand."""

    def __init__(self) -> None:
        super().__init__("mock")
        self.free = threading.Event()
        self.free.set()
        self.inside = threading.Event()
        self.poison: set[bytes] = set()
        self.done: list[bytes] = []

    @property
    def computed(self) -> int:
        """Items done so far."""
        return len(self.done)

    def compute(self, batch: Sequence[EncoderInput]) -> Sequence[Vector]:
        self.inside.set()
        assert self.free.wait(60)
        if any(item.data in self.poison for item in batch):
            raise RuntimeError("secret: this tensor is poisoned")
        self.done += [item.data for item in batch]
        return super().compute(batch)


@dataclass
class Served:
    """An encoder in this process."""

    server: RunningServer
    stub: encoder_pb2_grpc.EncoderServiceAsyncStub
    engine: ModelRegistry[ServedEncoder]


@asynccontextmanager
async def serving(*models: EncoderModel, **changes: Any) -> AsyncIterator[Served]:
    """Run an encoder with changed settings, by default the mock; `models` are served instead of what settings name."""
    apps: list[EncoderApp] = []

    def build(runtime: Runtime[EncoderSettings]) -> EncoderApp:
        apps.append(EncoderApp(runtime, lambda _: models) if models else EncoderApp(runtime))
        return apps[0]

    settings = EncoderSettings(**{"listen": "127.0.0.1:0", "model": "mock", **changes})
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), OWN_CONNECTIONS]
    async with (
        running(settings, build, "encoder") as server,
        grpc.aio.insecure_channel(server.address, options=unlimited) as channel,
    ):
        yield Served(server, encoder_pb2_grpc.EncoderServiceStub(channel), apps[0].models)


@dataclass
class Process:
    """An encoder in a process of its own."""

    popen: subprocess.Popen[bytes]
    address: str
    log: Path


@contextmanager
def encoder_process(folder: Path, seconds: float = 600, **settings: str) -> Iterator[Process]:
    """Start ``python -m encoder_svc`` on a free port and wait until it answers."""
    ready, log = folder / "ready.json", folder / "log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "LENSMESH_ENCODER_LISTEN": "127.0.0.1:0",
        "LENSMESH_ENCODER_READY_FILE": str(ready),
        **settings,
    }
    with log.open("wb") as stderr:
        popen = subprocess.Popen([sys.executable, "-m", "encoder_svc"], env=environment, cwd=folder, stderr=stderr)
        try:
            waiting = threading.Event()
            for _ in range(int(seconds / 0.05)):
                if ready.exists():
                    break
                assert popen.poll() is None, log.read_text()
                waiting.wait(0.05)
            yield Process(popen, json.loads(ready.read_text())["addresses"][0], log)
        finally:
            popen.kill()
            popen.wait()


async def info_of(address: str) -> encoder_pb2.GetInfoResponse:
    """GetInfo, as soon as the service has loaded its models."""
    async with grpc.aio.insecure_channel(address, [OWN_CONNECTIONS]) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        async with asyncio.timeout(600):
            while True:
                try:
                    return await stub.GetInfo(encoder_pb2.GetInfoRequest())
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                await asyncio.sleep(0.1)


async def refused(call: object) -> LensmeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]  # any call of the stub
    return from_rpc_error(caught.value)
