"""The cache of a process: one tier in memory, and behind it one that replicas share."""

from __future__ import annotations

from typing import Final, Protocol

from lensmesh_inference.cache.envelope import seal, unseal
from lensmesh_inference.cache.lru import ByteLru
from lensmesh_inference.cache.observer import CacheObserver, NullCacheObserver
from lensmesh_inference.options import CacheOptions

# Part of every key: another number for values that mean something else.
_PREFIX: Final = "lensmesh:1:"


class SharedTier(Protocol):
    """A second tier that other processes use too. It never raises: what it cannot do is a miss."""

    async def start(self) -> None:
        """Begin to look whether it can be reached. Do not wait for it."""

    async def get(self, key: str) -> bytes | None:
        """Return what lies under a key."""

    def put(self, key: str, value: bytes) -> None:
        """Keep a value soon. Nobody waits for it."""

    async def close(self) -> None:
        """Write what is left, briefly, and disconnect."""


class TieredCache:
    """Payloads by key, for all models of a process."""

    def __init__(
        self, limit_bytes: int = 0, shared: SharedTier | None = None, observer: CacheObserver | None = None
    ) -> None:
        self.observer = observer or NullCacheObserver()
        self._here = ByteLru(limit_bytes)
        self._shared = shared

    @property
    def enabled(self) -> bool:
        """True where anything is ever kept. Where it is not, equal items that come together are not joined either."""
        return bool(self._here.limit_bytes) or self._shared is not None

    @property
    def shared(self) -> bool:
        """True where there is a tier behind the memory, which a look-up has to wait for."""
        return self._shared is not None

    @property
    def items(self) -> int:
        """The number of entries in memory."""
        return len(self._here)

    @property
    def held_bytes(self) -> int:
        """The memory that the entries take."""
        return self._here.held_bytes

    @property
    def evictions(self) -> int:
        """The number of entries dropped so far to make room for others."""
        return self._here.evictions

    async def start(self) -> None:
        """Begin to look for the shared tier. Does not wait for it."""
        if self._shared is not None:
            await self._shared.start()

    async def close(self) -> None:
        """Disconnect from the shared tier."""
        if self._shared is not None:
            await self._shared.close()

    def forget(self) -> None:
        """Drop everything that is in memory."""
        self._here.clear()

    @staticmethod
    def key(scope: str, digest: str) -> str:
        """Return the key of a content for one use of it. `digest` is the content's SHA-256 in hexadecimal digits."""
        return f"{_PREFIX}{scope}:{digest}"

    def get_here(self, key: str) -> bytes | None:
        """Return the payload under a key, if it is in memory."""
        frame = self._here.get(key)
        return None if frame is None else unseal(key, frame)

    async def get(self, key: str) -> bytes | None:
        """Return the payload under a key. What is found only in the shared tier is kept here too."""
        payload = self.get_here(key)
        if payload is not None or self._shared is None:
            return payload
        frame = await self._shared.get(key)
        payload = None if frame is None else unseal(key, frame)
        if frame is not None and payload is not None:
            self._here.put(key, frame)
        return payload

    def put_here(self, key: str, payload: bytes) -> None:
        """Keep a payload in memory alone, from any thread: one that is too large for other processes to ask for."""
        self._here.put(key, seal(key, payload))

    def put(self, key: str, payload: bytes) -> None:
        """Keep a payload, here and in the shared tier."""
        frame = seal(key, payload)
        self._here.put(key, frame)
        if self._shared is not None:
            self._shared.put(key, frame)


def open_cache(options: CacheOptions, observer: CacheObserver) -> TieredCache:
    """Make one cache for all models of a process, not yet started."""
    if not options.redis_url:
        return TieredCache(options.memory_bytes, observer=observer)
    from lensmesh_inference.cache.redis_tier import RedisTier  # its client is an extra

    shared = RedisTier(options.redis_url, ttl_s=options.redis_ttl_s, observer=observer)
    return TieredCache(options.memory_bytes, shared, observer)
