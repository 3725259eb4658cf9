"""One real server for the folder, an empty database for each test, and the service on top."""

import itertools
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import RunningServer, running
from search_svc.app import SearchApp, make_store
from search_svc.settings import SearchSettings
from search_svc.store import Store
from tests.search.standin import StandIn, remove_collections
from tests.search.support import Stub
from tests.support.postgres import PostgresForTests

_numbers = itertools.count()
Serve = Callable[..., AbstractAsyncContextManager[tuple[Stub, RunningServer]]]


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresForTests]:
    """A server that tests share and leave running."""
    server = PostgresForTests()
    yield server
    server.remove()


@pytest.fixture
async def database_url(postgres: PostgresForTests) -> str:
    """An empty database. Always the same one, emptied: making one takes a second on a slow disk."""
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lensmesh%'"
    )
    await admin.execute("DROP SCHEMA IF EXISTS lensmesh CASCADE")
    await admin.close()
    return postgres.url


@pytest.fixture
async def other_database_url(postgres: PostgresForTests) -> str:
    """A database in which nothing ever was, not even the extension."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return postgres.database(name)


@pytest.fixture
async def qdrant_url() -> AsyncIterator[str]:
    """An empty Qdrant: a prefix of its own in the real server that LENSMESH_TEST_QDRANT_URL names, or the stand-in."""
    real = os.environ.get("LENSMESH_TEST_QDRANT_URL", "")
    if real:
        url = f"{real.rstrip('/')}/test-{uuid.uuid4().hex[:12]}"
        yield url
        await remove_collections(url)
        return
    standin = StandIn()
    await standin.start()
    yield standin.url()
    await standin.remove()


# Kinds of stores, and the fixtures that make an empty one of each.
KINDS = {"postgresql": "database_url", "qdrant": "qdrant_url"}


@pytest.fixture(params=list(KINDS))
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind: every test that takes it, or what is made of it, holds for all of them."""
    url: str = request.getfixturevalue(KINDS[request.param])
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """An open store."""
    made = make_store(settings_for(store_url))
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=[*KINDS, "local"])
def each_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind, the local mode of Qdrant too."""
    if request.param == "local":
        return f"qdrant+local:{tmp_path / 'local'}"
    url: str = request.getfixturevalue(KINDS[request.param])
    return url


@pytest.fixture
async def each_store(each_url: str) -> AsyncIterator[Store]:
    """The same, open."""
    store = make_store(settings_for(each_url, store_connect_seconds=60))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def serve(store_url: str) -> Serve:
    """Starts the service on the store, with settings as given: `async with serve(max_items=3) as (stub, server)`."""

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[tuple[Stub, RunningServer]]:
        async with (
            running(settings_for(store_url, **options), SearchApp, "search") as server,
            open_channel(server.address) as channel,
        ):
            yield search_pb2_grpc.SearchServiceStub(channel), server

    return start


@pytest.fixture
async def stub(serve: Serve) -> AsyncIterator[Stub]:
    """The service with its defaults."""
    async with serve() as (made, _):
        yield made


def settings_for(url: str, **options: Any) -> SearchSettings:
    """Settings with a free port."""
    return SearchSettings(**{"listen": "127.0.0.1:0", "store_url": url, **options})
