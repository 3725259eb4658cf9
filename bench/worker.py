"""A process that measures, or is measured, on request: JSON lines in, JSON lines out.

It uses the standard library only, because the peers' own environments run it too.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

Asked = Mapping[str, Any]
Handler = Callable[[Asked], Any]
_LIMIT = 1 << 24
_TAIL_LINES = 15


class WorkerError(Exception):
    """A worker could not do what it was asked. The message holds its own words, or the end of its log."""


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer `{"do": NAME, ...}` by the handler of that name until standard input ends. It runs in the worker.

    What libraries print goes to standard error.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        _say(answers, {"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                _say(answers, {"answer": handlers[asked["do"]](asked)})
            except Exception:  # noqa: BLE001 - said to who asked
                _say(answers, {"error": traceback.format_exc()})


def _say(answers: Any, message: Asked) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


class Worker:
    """A worker as its parent sees it. `module` is run by `python`; its log is appended to `log`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._command = (python, "-m", module, *arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *, timeout_s: float = 600.0) -> Self:
        """Start the worker, and wait until it says that it is ready: a model is loaded by then."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                limit=_LIMIT,
            )
        await self._line(timeout_s)
        return self

    async def ask(self, what: str, *, timeout_s: float = 600.0, **arguments: Any) -> Any:
        """Return the answer to one request. Raises WorkerError."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        message = await self._line(timeout_s)
        if "error" in message:
            raise WorkerError(f"{self._command[2]} could not {what}:\n{message['error']}")
        return message["answer"]

    async def stop(self, *, timeout_s: float = 30.0) -> None:
        """Close the worker's input and wait for its end. Kill it if it does not end."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _line(self, timeout_s: float) -> Asked:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise WorkerError(f"{self._command[2]} said nothing for {timeout_s:g} s\n{self._tail()}") from None
        if not line:
            raise WorkerError(f"{self._command[2]} ended\n{self._tail()}")
        message: Asked = json.loads(line)
        return message

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
