"""The services and workers of one run of the benchmark. All of them are ended when the stage is left."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.bare.echo import loop_of
from bench.services import PASSIVE, Database, Running, Service
from bench.worker import Worker

# The model is measured, not what is remembered of it.
NO_CACHE = {"CACHE_BYTES": "0"}

ROOT = Path(__file__).resolve().parents[1]
# For interpreters where the project is not installed.
SOURCES = f"{ROOT}:{ROOT / 'gen'}"


@dataclass(frozen=True, slots=True)
class Options:
    """The options that a person chose."""

    model: str = "ViT-B-32/random"
    """The model, as in LENSMESH_ENCODER_MODEL."""
    reference: str = ""
    """The model that open_clip itself loads, if it is another; "": the same."""
    rounds: int = 3
    seconds: float = 15.0
    warm: float = 6.0
    batch: int = 32
    """Images in one EncodeImages call."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings of the Encoder, for the services and the in-process limit alike."""
    peers: bool = True
    against: str = ""
    """The folder of another checkout, whose services are measured beside this one's."""
    smoke: bool = False


class Stage:
    """Services and workers, started as cases ask for them. Each is started once, by its name."""

    def __init__(self, folder: Path, images: Path, options: Options) -> None:
        self.folder = folder
        self.images = images
        self.options = options
        self._running: dict[str, Running] = {}
        self._workers: dict[str, Worker] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Callers first, databases last.
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        for these in (Service, Database):
            await asyncio.gather(*(one.stop() for one in self._running.values() if isinstance(one, these)))

    @property
    def encoder_settings(self) -> dict[str, str]:
        """The settings that the service and the limit share."""
        return {"MODEL": self.options.model, **NO_CACHE, **self.options.settings}

    async def encoder(self, name: str = "encoder", **settings: str) -> Service:
        """Start an Encoder."""
        return await self.service("encoder", name, {**self.encoder_settings, **settings})

    async def captioner(self, name: str = "captioner", **settings: str) -> Service:
        """Start a Captioner."""
        return await self.service("caption", name, {**NO_CACHE, **settings})

    async def router(self, encoder: Service, name: str = "router") -> Service:
        """Start a Router with one Encoder behind it and no other service."""
        targets = {"ENCODER_TARGETS": encoder.address, "CAPTION_TARGETS": "", "SEARCH_TARGETS": ""}
        return await self.service("router", name, targets)

    async def caller(self, service: Service, number: int = 0) -> Worker:
        """Start a caller of the models at that service. Several callers have numbers."""
        name = f"caller-{service.name}-{number}"
        return await self.worker(name, "bench.workers.client", str(self.images), service.address)

    async def limit(self, name: str = "limit", **settings: str) -> Worker:
        """Start the worker of the in-process limit."""
        environment = self._encoder_environment(settings)
        return await self.worker(name, "bench.workers.limit", str(self.images), environment=environment)

    async def tower(self) -> Worker:
        """Start the worker of the tower that costs nothing. It makes it, in the folder of the chosen model."""
        return await self.worker("tower", "bench.bare.forward", environment=self._encoder_environment({}))

    async def open_clip(self, precision: str = "float32") -> Worker:
        """Start the worker that uses open_clip as everyone writes it."""
        model = self.options.reference or self.options.model
        arguments = (str(self.images), model, precision)
        return await self.worker(f"open_clip-{precision}", "bench.workers.openclip", *arguments)

    async def peer(self, kind: str, python: str, *, equal: bool) -> Worker:
        """Start another server and its caller: as documented, or with our backend and precision."""
        reference = self.options.reference or self.options.model
        name = f"{kind}-equal" if equal else kind
        return await self.worker(
            name,
            "bench.peers.client",
            *(kind, str(self.images), "equal" if equal else reference, str(self.options.batch)),
            environment={**self._encoder_environment({"MODEL": reference}), "PYTHONPATH": SOURCES},
            python=python,
        )

    def _encoder_environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {f"LENSMESH_ENCODER_{key}": value for key, value in {**self.encoder_settings, **settings}.items()}

    async def service(
        self, kind: str, name: str, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> Service:
        """Start any service."""
        found = self._running.get(name)
        if not isinstance(found, Service):
            self._running[name] = found = Service(kind, name, self.folder, settings, environment)
            await found.start()
        return found

    async def database(self, name: str = "database") -> Database:
        """Start a PostgreSQL."""
        found = self._running.get(name)
        if not isinstance(found, Database):
            self._running[name] = found = Database(name, self.folder)
            await found.start()
        return found

    async def echo(self, like: Service) -> Worker:
        """Start a bare echo on the kind of event loop that this service has."""
        kind = loop_of(like.pid)
        return await self.worker(f"echo-{kind}", "bench.bare.echo", kind)

    async def worker(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> Worker:
        """Start any other worker."""
        if name not in self._workers:
            worker = Worker(
                module,
                arguments,
                log=self.folder / f"{name}.log",
                environment={**PASSIVE, **(environment or {})},
                python=python,
            )
            self._workers[name] = worker
            await worker.start()
        return self._workers[name]
