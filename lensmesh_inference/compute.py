"""On what the models of a process are computed, and how: the part of its settings that loading a model takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from lensmesh_inference.backends.folder import CompiledFolder, compiled_folder
from lensmesh_inference.devices import cpu_count
from lensmesh_inference.settings import ModelServiceSettings


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Fields as in settings, but `threads` are the CPU's, of all workers together. Compiled models lie in `folder`.

    `max_batch` is what towers may be compiled for.
    """

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 1
    max_batch: int = 32
    folder: CompiledFolder = field(default_factory=lambda: CompiledFolder(None))

    @classmethod
    def of(cls, settings: ModelServiceSettings) -> Self:
        """As a service was told."""
        return cls(
            device=settings.device,
            backend=settings.backend,
            precision=settings.precision,
            threads=settings.threads or cpu_count(),
            max_batch=settings.max_batch,
            folder=compiled_folder(settings.compiled_dir),
        )
