"""Folder for the socket of an embedded PostgreSQL: its user can reach it, and nobody else may write there."""

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from lensmesh_chassis.process.addresses import MAX_UNIX_PATH_BYTES
from lensmesh_local.postgres.user import CannotStart, PostgresUser

SOCKET = ".s.PGSQL.5432"


def socket_folder(folder: Path, account: PostgresUser) -> Path:
    """Return the folder of the socket: the data folder, or a private one where that path is too long for a socket.

    Raises:
        CannotStart: the private folder's place is another user's.
    """
    path = os.fsencode(folder / SOCKET)
    # A comma stands between hosts in a URL.
    if len(path) <= MAX_UNIX_PATH_BYTES and b"," not in path:
        return folder
    base = runtime_base()
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    if not is_private(base):
        raise CannotStart(
            f"the path of {folder} is too long for a socket ({len(path)} bytes with {SOCKET}, {MAX_UNIX_PATH_BYTES} at"
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


def runtime_base() -> Path:
    """Return the folder of this user's sockets that have no place in their data folders.

    Where that user is root, the server's user has to reach it too.
    """
    places = [Path(tempfile.gettempdir())]
    if os.geteuid() == 0:
        # A temporary folder of root's own keeps the server's user out.
        places = [place for place in (*places, Path("/run"), Path("/tmp")) if passable(place)] or places
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime and is_private(Path(runtime)):
            return Path(runtime) / "lensmesh"
    return places[0] / f"lensmesh-{os.geteuid()}"


def passable(folder: Path) -> bool:
    """Tell whether every user may pass through this folder and those above it."""
    try:
        return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.resolve().parents))
    except OSError:
        return False


def is_private(folder: Path) -> bool:
    """Tell whether it is a folder, no link, of this user, and nobody else may write or look into it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o066
