"""Supervisor of a mesh on this machine: a database and five services, each a process that is kept running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import DIRECT, OWN_CONNECTIONS
from lensmesh_chassis.contract import HTTP_PORT, PORTS
from lensmesh_chassis.process.addresses import ListenAddress, parse_addresses
from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_local import jaeger, ports
from lensmesh_local.lock import DataFolderError, FolderLock
from lensmesh_local.process import POLL_S, Managed, Say, Spec, StartError

if TYPE_CHECKING:  # it needs an extra
    from lensmesh_local.sidecars.local import LocalSidecars

HTTP = "http"
PORT_OFFSETS = {name: port - PORTS["router"] for name, port in (*PORTS.items(), (HTTP, HTTP_PORT))}
"""Added to the first port, which is the router's."""
LOCAL = "127.0.0.1"
ALL_SERVE_S = 60.0


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """Options of what to start and where."""

    data: Path
    """Folder of the database, the logs and the lock; made where it is missing."""
    host: str = "127.0.0.1"
    """Address at which the router and the front door listen; what lies behind them is for this machine alone."""
    port: int = PORTS["router"]
    """The router's; the others follow. 0: free ports."""
    model: str = ""
    encoders: int = 1
    """Processes of the encoder, each with the model of its own. All but the first take free ports."""
    caption_model: str = ""
    store_url: str = ""
    """A store of the caller's own; empty: an embedded PostgreSQL in `data`."""
    environment: Mapping[str, str] | None = None
    """More settings of the services."""
    sidecars: bool = False
    """An Envoy beside each service: callers and services meet by mutual TLS."""
    thumbnails: bool = False
    """True where the router keeps them in `data`, unless its settings name another place."""
    jaeger: Path | None = None
    """The program of a Jaeger that gets the traces; None starts none."""
    http: bool = True
    """The front door as well: the page, and the mesh by HTTP."""


class Supervisor:
    """A whole mesh: started when entered, drained in reverse order when left. `say` is told what happens, in words."""

    def __init__(self, options: MeshOptions, say: Say) -> None:
        self._options = options
        self._say = say
        self._data = options.data.expanduser().resolve()
        self._lock = FolderLock(self._data)
        self._environment = dict(options.environment or {})
        self.processes: dict[str, Managed] = {}
        self._sidecars: LocalSidecars | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self._data

    @property
    def router(self) -> str:
        """Address of the router, "host:port"."""
        return self.address("router")

    @property
    def security(self) -> ChannelSecurity | None:
        """Credentials that it takes to call the router: certificates with sidecars, nothing without."""
        return self._sidecars.client if self._sidecars else None

    def address(self, name: str) -> str:
        """Return "host:port" of a service, or of the Envoy before it. No Envoy stands before the front door."""
        return self._sidecars.address(name) if self._sidecars and name != HTTP else self._own(name)

    @property
    def jaeger(self) -> str:
        """Address of Jaeger's page and query API; "" where none runs."""
        return str(self.processes["jaeger"].ready["ui"]) if "jaeger" in self.processes else ""

    @property
    def page(self) -> str:
        """Address of the page in a browser; "" where there is no front door."""
        if HTTP not in self.processes:
            return ""
        scheme = "https" if os.environ.get("LENSMESH_HTTP_TLS_CERTIFICATE_FILE") else "http"
        return f"{scheme}://{self.address(HTTP)}/"

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that were started, the router's first."""
        names = ("router", *self._encoders, "caption", "search", HTTP)
        return tuple(name for name in names if name in self.processes)

    @property
    def _encoders(self) -> tuple[str, ...]:
        return ("encoder", *(f"encoder-{number}" for number in range(2, self._options.encoders + 1)))

    def _own(self, name: str) -> str:
        bound = str(self.processes[name].ready["addresses"][0])
        return bound.replace("0.0.0.0:", f"{LOCAL}:").replace("[::]:", f"{LOCAL}:")

    def addresses(self) -> dict[str, str]:
        """Return all addresses by name, the database's URI included."""
        found = {name: self.address(name) for name in self.services}
        if "database" in self.processes:
            found["database"] = str(self.processes["database"].ready["uri"])
        if self.jaeger:
            found["jaeger"], found["otlp"] = self.jaeger, str(self.processes["jaeger"].ready["otlp"])
        if self.page:
            found["page"] = self.page
        return found

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Drain and stop everything, callers first.

        The front door goes first, then the router, what it calls, the Envoys between them, and what they use.
        """
        envoys = tuple(name for name in self.processes if name.endswith("-envoy"))
        services = (HTTP,), ("router",), ("search", "caption", *self._encoders)
        for names in (*services, envoys, ("database",), ("jaeger",)):
            running = [self.processes[name] for name in names if name in self.processes]
            await asyncio.gather(*(process.stop() for process in running))
        await self._leave()

    async def kill(self) -> None:
        """End everything at once, without a drain.

        The database is stopped in good order: it is quick, and it holds data.
        """
        services = [process for name, process in self.processes.items() if name != "database"]
        await asyncio.gather(*(process.kill() for process in services))
        if "database" in self.processes:
            await self.processes["database"].stop()
        await self._leave()

    async def _leave(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._sidecars is not None:
            self._sidecars.close()
        self._lock.release()

    async def start(self) -> None:
        """Start everything and wait until all serve.

        Raises StartError and DataFolderError; `stop` has to be called in any case.
        """
        for folder in (self._data, self._data / "logs", self._data / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        await self._lock.take()
        # Of a mesh that was killed, with more encoders than this one.
        for left in (self._data / "run").glob("encoder-[0-9]*.json"):
            left.unlink()
        if unusable := ports.taken(self._wanted_ports()):
            raise StartError("\n".join(unusable))
        if self._options.sidecars:
            await self._prepare_sidecars()
        if self._options.jaeger is not None:
            folders = self._data / "run", self._data / "logs"
            told = await self._add(jaeger.spec(self._options.jaeger, *folders, free_ports=not self._options.port))
            self._environment |= jaeger.environment(told)
        store = self._options.store_url
        database = None if store else asyncio.create_task(self._add(self._database()))
        models = [
            *(asyncio.create_task(self._serve(name, {"MODEL": self._options.model})) for name in self._encoders),
            asyncio.create_task(self._serve("caption", {"MODEL": self._options.caption_model})),
        ]
        tasks = [*models, *([database] if database else [])]
        try:
            if database is not None:
                store = str((await database)["uri"])
            search = asyncio.create_task(self._serve("search", {"STORE_URL": store}))
            tasks.append(search)
            await asyncio.gather(*models, search)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._sidecars is None:
            behind = {"encoder": self._encoders, "caption": ("caption",), "search": ("search",)}
            targets = {kind: ",".join(self._own(name) for name in names) for kind, names in behind.items()}
            told = {f"{kind.upper()}_TARGETS": those for kind, those in targets.items()}
            await self._serve("router", {**told, **self.media()})
        else:
            await self._serve("router", {**self._sidecars.settings("router"), **self.media()})
            # The router came before its Envoy, and has met nobody yet.
            await self._until_all_serve()
        if self._options.http:
            await self._add(self._service(HTTP, self._door()))

    def media(self) -> Mapping[str, str]:
        """Return the setting of where the router keeps thumbnails: what the environment says, that empty, too."""
        said = "LENSMESH_ROUTER_MEDIA_URL" in {**os.environ, **self._environment}
        return {"MEDIA_URL": str(self._data / "media")} if self._options.thumbnails and not said else {}

    def _wanted_ports(self) -> Iterator[tuple[str, ListenAddress, str]]:
        """Yield who will listen where, and by which setting. The ports of Envoys are reserved as they are chosen."""
        for name, added in PORT_OFFSETS.items():
            if name == HTTP and not self._options.http:
                continue
            port = self._options.port and self._options.port + added
            yield f"the {name} service", ListenAddress(self._host(name), port), "--port, or use --free-ports"
            for setting in ("METRICS_LISTEN", "HEALTH_LISTEN"):
                variable = f"LENSMESH_{name.upper()}_{setting}"
                # One that cannot be read is refused by its service, in its own words.
                with contextlib.suppress(ValueError):
                    for address in parse_addresses(os.environ.get(variable, "")):
                        yield f"the {name} service", address, variable
        if self._options.jaeger is not None and self._options.port:
            for port in (jaeger.QUERY_PORT, jaeger.OTLP_PORT):
                yield "jaeger", ListenAddress(LOCAL, port), "--free-ports"

    def _host(self, name: str) -> str:
        # Where there is an Envoy, nothing but it is for other machines.
        return self._options.host if name in ("router", HTTP) and not self._options.sidecars else LOCAL

    def _door(self) -> Mapping[str, str]:
        """Return the settings by which the front door calls the router: as any client does."""
        settings = {"ROUTER_TARGET": self.router}
        if self.jaeger and not os.environ.get("LENSMESH_HTTP_TRACE_URL"):
            settings["TRACE_URL"] = f"{self.jaeger}/trace"
        if self.security is not None:
            settings["PEER_CA_FILE"] = self.security.ca_file
            settings["PEER_CERTIFICATE_FILE"] = self.security.certificate_file
            settings["PEER_KEY_FILE"] = self.security.key_file
        elif os.environ.get("LENSMESH_ROUTER_TLS_CERTIFICATE_FILE") and not os.environ.get(
            "LENSMESH_HTTP_PEER_CA_FILE"
        ):
            self._say("the router speaks TLS: set LENSMESH_HTTP_PEER_CA_FILE, or the page does not reach it")
        return settings

    async def _prepare_sidecars(self) -> None:
        from lensmesh_local.sidecars.local import LocalSidecars

        ports = {name: self._options.port and self._options.port + PORT_OFFSETS[name] for name in PORTS}
        self._sidecars = LocalSidecars(self._data, ports, self._options.host)
        self._sidecars.prepare()
        self._renewal = asyncio.create_task(self._sidecars.renew_forever())

    async def _serve(self, name: str, settings: Mapping[str, str]) -> None:
        """Start a service, and its Envoy."""
        await self._add(self._service(name, settings))
        if self._sidecars is not None:
            await self._add(self._sidecars.spec(name, self._own(name)))

    async def _until_all_serve(self) -> None:
        async with grpc.aio.insecure_channel(self._own("router"), [DIRECT, OWN_CONNECTIONS]) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            reasons = ["it does not answer"]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALL_SERVE_S):
                    while reasons:
                        with contextlib.suppress(grpc.RpcError):
                            status = await stub.GetStatus(router_pb2.GetStatusRequest(), timeout=10)
                            reasons = [
                                f"{service.name}: {service.reason}"
                                for service in status.services
                                if service.health != router_pb2.HEALTH_SERVING
                            ]
                        await asyncio.sleep(POLL_S)
        if reasons:
            raise StartError("the router does not reach its neighbours through the Envoys: " + "; ".join(reasons))

    async def _add(self, spec: Spec) -> Mapping[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            spec.log_file.replace(spec.log_file.with_suffix(".old.log"))
        self.processes[spec.name] = Managed(spec, self._say, self._lock.descriptors)
        return await self.processes[spec.name].start()

    def _database(self) -> Spec:
        ready = self._data / "run" / "database.json"
        return Spec(
            name="database",
            module="lensmesh_local.database",
            arguments=(str(self._data / "postgres"), str(ready)),
            ready_file=ready,
            log_file=self._data / "logs" / "database.log",
            # After a crash the old server's processes may still hold its memory for a moment.
            attempts=5,
        )

    def _service(self, name: str, settings: Mapping[str, str]) -> Spec:
        kind, _, number = name.partition("-")
        prefix = f"LENSMESH_{kind.upper()}_"
        port = self._options.port + PORT_OFFSETS[kind] if self._options.port and not number else 0
        ready = self._data / "run" / f"{name}.json"
        # An address of a caller's choice is the first one's.
        metrics = "" if number else os.environ.get(f"{prefix}METRICS_LISTEN")
        own = {
            "LISTEN": f"{self._host(name)}:{port}",
            "METRICS_LISTEN": metrics or f"{LOCAL}:0",
            "INSTANCE": f"{os.environ.get(f'{prefix}INSTANCE') or socket.gethostname()}-{number}" if number else "",
            "READY_FILE": str(ready),
            "LOG_FORMAT": "console",
            **settings,
        }
        if kind == HTTP:
            own["HEALTH_LISTEN"] = os.environ.get(f"{prefix}HEALTH_LISTEN") or f"{LOCAL}:0"
        elif os.environ.get(f"{prefix}TLS_CERTIFICATE_FILE") or number:
            # Health is asked in plain text, and no two processes have one address.
            own["HEALTH_LISTEN"] = f"{LOCAL}:0"
        return Spec(
            name=name,
            module=f"{kind}_svc",
            environment={
                # Waiting OpenMP threads spin. Two model services share these cores, and each would burn what the other
                # needs: a tenth of the throughput, or less, was left where a third process was busy too.
                "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
                # Colours belong on a terminal; these logs are files.
                "NO_COLOR": "1",
                **self._environment,
                **{prefix + key: value for key, value in own.items() if value},
            },
            ready_file=ready,
            log_file=self._data / "logs" / f"{name}.log",
            serving=serves,
            pin=lambda ready: {
                f"{prefix}LISTEN": ",".join(ready["addresses"]),
                f"{prefix}METRICS_LISTEN": ready["metrics"],
            },
            restarts=f"{prefix}RESTARTS",
        )


async def serves(ready: Mapping[str, Any]) -> bool:
    """Tell whether grpc.health.v1 at the first address says SERVING."""
    health = ready.get("health") or ready["addresses"][0]
    async with grpc.aio.insecure_channel(str(health), [DIRECT, OWN_CONNECTIONS]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


__all__: Sequence[str] = ("DataFolderError", "MeshOptions", "StartError", "Supervisor")
