"""A process of a local mesh: started, waited for, started again when it ends, and drained on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lensmesh_chassis.process.exit import GIVEN_UP

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
# A process that served this long has recovered: its next end is a first one again.
STABLE_S = 60.0
POLL_S = 0.1
LOG_TAIL_LINES = 12

Say = Callable[[str], None]


class StartError(Exception):
    """A process ended, or did not become ready, before it had ever served. The message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Description of what to run, and when it counts as ready."""

    name: str
    module: str
    ready_file: Path
    log_file: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    serving: Callable[[Mapping[str, Any]], Awaitable[bool]] | None = None
    """Asked again and again with what the ready file says; None: the file itself says it all."""
    pin: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    """Environment that brings a restarted process to the address where it was."""
    restarts: str = ""
    """Name of the environment variable that tells a process how often it was started again; "": none."""
    start_s: float = 300.0
    attempts: int = 1
    """Starts that may fail before the first success."""
    drain_s: float = 40.0


class Managed:
    """A process that runs a Spec, and is kept running. `fds` are kept open in the child."""

    def __init__(self, spec: Spec, say: Say, fds: tuple[int, ...] = ()) -> None:
        self.spec = spec
        self._say = say
        self._fds = fds
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._environment = dict(spec.environment)
        self._stopping = False
        self.ready: Mapping[str, Any] = {}
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process number of the process that runs now, or None."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; of the database, of all its server processes together."""
        total = 0
        for pid in {self.pid, self.ready.get("postmaster_pid")} - {None}:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                total += sum(_own_memory(member) for member in family)
        return total

    async def start(self) -> Mapping[str, Any]:
        """Start the process and wait until it serves; from then on it is kept running. Raises StartError."""
        for left in reversed(range(self.spec.attempts)):
            await self._spawn()
            try:
                await self._until_serving()
                break
            except StartError:
                await self.kill()
                if not left:
                    raise
                await asyncio.sleep(FIRST_DELAY_S)
        self._keeper = asyncio.create_task(self._keep())
        return self.ready

    async def stop(self) -> None:
        """Send SIGTERM and leave time to drain; send SIGKILL where that does not help."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.spec.drain_s)
            except TimeoutError:
                self._say(f"{self.spec.name} did not end within {self.spec.drain_s:g} s: killed")
        await self.kill()

    async def kill(self) -> None:
        """End the process at once."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.pid is not None and self._process is not None:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        self._stopping = False

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)

    async def _spawn(self) -> None:
        self.spec.ready_file.unlink(missing_ok=True)
        with self.spec.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a torch.py in the user's folder is not torch
                "-m",
                "lensmesh_local.child",
                self.spec.module,
                *self.spec.arguments,
                env={**os.environ, **self._environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=self._fds,
                # Ctrl-C in the terminal is the supervisor's to handle.
                start_new_session=True,
            )

    async def _until_serving(self) -> None:
        """Wait for the ready file of this very process, then for its service."""
        assert self._process is not None
        try:
            async with asyncio.timeout(self.spec.start_s):
                while not self._read_ready() or (
                    self.spec.serving is not None and not await self.spec.serving(self.ready)
                ):
                    if self._process.returncode is not None:
                        raise StartError(f"{self.spec.name} {how_it_ended(self._process.returncode)}\n{self.tail()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise StartError(f"{self.spec.name} was not ready within {self.spec.start_s:g} s\n{self.tail()}") from None
        if self.spec.pin is not None:
            self._environment.update(self.spec.pin(self.ready))

    def _read_ready(self) -> bool:
        try:
            content = json.loads(self.spec.ready_file.read_text())
        except (OSError, ValueError):
            return False
        if content.get("pid") != self.pid:
            return False
        self.ready = content
        return True

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self.spec.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join([*lines[-LOG_TAIL_LINES:], f"(the whole log: {self.spec.log_file})"])

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        told = ""
        while self._process is not None:
            began = loop.time()
            code = await self._process.wait()
            if self._stopping:
                return
            failures = 0 if loop.time() - began > STABLE_S else failures
            delay = min(FIRST_DELAY_S * 2**failures, LONGEST_DELAY_S)
            failures += 1
            self.restarts += 1
            if self.spec.restarts:
                self._environment[self.spec.restarts] = str(self.restarts)
            self._say(f"{self.spec.name} {how_it_ended(code)}; it is started again in {delay:g} s")
            await asyncio.sleep(delay)
            await self._spawn()
            try:
                await self._until_serving()
                self._say(f"{self.spec.name} serves again")
                told = ""
            except StartError as error:
                # The end of its log is worth reading once, not at each of many starts that fail alike.
                how, _, _ = str(error).partition("\n")
                if how != told:
                    self._say(str(error))
                told = how
                if self.pid is not None:
                    self._signal(signal.SIGKILL)


def how_it_ended(code: int) -> str:
    """Say how a process ended: "ended with code 1", "was killed by SIGKILL"."""
    if code == GIVEN_UP:
        return f"gave up, as its log says, with code {code}"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _own_memory(process: psutil.Process) -> int:
    """Return the memory that would be free without the process.

    PostgreSQL's processes share most of what each one maps.
    """
    with contextlib.suppress(psutil.Error):
        if process.name() == "postgres":
            return int(process.memory_full_info().uss)
        return int(process.memory_info().rss)
    return 0
