"""Client and command line without what only Unix has, and what commands say that need it."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lensmesh_cli.signals import first_signal
from tests.cli.in_process import lensmesh_here
from tests.support.meshes import Mesh, draw_images, environment

# Modules and names that Windows has not, and its event loops' answer to signal handlers. The libraries are loaded
# before: on Windows they have code of their own for it.
PROGRAM = """
import asyncio, asyncio.unix_events, importlib.abc, os, pathlib, pkgutil, shutil, signal, sys, tempfile
import click, grpc, numpy, PIL.Image, psutil, rich.console, rich.live, typer, typer.core, typer.rich_utils
import mcp.server.mcpserver, uvicorn

UNIX = {"crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix_ipc", "pty", "pwd", "readline", "resource",
        "spwd", "syslog", "termios", "tty"}

class Windows(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in UNIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def no_handler(*_):
    raise NotImplementedError

sys.meta_path.insert(0, Windows())
for name in UNIX & set(sys.modules):
    del sys.modules[name]
for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "fchmod", "fork", "getegid", "geteuid", "getgid", "getloadavg",
             "getpgid", "getuid", "killpg", "mkfifo", "sched_getaffinity", "setsid", "sysconf"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = no_handler
asyncio.unix_events._UnixSelectorEventLoop.remove_signal_handler = no_handler

import lensmesh_cli, lensmesh_client
from lensmesh_cli.main import run

# All but what only a command that starts a mesh imports.
STARTS_A_MESH = ("lensmesh_cli.__main__", "lensmesh_cli.demo.run", "lensmesh_cli.local")
for package in (lensmesh_client, lensmesh_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in STARTS_A_MESH:
            __import__(module.name)
for arguments in __import__("json").loads(sys.argv[1]):
    code = run(arguments)
    assert code == 0, (arguments, code)
    print("--", flush=True)
assert not UNIX & set(sys.modules), UNIX & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("lensmesh_local")]
"""


def test_commands_run_without_what_only_unix_has(mesh: Mesh, tmp_path: Path) -> None:
    [image] = draw_images(tmp_path / "images", 1)
    to = ["--target", mesh.target]
    there = ["--collection", "elsewhere", *to]
    commands = [
        ["version"],
        ["status", *to],
        ["ingest", str(image.parent), *there],
        ["search", "a cat", *there],
        ["search", "--image", str(image), "--json", *there],
        ["embed", str(image), "--output", str(tmp_path / "vectors.npy"), *to],
        ["caption", str(image), *to],
        ["smoke", *to],
        ["bench", "--texts", "--modes=unary", "--concurrency=1", "--rates=none", "--seconds=0.1", "--warm=0", *to],
        ["top", "--once", "--data", str(mesh.data)],
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(commands)],
        env=environment(XDG_STATE_HOME=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("--\n") == len(commands)
    assert "p0000" in done.stdout


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_mesh_on_windows_is_refused_in_one_sentence(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensmesh_cli.options.sys", SimpleNamespace(platform="win32"))
    done = lensmesh_here(command, "--mock")
    assert done.code == 1
    assert done.err.splitlines() == [
        f"error: lensmesh {command} starts a mesh, and Windows runs none: use WSL2, or containers (docker compose up), "
        "and the other commands from here"
    ]


async def test_a_signal_is_heard_by_an_event_loop_that_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", none)
    monkeypatch.setattr(loop, "remove_signal_handler", none)
    before = signal.getsignal(signal.SIGTERM)
    asked = asyncio.Event()
    with first_signal(asked.set):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(asked.wait(), 30)
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before
