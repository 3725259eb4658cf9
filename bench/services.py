"""Services and their database as `lensmesh up` starts them: as processes that say when they are ready.

All are ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lensmesh_local.process import Managed, Spec
from lensmesh_local.supervisor import serves

LOCAL = "127.0.0.1:0"
START_S = 900.0
# As `lensmesh up` sets it: a waiting OpenMP thread must not spin on a core that another process needs.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}


class Running:
    """A process that is kept running, by its spec."""

    def __init__(self, spec: Spec) -> None:
        self.name = spec.name
        self._managed = Managed(spec, print)

    async def start(self) -> None:
        """Start the process and wait until it serves. Raises StartError with the end of its log."""
        await self._managed.start()

    async def stop(self) -> None:
        """Drain and end the process."""
        await self._managed.stop()


class Service(Running):
    """A service. `settings` are named as in docs/settings.md, without the prefix; `environment` is for all else."""

    def __init__(
        self,
        kind: str,
        name: str,
        folder: Path,
        settings: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        prefix, ready = f"LENSMESH_{kind.upper()}_", folder / f"{name}.json"
        own = {
            "LISTEN": LOCAL,
            "METRICS_LISTEN": LOCAL,
            "READY_FILE": str(ready),
            "LOG_FORMAT": "console",
            "INSTANCE": name,
            **settings,
        }
        super().__init__(
            Spec(
                name=name,
                module=f"{kind}_svc",
                environment={
                    "NO_COLOR": "1",
                    **PASSIVE,
                    **(environment or {}),
                    **{prefix + key: value for key, value in own.items()},
                },
                ready_file=ready,
                log_file=folder / f"{name}.log",
                serving=serves,
                start_s=START_S,
            )
        )

    @property
    def address(self) -> str:
        """The address at which it serves."""
        return str(self._managed.ready["addresses"][0])

    @property
    def metrics(self) -> str:
        """The address of its metrics."""
        return str(self._managed.ready["metrics"])

    @property
    def pid(self) -> int:
        """The id of the process that runs now."""
        pid = self._managed.pid
        assert pid is not None
        return pid

    @property
    def memory_bytes(self) -> int:
        """The resident memory."""
        return self._managed.memory_bytes()

    @property
    def restarts(self) -> int:
        """The number of times that it had to be started again. Any restart spoils a measurement."""
        return self._managed.restarts

    @property
    def log(self) -> Path:
        """The file of its log."""
        return self._managed.spec.log_file


class Database(Running):
    """An embedded PostgreSQL with pgvector, durable."""

    def __init__(self, name: str, folder: Path) -> None:
        ready = folder / f"{name}.json"
        super().__init__(
            Spec(
                name=name,
                module="lensmesh_local.database",
                arguments=(str(folder / name), str(ready)),
                ready_file=ready,
                log_file=folder / f"{name}.log",
            )
        )

    @property
    def uri(self) -> str:
        """The address at which it takes connections."""
        return str(self._managed.ready["uri"])

    @property
    def pid(self) -> int:
        """The id of PostgreSQL's first process, which starts one for each connection."""
        return int(self._managed.ready["postmaster_pid"])
