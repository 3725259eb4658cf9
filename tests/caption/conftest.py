"""The tiny BLIP in a hub-shaped folder, images, and real servers around models."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from caption_svc.app import CaptionApp
from caption_svc.model import CaptionModel
from caption_svc.models.blip import load_blip
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import RunningServer, running
from lensmesh_inference.models import ModelKind
from lensmesh_shapes import draw, held_out_scenes
from tests.caption.fakes import ON_CPU, TINY, FakeModel, save_tiny_blip
from tests.caption.slow_model import SlowModel


@pytest.fixture(scope="package")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as HF_HUB_CACHE names it, with the tiny model in it as `hf download` leaves it there."""
    cache, commit = tmp_path_factory.mktemp("hub"), "0123456789abcdef0123456789abcdef01234567"
    repository = cache / ("models--" + TINY.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_tiny_blip(repository / "snapshots" / commit)
    return cache


@pytest.fixture(scope="package")
def tiny_folder(hub_cache: Path) -> Path:
    return next(hub_cache.glob("*/snapshots/*"))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="package")
def contents() -> list[bytes]:
    """Eight PNG files of different scenes."""
    return [encoded(draw(scene, 96)) for scene in held_out_scenes(8)]


@dataclass(frozen=True)
class Client:
    """A server with a stub for it."""

    stub: "caption_pb2_grpc.CaptionerServiceAsyncStub"  # known to type checkers only
    server: RunningServer
    app: CaptionApp


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers: `await serve(model="mock")`, or `await serve(fake, max_batch=2)` with a model made here."""
    async with AsyncExitStack() as stack:

        async def start(*models: CaptionModel, **changes: Any) -> Client:
            values: dict[str, Any] = {
                "listen": "127.0.0.1:0",
                "threads": 1,
                "canary_seconds": 0,
                "compiled_dir": "",
                "backend": "torch",
                # The same few images come again, and the model is to answer each time.
                "cache_bytes": 0,
            }
            settings = CaptionSettings(**(values | changes))
            apps: list[CaptionApp] = []

            def build(runtime: Any) -> CaptionApp:
                app = CaptionApp(runtime, lambda _: models) if models else CaptionApp(runtime)
                apps.append(app)
                return app

            server = await stack.enter_async_context(running(settings, build, "caption"))
            channel = await stack.enter_async_context(open_channel(server.address))
            return Client(caption_pb2_grpc.CaptionerServiceStub(channel), server, apps[0])

        yield start


@pytest.fixture
def slow(tiny_folder: Path) -> SlowModel:
    """The small model, whose words come as the test lets them."""
    return SlowModel(load_blip(tiny_folder, name="slow", kind=ModelKind.LOCAL, compute=ON_CPU))
