"""What the inference package can be told, apart from any service: one small frozen class for each part of it.

A service makes these of its settings; an offline job makes them itself. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.images.limits import DecodeCosts, ImageLimits


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """On what the models of a process are computed, and how.

    `device`, `backend` and `precision` are words as a service's settings have them; `threads` are the CPU's, of all
    workers together. Compiled models lie in `folder`. `max_batch` is what towers may be compiled for.
    """

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 1
    max_batch: int = 32
    folder: CompiledFolder = field(default_factory=lambda: CompiledFolder(None))


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How images are decoded: what one may be, what it may cost, and by how many.

    `threads` 0: as many as keep the decoder busy; `processes` -1: as `choose_processes` says. With `scaled`, a large
    JPEG image is decoded at a part of its size.
    """

    limits: ImageLimits = field(default_factory=ImageLimits)
    costs: DecodeCosts = field(default_factory=DecodeCosts)
    threads: int = 0
    processes: int = -1
    scaled: bool = True


@dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """One model's queue and its batches.

    A batch has at most `max_batch` items. Each lane holds at most `max_queue_items` and `max_queue_bytes`, and lets no
    call in that would wait for longer than `max_wait_s`. A bulk batch that is not full waits up to `linger_s` for items
    that are being prepared; interactive ones never wait. While interactive items come, a bulk batch is no larger than
    takes `bulk_batch_s`.
    """

    max_batch: int = 32
    max_queue_items: int = 2048
    max_queue_bytes: int = 1024**3
    max_wait_s: float = math.inf
    linger_s: float = 0.0
    bulk_batch_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class HealthOptions:
    """How models are watched.

    Each is asked its canary every `canary_s` (0: only at start) and has `canary_timeout_s` to answer. A batch that is
    in its device for longer than `hang_s`, and than several times what was predicted, has hung (0: never).
    """

    canary_s: float = 60.0
    canary_timeout_s: float = 120.0
    hang_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where results are kept: in `memory_bytes` of this process, and in the Redis at `redis_url`; "": in none.

    What lies in the Redis expires after `redis_ttl_s`; 0: never.
    """

    memory_bytes: int = 0
    redis_url: str = field(default="", repr=False)
    redis_ttl_s: int = 0
