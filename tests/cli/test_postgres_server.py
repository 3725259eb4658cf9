"""The embedded PostgreSQL: nobody else gets in, no folder's mode changes, and every user of a machine can have one."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lensmesh_local.postgres import folders, memory
from lensmesh_local.postgres.folders import runtime_base, socket_folder
from lensmesh_local.postgres.programs import programs
from lensmesh_local.postgres.user import CannotStart, PostgresUser
from tests.support.meshes import PATIENCE_S

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="another user of the machine is tried as root alone")
NOBODY = 65534
# Imports before it becomes another user: the interpreter may lie in root's own folder.
AS_USER = """
import os, subprocess, sys, importlib.util, runpy, encodings.idna, encodings.ascii, traceback, asyncio
import lensmesh_local.database as database
uid = int(sys.argv.pop(1))
if uid: os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
database.main()
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the other user. Not one of pytest's: those lie below folders that are root's alone."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-theirs-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.mark.parametrize(
    ("memory_gb", "limit_gb", "share"),
    [(8, 0, "2048MB"), (64, 0, "2048MB"), (4, 0, "1024MB"), (64, 1, "256MB"), (0.25, 0, "128MB")],
)
def test_a_quarter_of_the_memory_is_for_pages(
    memory_gb: float, limit_gb: int, share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=int(memory_gb * (1 << 30))))
    monkeypatch.setattr(memory, "container_limit_bytes", lambda: limit_gb << 30)
    assert memory.shared_buffers() == share


@contextmanager
def database(folder: Path, uid: int = 0) -> Iterator[dict[str, Any]]:
    """An embedded database as `lensmesh up` starts it, run by that user; gives its ready file's content."""
    ready = folder.parent / f"{folder.name}.ready"
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", AS_USER, str(uid), str(folder), str(ready)], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + PATIENCE_S
        while not ready.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert ready.exists(), Path(log.name).read_text()
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def ask(uri: str, uid: int = 0, statement: str = "SELECT current_user", folder: Path = Path("/")) -> str:
    """What psql of that user, started in a folder, gets to know, or why not."""
    user: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
    command = [str(programs() / "psql"), uri, "-Atc", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **user)
    said: str = done.stdout.strip() or done.stderr
    return said


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only its owner enters, in another one."""
    tmp_path.chmod(0o700)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


def test_nobody_else_gets_in_and_no_folder_is_opened(closed: Path) -> None:
    data = closed / "postgres"
    before = [(path, mode(path)) for path in (data.parent, *data.parents)]
    with database(data) as told:
        assert ask(told["uri"]) == "postgres"
        setting = "SELECT setting::int * 8 / 1024 || 'MB' FROM pg_settings WHERE name = 'shared_buffers'"
        assert ask(told["uri"], statement=setting) == memory.shared_buffers()
        assert [(path, mode(path)) for path, _ in before] == before
        assert mode(data) == 0o700
        assert mode(data / ".s.PGSQL.5432") == 0o700
        assert "trust" not in (data / "pg_hba.conf").read_text()
        if ROOT:
            assert "Permission denied" in ask(told["uri"], NOBODY)
            # Nor by the socket itself, should somebody open the way to it.
            data.chmod(0o755)
            (data / ".s.PGSQL.5432").chmod(0o777)
            here = "postgresql://postgres@/postgres?host=/proc/self/cwd"
            assert "Peer authentication failed" in ask(here, NOBODY, folder=data)


def test_a_folder_of_an_older_release_is_closed(closed: Path) -> None:
    data = closed / "postgres"
    with database(data) as told:
        ask(told["uri"], statement="CREATE TABLE kept (n int)")
    (data / "pg_hba.conf").write_text("local all all trust\n")
    with database(data) as told:
        assert "trust" not in (data / "pg_hba.conf").read_text()
        assert ask(told["uri"], statement="SELECT count(*) FROM kept") == "0"


@needs_root
def test_two_users_of_one_machine_and_a_long_path(closed: Path, theirs: Path) -> None:
    long = closed / ("x" * 100)
    long.mkdir()
    with database(long / "postgres") as ours, database(theirs / "postgres", NOBODY) as other:
        assert ask(ours["uri"]) == ask(other["uri"], NOBODY) == "postgres"
        assert "Permission denied" in ask(ours["uri"], NOBODY)
        private = Path(ours["uri"].split("host=")[1])
        assert private != long / "postgres"
        assert (mode(private), mode(private.parent)) == (0o700, 0o711)
    assert not private.exists()


@pytest.mark.parametrize("trick", ["link", "open", "file"])
def test_a_place_for_the_socket_that_is_not_ours_is_refused(
    trick: str, closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / f"lensmesh-{os.geteuid()}"
    monkeypatch.setattr(folders, "runtime_base", lambda: place)
    match trick:
        case "link":
            place.symlink_to(closed)
        case "open":
            place.mkdir()
            place.chmod(0o777)
        case "file":
            place.write_text("")
    account = PostgresUser("me", os.geteuid(), os.getegid())
    with pytest.raises(CannotStart, match="choose a shorter --data, or remove"):
        socket_folder(closed / ("x" * 100), account)
    assert socket_folder(Path("/short"), account) == Path("/short")


@needs_root
def test_roots_socket_lies_where_the_servers_user_gets_to(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of root's own keeps that user out."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(closed))
    assert runtime_base().parent in (Path("/run"), Path("/tmp"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    assert runtime_base() == Path("/tmp/lensmesh-0")
