"""The schema: made, kept, brought up to date, and refused where it is newer."""

import asyncpg
import pytest

from lensmesh_chassis.process.server import running
from search_svc.app import SERVICE, SearchApp, make_store
from search_svc.hashes import bands_of
from search_svc.postgres.database import Database
from search_svc.postgres.migrations import prepare, schema_version
from search_svc.postgres.steps import STEPS, MigrationStep
from search_svc.store import StoreRefused
from tests.search.conftest import settings_for
from tests.search.support import definition
from tests.support.waiting import until

_EVERYTHING = """
    SELECT string_agg(concat(nspname, '.', relname, ':', relkind), ',' ORDER BY nspname, relname)
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""


async def test_from_nothing_and_again(other_database_url: str) -> None:
    connection = await asyncpg.connect(other_database_url)
    assert await schema_version(connection) == 0
    ready = await prepare(connection, STEPS)
    assert ready.server.startswith("18.")
    assert ready.pgvector.startswith("0.8")
    assert await schema_version(connection) == STEPS[-1].version
    before = await connection.fetchval(_EVERYTHING)
    assert await prepare(connection, STEPS) == ready
    assert await connection.fetchval(_EVERYTHING) == before
    await connection.close()


async def test_steps_are_numbered_without_gaps() -> None:
    assert [step.version for step in STEPS] == list(range(1, len(STEPS) + 1))


async def test_an_older_schema_is_brought_up_to_date(database_url: str) -> None:
    store = make_store(settings_for(database_url))
    await store.open()
    await store.create_collection(definition(), timeout_s=60)
    await store.close()
    connection = await asyncpg.connect(database_url)
    next_step = MigrationStep(
        len(STEPS) + 1, "one more column", "ALTER TABLE lensmesh.collections ADD COLUMN note text"
    )
    await prepare(connection, (*STEPS, next_step))
    assert await connection.fetchval("SELECT count(note) FROM lensmesh.collections") == 0
    assert await schema_version(connection) == next_step.version
    await connection.close()


async def test_items_of_before_get_room_for_hashes(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await prepare(connection, STEPS[:5])
    key = await connection.fetchval(
        "INSERT INTO lensmesh.collections (name, definition, create_time) VALUES"
        " ('old', '{\"spaces\": [], \"field_indexes\": []}', now())"
        " RETURNING key"
    )
    await connection.execute(f"CREATE TABLE lensmesh.items_{key} (id text)")
    await connection.execute(f"INSERT INTO lensmesh.items_{key} VALUES ('a')")
    await prepare(connection, STEPS)
    row = await connection.fetchrow(f"SELECT * FROM lensmesh.items_{key}")
    assert dict(row) == {"id": "a", "perceptual_hash": b"", "perceptual_quality": 0}
    indexed = await connection.fetchval("SELECT indexdef FROM pg_indexes WHERE tablename = $1", f"items_{key}")
    assert (
        "gin (lensmesh.hash_bands(perceptual_hash)) WITH (fastupdate=off) WHERE (perceptual_quality >= 50)" in indexed
    )
    await connection.close()


async def test_the_databases_bands_are_ours(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await prepare(connection, STEPS)
    for hashes in ((bytes(range(32)),), (bytes(range(224, 256)), bytes(range(64, 96)))):
        bands = await connection.fetchval("SELECT lensmesh.hash_bands($1)", b"".join(hashes))
        assert sorted(set(bands)) == bands_of(hashes)
    await connection.close()


async def test_a_step_that_fails_changes_nothing(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await prepare(connection, STEPS)
    before = await connection.fetchval(_EVERYTHING)
    bad = MigrationStep(len(STEPS) + 1, "half of it", "CREATE TABLE lensmesh.half (); SELECT no_such_function()")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await prepare(connection, (*STEPS, bad))
    assert await connection.fetchval(_EVERYTHING) == before
    assert await schema_version(connection) == STEPS[-1].version
    await connection.close()


async def test_a_newer_schema_is_refused_and_unchanged(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    newer = MigrationStep(len(STEPS) + 1, "from the future", "CREATE TABLE lensmesh.future ()")
    await prepare(connection, (*STEPS, newer))
    before = await connection.fetchval(_EVERYTHING)
    store = make_store(settings_for(database_url))
    with pytest.raises(
        StoreRefused, match=f"version {newer.version}, and this release knows versions up to {len(STEPS)}"
    ):
        await store.open()
    await store.close()
    async with running(settings_for(database_url, store_check_seconds=0.1), SearchApp, "search") as server:
        assert f"schema version {newer.version}" in server.runtime.health.reason()
        assert await connection.fetchval(_EVERYTHING) == before
        assert await schema_version(connection) == newer.version
        # Taken back, as an operator would from a backup: the service recovers by itself.
        await connection.execute("DROP SCHEMA lensmesh CASCADE")

        async def serves() -> bool:
            return server.runtime.health.is_serving(SERVICE)

        await until(serves)
    await connection.close()


async def test_a_schema_taken_away_is_made_again(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    store = make_store(settings_for(database_url))
    await store.open()
    await connection.execute("DROP SCHEMA lensmesh CASCADE")
    await store.check()
    assert (await store.create_collection(definition(), timeout_s=60)).item_count == 0
    await store.close()
    await connection.close()


async def test_a_user_without_rights_is_told_what_to_grant(other_database_url: str) -> None:
    admin = await asyncpg.connect(other_database_url)
    await admin.execute("DROP ROLE IF EXISTS plain_user")
    await admin.execute("CREATE ROLE plain_user LOGIN")
    store = make_store(settings_for(other_database_url.replace("postgres:@", "plain_user:@")))
    with pytest.raises(StoreRefused, match="grant it CREATE"):
        await store.open()
    await store.close()
    assert await schema_version(admin) == 0
    await admin.close()


@pytest.mark.parametrize(
    ("version", "warned"), [("0.8.1", True), ("0.8.4", False), ("0.8.7", False), ("0.10.0", False)]
)
async def test_a_pgvector_with_known_faults_is_warned_of(
    database_url: str, caplog: pytest.LogCaptureFixture, version: str, warned: bool
) -> None:
    admin = await asyncpg.connect(database_url)
    await admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
    before = await admin.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    statement = "UPDATE pg_extension SET extversion = $1 WHERE extname = 'vector'"
    await admin.execute(statement, version)
    database = Database(database_url, pool_size=1, connect_s=20, idle_s=60)
    try:
        with caplog.at_level("WARNING"):
            await database.open()
        said = [str(record.msg) for record in caplog.records if "CVE-2026-3172" in str(record.msg)]
        assert len(said) == warned
        assert all("0.8.7" in each and "REINDEX" in each for each in said)
    finally:
        await database.close()
        await admin.execute(statement, before)
        await admin.close()
