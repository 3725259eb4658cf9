"""The system's user that an embedded PostgreSQL runs as: the mesh's own, and for root another one."""

import contextlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCOUNT = "pgserver"


class CannotStart(Exception):  # noqa: N818 - read as a sentence where it is caught
    """Reason why the server cannot run here, and what to do."""


@dataclass(frozen=True)
class PostgresUser:
    """The system's user that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    def switch(self) -> dict[str, Any]:
        """Return what `subprocess` needs to run a program as this user."""
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def own_folder(folder: Path) -> tuple[int, PostgresUser]:
    """Open the data folder, and find out who runs the server in it. A missing folder is made."""
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


def _account(uid: int) -> PostgresUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise CannotStart(
            f"the system knows no name for the user {uid}, and PostgreSQL needs one: add it to /etc/passwd, or use a"
            " PostgreSQL of your own: lensmesh up --store-url postgresql://..."
        ) from None
    return PostgresUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _root_substitute() -> PostgresUser:
    """Return the user that PostgreSQL runs as when the mesh is root's. A missing user is made."""
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
