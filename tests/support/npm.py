"""Packages of npm: a copy of one of the project's, with what its lock names installed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.tools import ROOT, lacking, need

LEAST_NODE = 20
"""The oldest Node that the packages accept."""
PATIENCE_S = 300
_INSTALLED = ROOT / "build" / "npm"
_LEFT_OUT = shutil.ignore_patterns("node_modules", "dist")


def node() -> Path:
    """Node, of a release that the packages accept. Leaves the test out, or fails it, where there is none."""
    found = need("node")
    need("npm")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(said.removeprefix("v").split(".")[0]) < LEAST_NODE:
        lacking(f"Node {LEAST_NODE} or newer is wanted, this is {said}: install one from nodejs.org")
    return found


def copied(package: Path, folder: Path) -> Path:
    """Copy a package into a folder, with its dependencies. Those of one lock are installed once on a machine."""
    node()
    target = folder / package.name
    shutil.copytree(package, target, ignore=_LEFT_OUT)
    (target / "node_modules").symlink_to(_modules(package), target_is_directory=True)
    return target


def _modules(package: Path) -> Path:
    lock = (package / "package-lock.json").read_bytes()
    home = _INSTALLED / hashlib.sha256(lock).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    # Two runs of the tests may want it at the same moment.
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / "done").exists():
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copyfile(package / name, home / name)
            run(home, "npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
            (home / "done").touch()
    return home / "node_modules"


def run(folder: Path, *command: str | Path, **more: str) -> str:
    """Run a command in a folder, with more in its environment, and return what it printed. It has to succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout
