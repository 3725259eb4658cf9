"""The cache that the settings ask for."""

from __future__ import annotations

from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.cache.outcome import CacheObserver
from lensmesh_inference.settings import ModelServiceSettings


def open_cache(settings: ModelServiceSettings, observer: CacheObserver) -> Cache:
    """One cache for all models of a process, not yet started."""
    url = settings.redis_url.get_secret_value()
    if not url:
        return Cache(settings.cache_bytes, observer=observer)
    from lensmesh_inference.cache.redis_level import RedisLevel  # its client is an extra

    shared = RedisLevel(url, ttl_s=settings.redis_ttl_seconds, observer=observer)
    return Cache(settings.cache_bytes, shared, observer)
