"""Runs the command within the test's own process: a tenth of the time of a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensmesh_cli.main import run


@dataclass(frozen=True)
class Done:
    """What one run of the command did."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def _settings(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("LENSMESH_")]:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def lensmesh_here(*arguments: str | Path, **settings: str) -> Done:
    """One run, with these environment variables and none of the developer's own of lensmesh."""
    out, err = io.StringIO(), io.StringIO()
    with (
        _settings({"COLUMNS": "200", **settings}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run([str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class User:
    """Somebody who uses a mesh from a state folder of their own."""

    target: str
    state: Path

    def run(self, *arguments: str | Path, **settings: str) -> Done:
        """One run of the command against the mesh."""
        return lensmesh_here(*arguments, LENSMESH_TARGET=self.target, XDG_STATE_HOME=str(self.state), **settings)

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """What it prints with --json."""
        done = self.run(*arguments, "--json")
        assert done.code == code, done.out + done.err
        return json.loads(done.out)
