"""Migrations of the schema, step by step. They run once, however many processes start at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from search_svc.postgres.steps import MigrationStep
from search_svc.store import StoreRefused

# Any number that no other program on the same database is likely to lock.
_LOCK = 0x6C656E73
MIN_SERVER = 16
MIN_PGVECTOR = (0, 8)


@dataclass(frozen=True)
class PreparedDatabase:
    """Facts of a prepared database: versions as people write them, and the schema that the extension lies in."""

    server: str
    pgvector: str
    vector_schema: str


async def prepare(connection: asyncpg.Connection, steps: Sequence[MigrationStep]) -> PreparedDatabase:
    """Create or update schema and extension; change nothing where all is there.

    Raises:
        StoreRefused: server or extension too old or missing, no right to create them, or a schema newer than `steps`.
    """
    # "18.4 (Debian 18.4-1)": the driver's own reading takes the 4 for a third part.
    server = str(await connection.fetchval("SHOW server_version")).split()[0]
    if connection.get_server_version().major < MIN_SERVER:
        raise StoreRefused(f"PostgreSQL {server} is too old: {MIN_SERVER} or newer is needed")
    if await schema_version(connection) != steps[-1].version:
        try:
            await _migrate(connection, steps)
        except asyncpg.InsufficientPrivilegeError:
            raise StoreRefused(
                "the database user may not create the schema lensmesh or the extension vector: grant it CREATE on the"
                " database, and have an administrator run CREATE EXTENSION vector once"
            ) from None
        except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError):
            raise StoreRefused(
                "the extension vector is not installed on the database server: install pgvector 0.8"
            ) from None
    row = await connection.fetchrow(
        "SELECT extversion, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
        " WHERE extname = 'vector'"
    )
    if row is None:
        raise StoreRefused("the extension vector was dropped from the database: run CREATE EXTENSION vector")
    if tuple(int(part) for part in row["extversion"].split(".")[:2]) < MIN_PGVECTOR:
        raise StoreRefused(f"pgvector {row['extversion']} is too old: run ALTER EXTENSION vector UPDATE (0.8 or newer)")
    return PreparedDatabase(server, row["extversion"], row["nspname"])


async def schema_version(connection: asyncpg.Connection) -> int:
    """Return the version of the schema that is there; 0 where there is none."""
    # From the catalog as it is now: to_regclass may answer from what this connection remembers.
    there = await connection.fetchval(
        "SELECT count(*) FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'lensmesh' AND relname = 'schema_version'"
    )
    if not there:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM lensmesh.schema_version"))


async def _migrate(connection: asyncpg.Connection, steps: Sequence[MigrationStep]) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        # Asked again: another process may have done it while this one waited.
        version = await schema_version(connection)
        if version > steps[-1].version:
            raise StoreRefused(
                f"the database has schema version {version}, and this release knows versions up to {steps[-1].version}:"
                " start the release that made it, or a newer one"
            )
        if version == 0:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await connection.execute("CREATE SCHEMA IF NOT EXISTS lensmesh")
            await connection.execute(
                "CREATE TABLE lensmesh.schema_version"
                " (version integer PRIMARY KEY, title text NOT NULL, applied_time timestamptz NOT NULL DEFAULT now())"
            )
        for step in steps:
            if step.version > version:
                if step.sql:
                    await connection.execute(step.sql)
                if step.work is not None:
                    await step.work(connection)
                await connection.execute(
                    "INSERT INTO lensmesh.schema_version (version, title) VALUES ($1, $2)", step.version, step.title
                )
