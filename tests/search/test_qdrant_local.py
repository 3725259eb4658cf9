"""Qdrant's local mode: a folder, one process, one thread."""

import asyncio
import errno
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from lensmesh_chassis.errors import DeadlineExceeded, Unavailable
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SERVICE, SearchApp, make_store
from search_svc.filters import Equals
from search_svc.legs import VectorLeg
from search_svc.model import FieldType, View
from search_svc.qdrant.faults import translated
from search_svc.qdrant.store import QdrantStore
from search_svc.store import Query, StoreRefused
from tests.search.conftest import settings_for
from tests.search.support import definition, domain_item
from tests.support.waiting import until


def url_of(folder: Path) -> str:
    return f"qdrant+local:{folder}"


async def test_what_is_stored_is_there_at_the_next_start(tmp_path: Path) -> None:
    made = definition(indexes={"n": FieldType.NUMBER})
    vector = np.array([1.0, 2, 0, 0])
    for round_ in range(2):
        store = make_store(settings_for(url_of(tmp_path / "vectors")))
        await store.open()
        collection = (await store.create_collection(made, timeout_s=60)).collection
        if not round_:
            items = [domain_item(f"{i}", vector + i, f'{{"n": {i}}}') for i in range(5)]
            await store.upsert(collection, items, timeout_s=60)
        assert (await store.count_items(collection, timeout_s=60)).item_count == 5
        query = Query(
            (VectorLeg(made.spaces[0], vector.astype(np.float32)),),
            Equals(("n",), (3.0,)),
            5,
            0,
            None,
            False,
            None,
            View.FULL,
            99,
        )
        assert [hit.item.id for hit in (await store.search(collection, query, timeout_s=60)).hits] == ["3"]
        await store.close()


async def test_a_folder_in_use_is_said_and_waited_for(tmp_path: Path) -> None:
    first = make_store(settings_for(url_of(tmp_path)))
    await first.open()
    second = make_store(settings_for(url_of(tmp_path)))
    with pytest.raises(StoreRefused, match="is in use"):
        await second.open()
    await second.close()
    async with running(settings_for(url_of(tmp_path), store_check_seconds=0.1), SearchApp, "search") as server:
        assert "is in use" in server.runtime.health.reason()
        await first.close()

        async def serves() -> bool:
            return server.runtime.health.is_serving(SERVICE)

        await until(serves)


async def test_a_damaged_folder_is_said_and_used_once_it_is_whole(tmp_path: Path) -> None:
    first = make_store(settings_for(url_of(tmp_path)))
    await first.open()
    await first.close()
    meta = tmp_path / "meta.json"
    whole = meta.read_text()
    meta.write_text("{")
    async with running(settings_for(url_of(tmp_path), store_check_seconds=0.1), SearchApp, "search") as server:
        for _ in range(3):
            assert "cannot be read (JSONDecodeError)" in server.runtime.health.reason()
            await asyncio.sleep(0.2)
        meta.write_text(whole)

        async def serves() -> bool:
            return server.runtime.health.is_serving(SERVICE)

        await until(serves)


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    store = make_store(settings_for(url_of(file / "folder")))
    with pytest.raises(StoreRefused, match="cannot be used"):
        await store.open()
    await store.close()


async def test_it_works_beside_the_event_loop(tmp_path: Path) -> None:
    store = make_store(settings_for(url_of(tmp_path)))
    await store.open()
    collection = (await store.create_collection(definition(), timeout_s=60)).collection
    items = [domain_item(f"{i}", np.array([1.0, i, 0, 0]), '{"x": [1, 2, 3]}') for i in range(60)]
    busy = asyncio.create_task(store.upsert(collection, items, timeout_s=60))
    turns = 0
    while not busy.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(await busy) == 60
    # Done on the loop it would take one turn.
    assert turns > 10
    with pytest.raises(DeadlineExceeded):
        await store.upsert(collection, [domain_item(f"n{i}", np.ones(4)) for i in range(60)], timeout_s=0.001)
    await store.close()


async def test_a_store_at_work_is_not_taken_for_one_that_is_away(tmp_path: Path) -> None:
    store = make_store(settings_for(url_of(tmp_path), store_connect_seconds=60))
    assert isinstance(store, QdrantStore)
    await store.open()
    # A look that waited for the work would say at once that nobody answers.
    store._connect_s = 0.01
    engine = store._engine
    begun, go_on = threading.Event(), threading.Event()

    async def long_search(_: object) -> bool:
        begun.set()
        return go_on.wait(60)

    for caller_leaves in (False, True):
        begun.clear()
        go_on.clear()
        busy = asyncio.create_task(engine.run(long_search, timeout_s=60))
        await asyncio.to_thread(begun.wait, 60)
        if caller_leaves:
            busy.cancel()
            await asyncio.wait([busy])
        await store.check()
        go_on.set()
        await asyncio.wait([busy])
    await until(lambda: not engine.is_busy)
    store._connect_s = 60
    await store.check()
    await store.close()


def sqlite_full() -> sqlite3.Error:
    """As sqlite itself says it."""
    connection = sqlite3.connect(":memory:")
    connection.executescript("PRAGMA max_page_count = 5; CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    connection.close()
    return caught.value


FULL = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"
NOTHING = grpc.aio.Metadata()
OF_THE_DISK: dict[str, tuple[Callable[[], Exception], Reason]] = {
    "local mode": (sqlite_full, Reason.STORE_FULL),
    "local mode's own files": (lambda: OSError(errno.ENOSPC, "secret"), Reason.STORE_FULL),
    "local mode's folder": (lambda: sqlite3.OperationalError("secret"), Reason.STORE_UNAVAILABLE),
    "a server": (
        lambda: grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, NOTHING, NOTHING, FULL),
        Reason.STORE_FULL,
    ),
}


@pytest.mark.parametrize("who", OF_THE_DISK)
def test_what_the_disk_refuses_has_its_words(who: str) -> None:
    """And is no defect of ours: callers wait, and are told what for."""
    error, reason = OF_THE_DISK[who]
    with pytest.raises(Unavailable) as caught, translated():
        raise error()
    assert caught.value.reason is reason
    assert "secret" not in caught.value.message
