"""The options of the inference package, independent of any service: one small frozen class for each part of it.

A service makes them from its settings; an offline job makes them itself. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.images.limits import DecodeCosts, ImageLimits


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """The options of computation for the models of a process.

    `device`, `backend` and `precision` are words as in a service's settings. `threads` are the CPU's, of all workers
    together. Compiled models lie in `folder`. `max_batch` is the batch size that towers may be compiled for.
    """

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 1
    max_batch: int = 32
    folder: CompiledFolder = field(default_factory=lambda: CompiledFolder(None))


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """The options of decoding: the limits of an image, its cost, and the number of threads and processes.

    `threads` 0: as many as keep the decoder busy. `processes` -1: as `choose_processes` says. With `scaled`, a large
    JPEG image is decoded at a part of its size.
    """

    limits: ImageLimits = field(default_factory=ImageLimits)
    costs: DecodeCosts = field(default_factory=DecodeCosts)
    threads: int = 0
    processes: int = -1
    scaled: bool = True


@dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """The options of one model's queue and its batches.

    A batch has at most `max_batch` items. Each lane holds at most `max_queue_items` and `max_queue_bytes`, and admits
    no call that would wait for longer than `max_wait_s`. A bulk batch that is not full waits up to `linger_s` for items
    that are being prepared; interactive ones never wait. While interactive items come, a bulk batch is no larger than
    what takes `bulk_batch_s`.
    """

    max_batch: int = 32
    max_queue_items: int = 2048
    max_queue_bytes: int = 1024**3
    max_wait_s: float = math.inf
    linger_s: float = 0.0
    bulk_batch_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class HealthOptions:
    """The options of the watch over models.

    Each model is asked its canary every `canary_s` (0: only at start) and has `canary_timeout_s` to answer. A batch has
    hung if it is in its device for longer than `hang_s` and for several times longer than predicted (`hang_s` 0:
    never).
    """

    canary_s: float = 60.0
    canary_timeout_s: float = 120.0
    hang_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """The options of the cache: `memory_bytes` of this process, and the Redis at `redis_url`; "": no Redis.

    What lies in the Redis expires after `redis_ttl_s`; 0: never.
    """

    memory_bytes: int = 0
    redis_url: str = field(default="", repr=False)
    redis_ttl_s: int = 0
