"""Results shared in a real Redis: found by other processes, and missed without an error while it is away or unwell."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.redis_tier import READ_S, RedisTier
from lensmesh_inference.cache.tiered import TieredCache
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.waiting import until

KEY = TieredCache.key("vs1-a:image", "00")


class Counted:
    """How often the Redis failed, by operation."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def show(self, model: str) -> None: ...

    def answered(self, model: str, outcome: CacheOutcome) -> None: ...

    def shared_failed(self, operation: str) -> None:
        self.failed.append(operation)


class Level(RedisTier):
    """One that comes back quickly, and what it counted."""

    def __init__(self, url: str, ttl_s: int = 100) -> None:
        self.counted = Counted()
        super().__init__(url, ttl_s=ttl_s, observer=self.counted, retry_s=(0.02, 0.1))


@asynccontextmanager
async def level(url: str, ttl_s: int = 100) -> AsyncIterator[Level]:
    one = Level(url, ttl_s)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


async def test_what_one_writes_others_find_until_it_expires(server: RedisServer) -> None:
    async with level(server.url) as one, level(server.url, ttl_s=0) as other:
        await until(lambda: one.reachable and other.reachable)
        one.put("a", b"of one")
        other.put("b", b"of the other")
        with server.client() as client:
            await until(lambda: client.dbsize() == 2)
            assert 0 < client.ttl("a") <= 100
            assert client.ttl("b") == -1, "0 seconds: it never expires"
        assert list(await asyncio.gather(one.get("b"), other.get("a"))) == [b"of the other", b"of one"]
        assert await one.get("c") is None
        assert one.counted.failed == []


async def test_what_is_asked_for_together_goes_in_one_command(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        with server.client() as client:
            client.mset({f"key{number}": f"value{number}" for number in range(100)})
            client.config_resetstat()
            values = await asyncio.gather(*(one.get(f"key{number % 100}") for number in range(200)))
            assert values == [f"value{number % 100}".encode() for number in range(200)]
            assert client.info("commandstats")["cmdstat_mget"]["calls"] == 1


async def test_one_of_several_who_ask_may_leave(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        with server.client() as client:
            client.set("a", "x")
        asked = [asyncio.create_task(one.get("a")) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        assert await asyncio.gather(*asked[1:]) == [b"x", b"x"]


async def test_a_redis_that_dies_costs_the_hits_and_is_used_again_when_it_is_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        server.kill()
        assert await asyncio.gather(*(one.get(f"key{number}") for number in range(50))) == [None] * 50
        assert not one.reachable
        assert one.counted.failed == ["read"], "one round trip for all of them"
        one.put("lost", b"x")
        server.start()
        await until(lambda: one.reachable)
        one.put("kept", b"x")
        with server.client() as client:
            await until(lambda: client.keys() == [b"kept"])
        assert await one.get("kept") == b"x"
    told = [record.message.split(":")[0] for record in caplog.records if "redis_tier" in record.pathname]
    place = str(server.socket)
    shared, gone = "results are shared in the Redis at unix", "no cache at unix"
    assert told == [shared, gone, shared], caplog.text
    assert place in caplog.text


async def test_a_redis_that_hangs_delays_once_and_its_late_answers_reach_nobody(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        with server.client() as client:
            client.mset({"a": "value of a", "b": "value of b"})
        server.hold()
        began = time.monotonic()
        assert await one.get("a") is None
        waited = time.monotonic() - began
        assert waited >= 0.9 * READ_S
        assert not one.reachable
        # From here on nobody waits at all: not even one pass of the event loop.
        with pytest.raises(StopIteration):
            one.get("a").send(None)
        server.go_on()
        await until(lambda: one.reachable)
        for _ in range(20):
            assert list(await asyncio.gather(one.get("a"), one.get("b"))) == [b"value of a", b"value of b"]


async def test_a_redis_that_is_away_at_start_is_found_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(tmp_path)
    async with level(server.url) as one:
        assert await one.get("a") is None
        await until(lambda: "no cache" in caplog.text)
        assert one.counted.failed == []
        server.start()
        try:
            await until(lambda: one.reachable)
        finally:
            server.kill()
    assert caplog.text.count("no cache at") == 1


async def test_a_wrong_password_is_no_error_and_is_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path, "--requirepass", "right-secret") as server:
        async with (
            level(f"{server.url}&password=wrong-secret") as one,
            level(f"{server.url}&password=right-secret") as other,
        ):
            await until(lambda: other.reachable and "no cache" in caplog.text)
            assert await one.get("a") is None
            one.put("a", b"x")
            assert not one.reachable
    assert "secret" not in caplog.text
    assert "WRONGPASS" in caplog.text or "invalid" in caplog.text


async def test_a_full_redis_is_still_read_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with redis_server(tmp_path, "--maxmemory-policy", "noeviction") as server:
        async with level(server.url) as one:
            await until(lambda: one.reachable)
            with server.client() as client:
                client.set("a", "x")
                client.config_set("maxmemory", "1kb")
                one.put("b", b"y")
                await until(lambda: one.counted.failed == ["write"])
                assert await one.get("a") == b"x"
                assert one.reachable
                client.config_set("maxmemory", "0")

                def written() -> bool:
                    one.put("b", b"y")
                    return bool(client.exists("b"))

                await until(written)
                await until(lambda: "takes results again" in caplog.text)
    assert caplog.text.count("takes no results") == 1


async def test_a_replica_that_is_only_read_is_read(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "replica").mkdir()
    with redis_server(tmp_path / "replica") as replica:
        with replica.client() as client:
            client.set("a", "x")
            # Of a main that is nowhere: it serves what it has, and takes nothing.
            client.replicaof("127.0.0.1", "1")
        async with level(replica.url) as one:
            await until(lambda: one.reachable)
            one.put("b", b"y")
            await until(lambda: one.counted.failed == ["write"])
            assert await one.get("a") == b"x"


async def test_a_value_of_another_kind_is_a_miss(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        with server.client() as client:
            client.rpush("a", "a list")
            client.set("b", "x")
        assert list(await asyncio.gather(one.get("a"), one.get("b"))) == [None, b"x"]
        assert one.counted.failed == []


async def test_damaged_and_foreign_values_are_misses(server: RedisServer) -> None:
    async def look() -> bytes | None:
        async with level(server.url) as shared:
            await until(lambda: shared.reachable)
            return await TieredCache(1024**2, shared).get(KEY)

    async with level(server.url) as shared:
        await until(lambda: shared.reachable)
        TieredCache(0, shared).put(KEY, b"payload")
        with server.client() as client:
            await until(lambda: client.exists(KEY) == 1)
            assert await look() == b"payload"
            frame = client.get(KEY)
            assert isinstance(frame, bytes)
            other = TieredCache.key("vs1-a:image", "01")
            for spoiled in (b"", b"garbage", frame[:-1], frame + b"x", b"LM\x02" + frame[3:]):
                client.set(KEY, spoiled)
                assert await look() is None
            client.set(other, frame)
            client.set(KEY, frame)
            assert await shared.get(other) == frame, "it is there"
            assert await TieredCache(1024**2, shared).get(other) is None, "but it is another key's"


async def test_what_another_process_computed_is_kept_in_memory_too(server: RedisServer) -> None:
    async with level(server.url) as shared:
        await until(lambda: shared.reachable)
        TieredCache(0, shared).put(KEY, b"payload")
        with server.client() as client:
            await until(lambda: client.exists(KEY) == 1)
        cache = TieredCache(1024**2, shared)
        assert cache.get_here(KEY) is None
        assert await cache.get(KEY) == b"payload"
        server.kill()
        assert await cache.get(KEY) == b"payload"
        assert (cache.items, shared.counted.failed) == (1, [])


async def test_more_than_is_written_in_time_is_dropped_not_kept_in_memory(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        server.hold()
        for number in range(300):
            one.put(f"key{number}", bytes(1024**2))
        assert one.waiting_bytes <= 17 * 1024**2
        server.go_on()


async def test_what_is_put_twice_before_it_is_written_counts_once(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        for size in (100, 300, 200):
            one.put(KEY, b"x" * size)
        assert one.waiting_bytes == 200
        await until(lambda: one.waiting_bytes == 0)


async def test_closing_writes_what_is_left(server: RedisServer) -> None:
    async with level(server.url) as one:
        await until(lambda: one.reachable)
        for number in range(500):
            one.put(f"key{number}", b"x")
    with server.client() as client:
        assert client.dbsize() == 500


async def test_closing_does_not_wait_for_a_redis_that_hangs(server: RedisServer) -> None:
    async with asyncio.timeout(60), level(server.url) as one:
        await until(lambda: one.reachable)
        server.hold()
        one.put("a", b"x")
        asked = asyncio.create_task(one.get("a"))
        await asyncio.sleep(0)
    assert await asked is None
