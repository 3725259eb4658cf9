"""Stores that cannot be used, as the real process says it: NOT_SERVING and why, no secret, and alone back to work."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import pytest
from qdrant_client import AsyncQdrantClient

from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.tls.credentials import ChannelSecurity
from search_svc.qdrant import registry
from search_svc.qdrant.address import QdrantAddress, parse_address
from search_svc.qdrant.engine import Remote
from tests.search.processes import environment, search_process
from tests.search.servers import Proxy
from tests.search.standin import StandIn
from tests.search.support import create, item, refused, upsert
from tests.support.postgres import PostgresForTests

SECRET = "very-secret"
Act = Callable[[], Awaitable[None]]


@dataclass
class Faulty:
    """A store with a fault: its URL, what the service must say of it, and what repairs it."""

    url: str
    says: str
    repair: Act


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    """A Qdrant that listens."""
    made = StandIn()
    await made.start()
    yield made
    await made.remove()


@pytest.fixture
async def proxy(postgres: PostgresForTests, database_url: str) -> AsyncIterator[Proxy]:
    """A port in front of PostgreSQL that listens."""
    made = Proxy(postgres.socket)
    await made.listen()
    yield made
    await made.cut()


@pytest.fixture
async def postgres_away(proxy: Proxy) -> Faulty:
    await proxy.cut()
    url = f"postgresql://postgres:{SECRET}@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    return Faulty(url, "store: the database is not reachable", proxy.listen)


@pytest.fixture
async def qdrant_away(standin: StandIn) -> Faulty:
    await standin.stop()
    return Faulty(standin.url(SECRET), "store: Qdrant is not reachable", standin.start)


@pytest.fixture
async def postgres_wrong_password(postgres: PostgresForTests, database_url: str) -> AsyncIterator[Faulty]:
    """A user of whom the server asks a password, which it asks nobody else in these tests."""
    admin = await asyncpg.connect(database_url)
    rules = postgres.rules
    before = await asyncio.to_thread(rules.read_text)
    await asyncio.to_thread(rules.write_text, f"local all asked scram-sha-256\n{before}")
    await admin.execute("CREATE ROLE asked LOGIN SUPERUSER PASSWORD 'another'; SELECT pg_reload_conf()")

    async def repair() -> None:
        await admin.execute(f"ALTER ROLE asked PASSWORD '{SECRET}'")

    url = database_url.replace("postgres:@", f"asked:{SECRET}@")
    yield Faulty(url, "store: the database refuses this service's user or password", repair)
    await asyncio.to_thread(rules.write_text, before)
    await admin.execute("SELECT pg_reload_conf()")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'asked'")
    await admin.execute("REASSIGN OWNED BY asked TO postgres; DROP ROLE asked")
    await admin.close()


@pytest.fixture
async def qdrant_wrong_key(standin: StandIn) -> Faulty:
    standin.api_key = "another"

    async def repair() -> None:
        standin.api_key = SECRET

    return Faulty(standin.url(SECRET), "store: Qdrant refuses this service's API key", repair)


@pytest.fixture
async def postgres_without_extension(other_database_url: str) -> AsyncIterator[Faulty]:
    """A server on which pgvector is not installed, as this database sees it."""
    admin = await asyncpg.connect(other_database_url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'")

    async def repair() -> None:
        await admin.execute(f"ALTER DATABASE {name} RESET extension_control_path")

    yield Faulty(other_database_url, "store: the extension vector is not installed on the database server", repair)
    await admin.close()


@pytest.fixture
async def postgres_user_without_rights(other_database_url: str) -> AsyncIterator[Faulty]:
    """A user who may not create what is needed, and is then allowed to."""
    admin = await asyncpg.connect(other_database_url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")

    async def repair() -> None:
        await admin.execute(f"GRANT CREATE ON DATABASE {name} TO weak; CREATE EXTENSION vector")

    url = other_database_url.replace("postgres:@", "weak:@")
    yield Faulty(url, "store: the database user may not create the schema lensmesh or the extension vector", repair)
    await admin.close()


FAULTS = [
    "postgres_away",
    "qdrant_away",
    "postgres_wrong_password",
    "qdrant_wrong_key",
    "postgres_without_extension",
    "postgres_user_without_rights",
]


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest) -> Faulty:
    """Each of them."""
    made: Faulty = request.getfixturevalue(request.param)
    return made


async def test_it_starts_says_why_it_does_not_serve_and_recovers_alone(faulty: Faulty, tmp_path: Path) -> None:
    async with search_process(faulty.url, tmp_path) as search:
        assert not await search.serving()
        reason = await search.reason()
        assert reason.startswith(faulty.says)
        error = await refused(create(search.stub), grpc.StatusCode.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        await faulty.repair()
        await search.recovers()
        await create(search.stub)
        await upsert(search.stub, item("a", [1, 0, 0, 0]))
    log = (tmp_path / "log").read_text()
    assert faulty.says.removeprefix("store: ") in log
    assert SECRET not in reason + error.message + log


async def _everything_in_postgres(url: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT nspname, relname, relkind, relfilenode FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'lensmesh' ORDER BY 1, 2"
    )
    await connection.close()
    return [tuple(row) for row in rows]


async def test_a_newer_schema_in_postgresql_is_left_alone(database_url: str, tmp_path: Path) -> None:
    admin = await asyncpg.connect(database_url)
    await admin.execute(
        "CREATE SCHEMA lensmesh;"
        " CREATE TABLE lensmesh.schema_version (version integer, title text, applied_time timestamptz);"
        " INSERT INTO lensmesh.schema_version VALUES (99, 'from the future', now())"
    )
    before = await _everything_in_postgres(database_url)
    async with search_process(database_url, tmp_path) as search:
        assert not await search.serving()
        assert "schema version 99" in await search.reason()
        assert "start the release that made it, or a newer one" in await search.reason()
        assert await _everything_in_postgres(database_url) == before
        await admin.execute("DROP SCHEMA lensmesh CASCADE")
        await search.recovers()
    await admin.close()


async def test_a_newer_schema_in_qdrant_is_left_alone(standin: StandIn, tmp_path: Path) -> None:
    address = parse_address(standin.url())
    assert isinstance(address, QdrantAddress)
    engine = Remote(address, ChannelSecurity())

    async def nothing(client: AsyncQdrantClient, prefix: str) -> None:
        return

    steps = (*registry.STEPS, registry.RegistryStep(99, "from the future", nothing))
    await engine.run(lambda client: registry.prepare(client, address.prefix, steps), timeout_s=60)
    standin.calls.clear()
    async with search_process(standin.url(), tmp_path) as search:
        assert not await search.serving()
        assert "schema version 99" in await search.reason()
        # It looked, and that is all.
        assert set(standin.calls) <= {"HealthCheck", "Get"}
        await engine.run(lambda client: client.delete_collection(address.prefix), timeout_s=60)
        await search.recovers()
    await engine.close()


@pytest.mark.parametrize("url", [f"mysql://user:{SECRET}@host/x", f"qdrant://:{SECRET}@host:port"])
async def test_a_url_that_names_no_store_ends_the_start(url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "search_svc"],
        env=environment(url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LENSMESH_SEARCH_STORE_URL" in done.stderr
    assert "qdrant://[:API_KEY@]HOST" in done.stderr
    if url.startswith("mysql"):
        assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in done.stderr
        assert "qdrant+local:FOLDER" in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
