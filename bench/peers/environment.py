"""The environments of peers. Each is made once in the user's cache folder, never beside the code.

An environment holds what the peer needs and, by a .pth file that comes after that, everything of the project's
environment: torch is not installed twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

INSTALL_S = 900.0


class PeerMissingError(Exception):
    """A peer cannot be installed on this machine. The message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The packages to install for a peer.

    `shared_libpython`: its interpreter needs a shared library of exactly its version.
    """

    name: str
    requirements: tuple[str, ...]
    shared_libpython: bool = False


TRITON = Peer("triton", ("nvidia-pytriton==0.7.0",), shared_libpython=True)
LITSERVE = Peer("litserve", ("litserve==0.2.19", "aiohttp==3.14.5"))


async def prepare(peer: Peer) -> str:
    """Return the peer's interpreter, installing the peer first where needed. Raises PeerMissingError."""
    return await asyncio.to_thread(_prepare, peer)


def cache_folder() -> Path:
    """Return the folder for environments, below XDG_CACHE_HOME or its default."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lensmesh" / "bench"


def _prepare(peer: Peer) -> str:
    interpreter = _interpreter(peer)
    mine = sysconfig.get_paths()["purelib"]
    wanted = "\n".join((*peer.requirements, interpreter, mine))
    folder = cache_folder() / f"{peer.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python, done = folder / "bin" / "python", folder / "ready"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        uv = _uv()
        _run(peer, uv, "venv", "--quiet", "--python", interpreter, str(folder))
        _run(peer, uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements)
        packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (packages / "of_the_project.pth").write_text(mine + "\n")
        done.write_text(wanted)
    return str(python)


def _interpreter(peer: Peer) -> str:
    if not peer.shared_libpython:
        return sys.executable
    # The system's, whose library the loader finds: one built elsewhere meets the library of another patch release.
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    system = Path("/usr/bin") / name
    libraries = list(Path("/usr/lib").rglob(f"lib{name}.so.1.0"))
    if system.exists() and libraries:
        return str(system)
    raise PeerMissingError(
        f"{peer.name} needs an interpreter with a shared library: install the system's {name} and lib{name}"
    )


def _uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        raise PeerMissingError("peers are installed by uv, which is not there: `make setup` installs it")
    return found


def _run(peer: Peer, *command: str) -> None:
    # The variables that a virtual environment sets would point uv at the wrong one.
    clean = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"{peer.name} could not be installed within {INSTALL_S:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PeerMissingError(f"{peer.name} cannot be installed here: {last}")
