"""Results that replicas share in a Redis. It may be away, slow or full: then there is no cache, and no error.

No item waits for a Redis longer than `READ_S`. The first failure stops its use, and a background task tries until it
answers again. What is requested in one pass of the event loop goes in one MGET, from however many calls and streams.
What is written goes in pipelines that nobody waits for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lensmesh_inference.cache.observer import CacheObserver
from lensmesh_inference.cache.redis_address import shown

READ_S: Final = 0.25
"""The longest time that an item waits for a Redis."""
WRITE_S: Final = 2.0
CONNECT_S: Final = 2.0
RETRY_S: Final = (1.0, 30.0)
"""The time until the next try after a failure. Each further failure doubles it, up to the second number."""
_KEYS: Final = 128
_PENDING_BYTES: Final = 16 * 1024**2
_CONNECTIONS: Final = 8
_PROBE: Final = "lensmesh:probe"

_log = logging.getLogger(__name__)


class RedisTier:
    """A `SharedTier` in one Redis. Keys expire after `ttl_s` seconds (0: never)."""

    def __init__(
        self, url: str, *, ttl_s: int, observer: CacheObserver, retry_s: tuple[float, float] = RETRY_S
    ) -> None:
        self._shown = shown(url)
        self._ttl_s = ttl_s or None
        self._observer = observer
        self._retry_s = retry_s
        self._client: Redis = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=WRITE_S,
            socket_connect_timeout=CONNECT_S,
            # Trying again at once would only add to the time that an item waits.
            retry=Retry(NoBackoff(), 0),
        )
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._asked: dict[str, asyncio.Future[bytes | None]] = {}
        self._to_write: dict[str, bytes] = {}
        self.waiting_bytes = 0
        """The bytes of values that are not written yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self.reachable = False
        """True where it answered when last asked."""
        self._write_trouble = ""
        self._write_again = 0.0

    async def start(self) -> None:
        """Begin to look for the Redis."""
        self._keeper = asyncio.create_task(self._keep(), name="redis-keeper")

    async def close(self) -> None:
        """Write what is left, for as long as one write may take, and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=WRITE_S)
        self.reachable = False
        tasks = [task for task in (self._keeper, self._writer, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def get(self, key: str) -> bytes | None:
        """Return what lies under a key. None: nothing, or Redis did not answer in time."""
        if not self.reachable:
            return None
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._read_all)
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = loop.create_future()
        # One of several who ask for it may leave.
        return await asyncio.shield(answer)

    def put(self, key: str, value: bytes) -> None:
        """Write soon, unless the Redis is away or too much waits to be written."""
        loop = asyncio.get_running_loop()
        if not self.reachable or loop.time() < self._write_again or self.waiting_bytes > _PENDING_BYTES:
            return
        self.waiting_bytes += len(value) - len(self._to_write.get(key, b""))
        self._to_write[key] = value
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="redis-writer")

    def _read_all(self) -> None:
        """Send what was requested in this pass of the event loop."""
        asked, self._asked = list(self._asked.items()), {}
        if not self.reachable:
            for _, answer in asked:
                answer.set_result(None)
            return
        for start in range(0, len(asked), _KEYS):
            task = asyncio.create_task(self._read(asked[start : start + _KEYS]), name="redis-read")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read(self, asked: list[tuple[str, asyncio.Future[bytes | None]]]) -> None:
        found: dict[str, Any] = {}
        keys = [key for key, _ in asked]
        try:
            async with asyncio.timeout(READ_S), self._turns:
                found = dict(zip(keys, await self._client.mget(keys), strict=True))
        except Exception as error:  # noqa: BLE001 - whatever a Redis does, it may not cost an item its answer
            self._away("read", error)
        finally:
            for key, answer in asked:
                value = found.get(key)
                answer.set_result(value if isinstance(value, bytes) else None)

    async def _write_all(self) -> None:
        while self._to_write:
            keys = list(self._to_write)[:_KEYS]
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                value = self._to_write.pop(key)
                self.waiting_bytes -= len(value)
                pipeline.set(key, value, ex=self._ttl_s)
            try:
                async with asyncio.timeout(WRITE_S):
                    answers = await pipeline.execute(raise_on_error=False)
            except Exception as error:  # noqa: BLE001 - as above
                self._away("write", error)
                self._to_write.clear()
                self.waiting_bytes = 0
                return
            self._wrote(next((answer for answer in answers if isinstance(answer, Exception)), None))

    def _wrote(self, error: Exception | None) -> None:
        """Take in the answer to a write. The Redis may be full, or a read-only replica: reading goes on then."""
        trouble = "" if error is None else str(error)[:200]
        if error is not None:
            self._observer.shared_failed("write")
            self._write_again = asyncio.get_running_loop().time() + _jittered(5 * self._retry_s[0])
        if bool(trouble) != bool(self._write_trouble):
            if trouble:
                _log.warning("the Redis at %s takes no results: %s", self._shown, trouble)
            else:
                _log.info("the Redis at %s takes results again", self._shown)
        self._write_trouble = trouble

    def _away(self, operation: str, error: Exception) -> None:
        self._observer.shared_failed(operation)
        if self.reachable:
            self.reachable = False
            _log.warning(
                "no cache at %s: the Redis does not answer, results are kept in this process alone: %s",
                self._shown,
                _said(error),
            )
        self._failed.set()

    async def _keep(self) -> None:
        """Find out whether the Redis answers. While it does not, try again."""
        told, wait_s = False, self._retry_s[0]
        while True:
            self._failed.clear()
            try:
                async with asyncio.timeout(2 * CONNECT_S):
                    await self._client.ping()
                # Only who can be read from as quickly as an item needs it is of use.
                async with asyncio.timeout(READ_S):
                    await self._client.mget([_PROBE])
            except Exception as error:  # noqa: BLE001 - as above
                if not told:
                    _log.warning(
                        "no cache at %s yet: the Redis does not answer, it is tried again in the background: %s",
                        self._shown,
                        _said(error),
                    )
            else:
                self.reachable = True
                _log.info("results are shared in the Redis at %s", self._shown)
                began = asyncio.get_running_loop().time()
                await self._failed.wait()
                if asyncio.get_running_loop().time() - began > self._retry_s[1]:
                    wait_s = self._retry_s[0]
            told = True
            await asyncio.sleep(_jittered(wait_s))
            wait_s = min(2 * wait_s, self._retry_s[1])


def _jittered(seconds: float) -> float:
    # So that not all replicas come back to a Redis that has just come back.
    return seconds * random.uniform(0.5, 1.5)


def _said(error: Exception) -> str:
    """Return what may be logged of an error. redis-py's own messages name no password."""
    return f"{type(error).__name__} {str(error)[:200]}".rstrip()
