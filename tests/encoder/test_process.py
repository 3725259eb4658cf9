"""The encoder as a process of its own: memory, offline hub caches, SIGTERM, what it imports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import lensmesh_shapes
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.encoder.helpers import ROOT, encoder_process, image, info_of
from tests.encoder.tiny import write_hub

MB = 1_000_000


async def work(address: str) -> encoder_pb2.GetInfoResponse:
    """A stream of images and texts, then GetInfo: what the memory is after work, not before it."""

    async def send() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        for k in range(4):
            items = [encoder_pb2.EncodeStreamItem(ref=f"{k}-{i}", image=image(i)) for i in range(64)]
            items += [encoder_pb2.EncodeStreamItem(ref=f"{k}t{i}", text=f"a red circle {i}") for i in range(64)]
            yield encoder_pb2.EncodeStreamRequest(items=items)

    await info_of(address)
    async with grpc.aio.insecure_channel(address, [OWN_CONNECTIONS]) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        answered = 0
        async for response in stub.EncodeStream(send()):
            assert all(result.result.HasField("embedding") for result in response.results)
            answered += len(response.results)
        assert answered == 512
        return await stub.GetInfo(encoder_pb2.GetInfoRequest())


async def test_memory_with_the_mock(tmp_path: Path) -> None:
    with encoder_process(tmp_path, LENSMESH_ENCODER_MODEL="mock") as process:
        info = await work(process.address)
    assert info.models[0].model.kind == common_pb2.MODEL_KIND_MOCK
    assert info.server.memory_bytes <= 150 * MB


async def test_memory_with_the_shapes_pack(tmp_path: Path) -> None:
    with encoder_process(tmp_path, LENSMESH_ENCODER_MODEL="auto", HF_HUB_CACHE=str(tmp_path / "empty")) as process:
        info = await work(process.address)
    assert info.models[0].model.kind == common_pb2.MODEL_KIND_DEMONSTRATION
    assert info.server.memory_bytes <= 1_200 * MB


async def test_a_model_of_the_hubs_cache_offline(tmp_path: Path) -> None:
    write_hub(tmp_path / "hub", "lensmesh-test/tiny-clip")
    name = "hf-hub:lensmesh-test/tiny-clip"
    cache = str(tmp_path / "hub")
    with encoder_process(tmp_path, LENSMESH_ENCODER_MODEL=name, HF_HUB_CACHE=cache, HF_HUB_OFFLINE="1") as process:
        info = await work(process.address)
    model = info.models[0]
    assert model.model.name == "hf-hub:lensmesh-test/tiny-clip"
    assert model.model.kind == common_pb2.MODEL_KIND_LOCAL
    # Normalized and not, with alpha dropped and on white.
    assert [space.dimension for space in model.spaces] == [24] * 4
    assert model.model.devices[0].threads >= 1


async def test_sigterm_answers_what_was_read_and_exits_cleanly(tmp_path: Path) -> None:
    more = asyncio.Event()

    async def send() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        items = [encoder_pb2.EncodeStreamItem(ref=str(n), image=image(n)) for n in range(100)]
        yield encoder_pb2.EncodeStreamRequest(items=items)
        await more.wait()

    with encoder_process(tmp_path, LENSMESH_ENCODER_MODEL="mock") as process:
        await info_of(process.address)
        async with grpc.aio.insecure_channel(process.address, [OWN_CONNECTIONS]) as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            refs: set[str] = set()

            async def receive() -> None:
                async for response in stub.EncodeStream(send()):
                    if not refs:
                        process.popen.send_signal(signal.SIGTERM)
                    refs.update(result.ref for result in response.results)

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(receive(), 60)
            more.set()
        assert await asyncio.to_thread(process.popen.wait, 60) == 0
    error = from_rpc_error(caught.value)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error.reason is Reason.DRAINING
    assert refs == {str(n) for n in range(100)}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_mock_needs_no_torch() -> None:
    code = """
import sys
from encoder_svc.app import EncoderApp
from encoder_svc.models.load import load_models
from encoder_svc.settings import EncoderSettings
(model,) = load_models(EncoderSettings(model="mock"))
model.compute([model.prepare_text("x")])
heavy = {"torch", "open_clip", "transformers", "huggingface_hub"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    ran = run_python(code)
    assert ran.returncode == 0, ran.stderr


def test_without_torch_auto_is_the_mock_and_a_real_model_says_what_to_install() -> None:
    code = """
import importlib.util, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
real = importlib.util.find_spec
import lensmesh_inference.models as models
models.find_spec = lambda name: None if name == "torch" else real(name)
import encoder_svc.models.load as registry
from encoder_svc.settings import EncoderSettings
(model,) = registry.load_models(EncoderSettings(model="auto"))
print(model.facts.name)
try:
    registry.load_models(EncoderSettings(model="shapes"))
except Exception as error:
    print(error)
"""
    ran = run_python(code)
    assert ran.stdout.startswith("mock\n"), ran.stderr
    assert "lensmesh[encoder]" in ran.stdout


def test_a_model_that_cannot_be_served_ends_the_process_with_one_clear_line(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "LENSMESH_ENCODER_LISTEN": "127.0.0.1:0",
        "LENSMESH_ENCODER_MODEL": "ViT-B-32",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "encoder_svc"], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert ran.returncode == 1
    assert "names no weights" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_pack_is_there() -> None:
    assert (Path(lensmesh_shapes.CLIP_DIR) / "open_clip_config.json").is_file()
