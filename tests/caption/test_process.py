"""The service as a process of its own: what `auto` becomes, and a mock that never imports torch."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.channels import open_channel
from lensmesh_inference.digest import weights_digest
from tests.caption.fakes import TINY

ROOT = Path(__file__).resolve().parents[2]


def environment(settings: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | settings


@contextmanager
def process(folder: Path, settings: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """`python -m caption_svc` with these settings: its address, and the file its log goes to."""
    ready, log = folder / "ready.json", folder / "log.txt"
    own = {
        "LENSMESH_CAPTION_LISTEN": "127.0.0.1:0",
        "LENSMESH_CAPTION_READY_FILE": str(ready),
        "LENSMESH_CAPTION_THREADS": "1",
    }
    with log.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "caption_svc"], env=environment(own | settings), stderr=output, cwd=folder
        )
        try:
            while not ready.exists():
                assert service.poll() is None, log.read_text()
                with pytest.raises(subprocess.TimeoutExpired):
                    service.wait(0.05)
            yield json.loads(ready.read_text())["addresses"][0], log
        finally:
            service.terminate()
            assert service.wait(120) == 0, log.read_text()


async def models(address: str, content: bytes) -> tuple[list[common_pb2.ModelInfo], common_pb2.Caption]:
    """What it serves, and the default's caption, once it has started."""
    async with open_channel(address, health_check="lensmesh.caption.v1.CaptionerService") as channel:
        stub = caption_pb2_grpc.CaptionerServiceStub(channel)
        info = await stub.GetInfo(caption_pb2.GetInfoRequest(), wait_for_ready=True, timeout=400)
        request = caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=content)])
        return list(info.models), (await stub.CaptionImages(request)).results[0].caption


async def test_auto_takes_the_real_model_from_the_hub_cache_without_network(
    tmp_path: Path, hub_cache: Path, tiny_folder: Path, contents: list[bytes]
) -> None:
    settings = {"LENSMESH_CAPTION_REAL_MODEL": TINY, "HF_HUB_CACHE": str(hub_cache)}
    with process(tmp_path, settings) as (address, log):
        (model,), caption = await models(address, contents[0])
        said = log.read_text()
    assert model.name == TINY
    assert model.kind == common_pb2.MODEL_KIND_LOCAL
    assert model.weights_digest == weights_digest(loaded_tensors(tiny_folder))
    assert caption.model == f"{TINY}@{model.weights_digest[:12]}"
    assert "its weights are in" in said


def loaded_tensors(folder: Path) -> Any:
    from transformers import BlipForConditionalGeneration

    return BlipForConditionalGeneration.from_pretrained(folder).state_dict()


async def test_auto_without_the_real_model_is_shapes_and_says_so(tmp_path: Path, contents: list[bytes]) -> None:
    # The offline switch is off: `auto` must not ask the network by itself.
    settings = {"HF_HUB_CACHE": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    with process(tmp_path, settings) as (address, log):
        (model,), caption = await models(address, contents[0])
        said = log.read_text()
    assert model.name == "shapes"
    assert model.kind == common_pb2.MODEL_KIND_DEMONSTRATION
    assert caption.text
    assert "knows drawn scenes only" in said
    assert "Salesforce/blip-image-captioning-base" in said


def test_a_model_that_is_not_there_ends_the_process_with_its_fix(tmp_path: Path) -> None:
    settings = {
        "LENSMESH_CAPTION_MODEL": "nobody/nothing",
        "LENSMESH_CAPTION_LISTEN": "127.0.0.1:0",
        "HF_HUB_CACHE": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "caption_svc"], env=environment(settings), capture_output=True, text=True, timeout=400
    )
    assert ended.returncode == 1
    assert "nobody/nothing" in ended.stderr
    assert "hf download" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_mock_imports_no_torch(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, io, sys
        from PIL import Image
        from caption_svc.app import CaptionApp
        from caption_svc.settings import CaptionSettings
        from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
        from lensmesh.common.v1 import common_pb2
        from lensmesh_chassis.channels import open_channel
        from lensmesh_chassis.process.server import running

        async def main():
            settings = CaptionSettings(model="mock", listen="127.0.0.1:0")
            async with running(settings, CaptionApp, "caption") as server, open_channel(server.address) as channel:
                file = io.BytesIO()
                Image.new("RGB", (4, 4), "red").save(file, "PNG")
                stub = caption_pb2_grpc.CaptionerServiceStub(channel)
                request = caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=file.getvalue())])
                print((await stub.CaptionImages(request)).results[0].caption.text)
            heavy = {"torch", "torchvision", "transformers", "huggingface_hub", "tokenizers"} & set(sys.modules)
            assert not heavy, heavy

        asyncio.run(main())
        """
    )
    run = [sys.executable, "-c", script]
    ended = subprocess.run(run, env=environment({}), capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.split()) > 5
