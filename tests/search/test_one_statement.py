"""A read of PostgreSQL is one round trip: one statement, prepared before, that answers what several would."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import numpy as np
import pytest

from lensmesh_chassis.errors import DeadlineExceeded, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.filters import All, Equals, Filter, NumberRange
from search_svc.legs import Diversity, Fusion, GroupBy, VectorLeg
from search_svc.model import Collection, FieldType, Hits, Item, View
from search_svc.postgres import one_statement, searching
from search_svc.postgres.database import Database
from search_svc.postgres.reading import read_ids
from search_svc.store import Query, StaleCollection, Store
from tests.search.conftest import settings_for
from tests.search.servers import Proxy
from tests.search.support import definition, domain_item
from tests.support.postgres import PostgresForTests
from tests.support.waiting import until

DIMENSION = 8


class CountingProxy(Proxy):
    """One that counts what clients wait for an answer to: each Sync and each simple Query is a round trip."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.seen: Counter[str] = Counter()
        self._unread: dict[asyncio.StreamReader, bytearray] = {}

    @property
    def round_trips(self) -> int:
        return self.seen["S"] + self.seen["Q"]

    def from_client(self, reader: asyncio.StreamReader, data: bytes) -> None:
        # The first message has no type.
        unread = self._unread.setdefault(reader, bytearray(b"?"))
        unread += data
        while len(unread) >= 5 and len(unread) > (size := int.from_bytes(unread[1:5])):
            self.seen[chr(unread[0])] += 1
            del unread[: size + 1]


@pytest.fixture
async def proxy(postgres: PostgresForTests, database_url: str) -> AsyncIterator[CountingProxy]:
    """A port in front of an empty database."""
    made = CountingProxy(postgres.socket)
    await made.listen()
    yield made
    await made.cut()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Store]:
    store = make_store(settings_for(url, **options))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def drawn(count: int) -> list[Item]:
    """Items around a few centres, some of one vector; the last has none."""
    chance = np.random.default_rng(11)
    centres = chance.standard_normal((12, DIMENSION))
    vectors = centres[chance.integers(0, 12, count)] + 0.4 * chance.standard_normal((count, DIMENSION))
    vectors[: count // 10] = vectors[0]
    items = [domain_item(f"i{i:04}", v, f'{{"n": {i % 9}, "k": "v{i % 3}"}}') for i, v in enumerate(vectors)]
    return [*items, Item("bare")]


async def filled(store: Store, items: Sequence[Item]) -> Collection:
    indexes = {"k": FieldType.KEYWORD}
    made = await store.create_collection(definition(dimension=DIMENSION, indexes=indexes), timeout_s=50)
    for begin in range(0, len(items), 500):
        await store.upsert(made.collection, items[begin : begin + 500], timeout_s=50)
    return made.collection


def near(collection: Collection, near_vector: Any, **changes: Any) -> Query:
    space = collection.definition.spaces[0]
    leg = VectorLeg(space, near_vector, changes.pop("item_id", ""))
    made = Query((leg,), None, 10, 0, None, False, None, View.BASIC, max_bytes=1 << 24)
    return replace(made, **changes)


def leg_of(query: Query) -> VectorLeg:
    """The leg of a search that has one."""
    assert query.only_leg is not None
    return query.only_leg


def told(hits: Hits) -> object:
    """All that hits say, as what can be compared."""
    return (
        hits.cut,
        hits.exact,
        [(hit.rank, hit.score, *map(str, hit.item)) for hit in hits.hits],
    )


K1, N3 = Equals(("k",), ("v1",)), NumberRange(("n",), at_least=3.0)
# Each is asked twice with other values: the second time nothing is new to the server.
SHAPES: dict[str, list[dict[str, Any]]] = {
    "vector": [{}, {"limit": 7, "offset": 2}],
    "least score": [{"min_score": 0.1}, {"min_score": 0.3, "limit": 4}],
    "item": [{"item_id": "i0003"}, {"item_id": "i0004", "limit": 3}],
    "exact": [{"exact": True}, {"exact": True, "limit": 20}],
    "many": [{"limit": 30}, {"limit": 25, "offset": 40}],
    "filter": [{"filter": K1}, {"filter": Equals(("n",), (4.0,))}],
    "vectors too": [{"view": View.FULL}, {"view": View.FULL, "limit": 5}],
    "ids": [{"view": View.ID}, {"view": View.ID, "limit": 5}],
}


async def test_a_search_is_one_round_trip(proxy: CountingProxy) -> None:
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    async with opened(url) as store:
        collection = await filled(store, drawn(150))
        vectors = unit(np.random.default_rng(1).standard_normal((2, DIMENSION)))
        for shape, (first, second) in SHAPES.items():
            for vector, changes in zip(vectors, (first, second), strict=True):
                asked = near(collection, None if "item_id" in changes else vector, **changes)
                before = proxy.round_trips
                await store.search(collection, asked, timeout_s=50)
            assert proxy.round_trips == before + 1, shape
        # Where the index knows of too few, every item is looked at: in one more.
        for value in ("none", "neither"):
            before = proxy.round_trips
            few = near(collection, vectors[0], filter=Equals(("k",), (value,)))
            assert (await store.search(collection, few, timeout_s=50)).hits == ()
        assert proxy.round_trips == before + 2


async def test_a_search_by_several_legs_is_a_transaction_of_two_statements(proxy: CountingProxy) -> None:
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    async with opened(url) as store:
        collection = await filled(store, drawn(150))
        for changes, statements in (
            ({"fusion": Fusion()}, 2),
            ({"group_by": GroupBy((("n",),)), "limit": 5}, 2),
            # The vectors that diversity compares come with the candidates of one leg; those of several are asked for.
            ({"diversity": Diversity(0.5, 50)}, 2),
            ({"fusion": Fusion(), "diversity": Diversity(0.5, 50)}, 3),
        ):
            for vectors in unit(np.random.default_rng(1).standard_normal((2, 2, DIMENSION))):
                asked = near(collection, vectors[0], **changes)
                if asked.fusion:
                    away = replace(leg_of(near(collection, vectors[1])), name="away", weight=-1.0, place=1)
                    asked = replace(asked, legs=(*asked.legs, away))
                before = proxy.round_trips
                assert (await store.search(collection, asked, timeout_s=50)).hits
            # Its begin and its end beside them.
            assert proxy.round_trips == before + statements + 2, changes


async def test_so_are_other_reads(proxy: CountingProxy) -> None:
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    async with opened(url) as store:
        collection = await filled(store, drawn(30))

        async def get(*ids: str) -> object:
            return await store.get_items(collection, ids, view=View.BASIC, max_bytes=1 << 20, timeout_s=50)

        async def list_items(count: int, after: str) -> object:
            return await store.list_items(
                collection, filter=K1, after=after, count=count, view=View.FULL, max_bytes=1 << 20, timeout_s=50
            )

        async def facets(limit: int) -> object:
            index = collection.definition.field_indexes
            return await store.count_facets(
                collection, index, filter=None, limit=limit, max_bytes=1 << 20, timeout_s=50
            )

        for calls in (
            [get("i0001"), get("i0002", "none", "i0003"), get("i0004")],
            [list_items(5, ""), list_items(7, "i0004"), list_items(6, "i0002")],
            [facets(3), facets(5), facets(4)],
            [store.find_collection("pictures", fresh=True, timeout_s=50) for _ in range(3)],
        ):
            taken = []
            for call in calls:
                before = proxy.round_trips
                await call
                taken.append(proxy.round_trips - before)
            # The first may prepare its statement; whichever finds its connection busy makes another.
            assert min(taken[1:]) == 1, taken


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One connection, which uses indexes however small a table is."""
    made = Database(
        database_url + "&enable_seqscan=off",
        pool_size=1,
        connect_s=20,
        idle_s=60,
        settings=searching.session_settings(100),
    )
    yield made
    await made.close()


async def test_it_answers_what_several_statements_do(database_url: str, database: Database) -> None:
    async with opened(database_url) as store:
        collection = await filled(store, drawn(400))
    await database.open()
    chance, directions = random.Random(5), np.random.default_rng(5)
    trees: list[Filter | None] = [None, K1, All((K1, N3)), Equals(("n",), (5.0,)), Equals(("k",), ("none",))]
    asked_for: Counter[int] = Counter()

    async def ask(work: Any) -> Any:
        asked_for[-1] += 1
        return await database.run(work, timeout_s=40, single=True)

    for _ in range(50):
        by_item = chance.random() < 0.3
        asked = near(
            collection,
            None if by_item else unit(directions.standard_normal(DIMENSION)),
            item_id=f"i{chance.randrange(400):04}" if by_item else "",
            filter=chance.choice(trees),
            limit=chance.choice([1, 5, 20, 60, 150]),
            offset=chance.choice([0, 0, 3, 40]),
            min_score=chance.choice([None, 0.2]),
            exact=chance.random() < 0.3,
            hnsw_ef=chance.choice([None, None, 1]),
            view=chance.choice([View.ID, View.BASIC, View.FULL]),
            max_bytes=chance.choice([1 << 24, 2_000]),
        )
        asked_for[-1] = 0
        hits = await one_statement.search(ask, collection, asked, leg_of(asked))
        asked_for[asked_for[-1]] += 1
        several = await database.run(
            partial(searching.search, collection=collection, query=asked, leg=leg_of(asked)), timeout_s=40
        )
        assert hits is not None
        assert told(hits) == told(several), asked
    assert asked_for[1] > asked_for[2] > 3
    assert await database.run(lambda c: c.fetchval("SHOW hnsw.ef_search"), timeout_s=40, single=True) == "100"


async def test_refusals_keep_their_reasons(database_url: str) -> None:
    async with opened(database_url) as store:
        collection = await filled(store, drawn(3))
        for item_id, kind, reason in (
            ("none", NotFound, Reason.ITEM_NOT_FOUND),
            ("bare", PreconditionFailed, Reason.ITEM_WITHOUT_VECTOR),
        ):
            with pytest.raises(kind) as caught:
                await store.search(collection, near(collection, None, item_id=item_id), timeout_s=50)
            assert caught.value.reason is reason
        # What is refused is not the same as what is not found.
        only = near(collection, None, item_id="i0000", filter=Equals(("k",), ("none",)))
        assert (await store.search(collection, only, timeout_s=50)).hits == ()


async def test_a_collection_made_anew_is_noticed_without_a_question(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as other:
        collection = await filled(one, drawn(30))
        asked = near(collection, unit(np.ones(DIMENSION)))
        assert len((await one.search(collection, asked, timeout_s=50)).hits) == 10
        await other.delete_collection("pictures", timeout_s=50)
        await filled(other, drawn(5))
        with pytest.raises(StaleCollection):
            await one.search(collection, asked, timeout_s=50)
        with pytest.raises(StaleCollection):
            await one.get_items(collection, ["i0001"], view=View.BASIC, max_bytes=1 << 20, timeout_s=50)


PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE strpos(statement, $1) > 0"


async def test_plans_are_kept_but_for_those_with_a_filter(database_url: str, database: Database) -> None:
    async with opened(database_url) as store:
        collection = await filled(store, drawn(100))
    await database.open()
    vector = unit(np.ones(DIMENSION))

    async def plans(part: str) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await database.run(lambda c: c.fetch(PLANS, part), timeout_s=40)
        return rows

    async def search(**changes: Any) -> None:
        def ask(work: Any) -> Any:
            return database.run(work, timeout_s=40, single=True)

        for _ in range(8):
            asked = near(collection, vector, **changes)
            await one_statement.search(ask, collection, asked, leg_of(asked))

    await search()
    [(kept, _)] = await plans("WITH near")
    assert kept > 0
    await search(filter=K1)
    assert sorted(row["generic_plans"] for row in await plans("WITH near")) == [0, kept]
    for number in range(8):
        read = partial(read_ids, collection=collection, ids=[f"i{number:04}"], view=View.BASIC, max_bytes=1 << 20)
        await database.run(read, timeout_s=40, single=True)
    [(kept, _)] = await plans("ANY ((SELECT")
    assert kept > 0


async def test_items_are_looked_up_one_by_one_before_the_server_knows_its_tables(database_url: str) -> None:
    async with opened(database_url) as store:
        collection = await filled(store, drawn(2500))
    new = Database(database_url, pool_size=1, connect_s=20, idle_s=60, settings=searching.session_settings(100))
    await new.open()
    query = near(collection, unit(np.ones(DIMENSION)))
    asked = one_statement.OneStatement(collection, query, leg_of(query), [20])
    plan = await new.run(lambda c: c.fetch(f"EXPLAIN {asked.text}", *asked.values), timeout_s=40, single=True)
    await new.close()
    # They were looked through, all of them, for each vector that the index found.
    assert not [line for (line,) in plan if "Seq Scan on items_" in line]


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_statement_that_nobody_waits_for_ends_and_costs_no_connection(
    database_url: str, database: Database, leaves: bool
) -> None:
    await database.open()
    pid = await database.run(lambda c: c.fetchval("SELECT pg_backend_pid()"), timeout_s=40)
    watcher = await asyncpg.connect(database_url)

    async def sleeps() -> bool:
        what = "state = 'active' AND query LIKE 'SELECT pg_sleep%'"
        return bool(await watcher.fetchval(f"SELECT {what} FROM pg_stat_activity WHERE pid = $1", pid))

    async def is_over() -> bool:
        return not await sleeps()

    timeout_s = 40 if leaves else 0.2
    call = asyncio.create_task(database.run(lambda c: c.fetch("SELECT pg_sleep(60)"), timeout_s=timeout_s, single=True))
    if leaves:
        await until(sleeps)
        call.cancel()
    with pytest.raises(asyncio.CancelledError if leaves else DeadlineExceeded):
        await call
    await until(is_over)
    assert await database.run(lambda c: c.fetchval("SELECT pg_backend_pid()"), timeout_s=40) == pid
    await watcher.close()


async def test_a_call_with_more_time_than_a_session_gives_is_a_transaction(database: Database) -> None:
    await database.open()

    async def is_in_transaction(connection: asyncpg.Connection) -> bool:
        return bool(connection.is_in_transaction())

    # A router that has a caller without a deadline waits for ten minutes.
    assert not await database.run(is_in_transaction, timeout_s=600, single=True)
    assert await database.run(is_in_transaction, timeout_s=901, single=True)
    left = await database.run(lambda c: c.fetchval("SHOW statement_timeout"), timeout_s=40, single=True)
    assert left == "15min"
