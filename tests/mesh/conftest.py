"""A whole mesh of real services on a real database, inside the test's event loop; models are mocks."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from caption_svc.app import CaptionApp
from caption_svc.settings import CaptionSettings
from encoder_svc.app import EncoderApp
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.support.postgres import PostgresForTests

FREE = "127.0.0.1:0"


@pytest.fixture(scope="package")
def database() -> Iterator[str]:
    """Address of a PostgreSQL with pgvector that lives as long as the test session."""
    server = PostgresForTests()
    yield server.url
    server.remove()


@asynccontextmanager
async def running_mesh(
    database: str, model: str = "mock", *, media: Path | str = "", **fetching: Any
) -> AsyncIterator[dict[str, str]]:
    """Addresses of four running services: router, encoder, caption, search. `fetching`: their uri_ settings.

    Thumbnails are kept in the folder `media`.
    """
    async with AsyncExitStack() as stack:
        encoder = await stack.enter_async_context(
            running(EncoderSettings(listen=FREE, model=model, **fetching), EncoderApp, "encoder")
        )
        caption = await stack.enter_async_context(
            running(CaptionSettings(listen=FREE, model=model, **fetching), CaptionApp, "caption")
        )
        search = await stack.enter_async_context(
            running(SearchSettings(listen=FREE, store_url=SecretStr(database)), SearchApp, "search")
        )
        router = await stack.enter_async_context(
            running(
                RouterSettings(
                    listen=FREE,
                    encoder_targets=encoder.address,
                    caption_targets=caption.address,
                    search_targets=search.address,
                    media_url=str(media),
                    **fetching,
                ),
                RouterApp,
                "router",
            )
        )
        yield {
            "router": router.address,
            "encoder": encoder.address,
            "caption": caption.address,
            "search": search.address,
        }


@pytest.fixture
async def mesh(database: str, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A mesh with its default settings that keeps thumbnails."""
    async with running_mesh(database, media=tmp_path / "media") as addresses:
        yield addresses


@pytest.fixture
async def channel(mesh: dict[str, str]) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the router."""
    async with open_channel(mesh["router"]) as channel:
        yield channel
