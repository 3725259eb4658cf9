"""Interpreters that this machine does not have: Debian's own, of its later releases, unpacked into a folder.

apt fetches and verifies the packages, dpkg unpacks them; nothing is installed and no rights are needed. A release's
programs need its C library too, so each interpreter is a script that starts it by its own loader.
"""

import fcntl
import subprocess
import tempfile
from pathlib import Path

from tests.support.tools import ROOT, lacking, need

RELEASES = {"3.13": "trixie", "3.14": "forky"}
STORE = ROOT / ".tools" / "pythons"
"""The folder in which they stay: what is deleted here is fetched anew."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MINUTES = 10


def interpreter(version: str) -> Path:
    """The program of Python `version`, fetched where it is not here yet."""
    STORE.mkdir(parents=True, exist_ok=True)
    # With links resolved: the script names its loader, and may be asked for from a worktree that is gone tomorrow.
    folder = STORE.resolve() / version
    with (STORE / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=STORE.resolve()) as draft:
                _unpack(version, Path(draft))
                root = Path(draft, "root")
                _write_script(version, root, folder)
                root.rename(folder)
    return folder / "usr" / "bin" / f"python{version}"


def _unpack(version: str, folder: Path) -> None:
    """Fetch Python and what it needs, and lay it out below `folder`/root."""
    if not KEYRING.exists():
        lacking(f"{KEYRING} is not on this machine: install Debian's debian-archive-keyring")
    for each in ("lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    (folder / "status").touch()
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_archive()} {RELEASES[version]} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::PkgCache": "",
        "Dir::Cache::SrcPkgCache": "",
        "Acquire::Languages": "none",
        # Of a machine that nobody installs on: no lock, no other user to fetch as.
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
    }
    apt = [str(need("apt-get")), "--quiet", *(f"--option={name}={value}" for name, value in options.items())]
    _run([*apt, "update"])
    # What wheels expect of every machine comes with it, the C++ library.
    packages = (f"python{version}", "libstdc++6")
    _run([*apt, "--yes", "--download-only", "--no-install-recommends", "install", *packages])
    for package in (folder / "cache" / "archives").glob("*.deb"):
        _run([str(need("dpkg")), "--extract", str(package), str(folder / "root")])


def _archive() -> str:
    """Return where this machine's own apt fetches Debian from: the same place has the later releases."""
    told = _run([str(need("apt-get")), "indextargets", "--format", "$(ORIGIN) $(SUITE) $(REPO_URI) "])
    archives = [words[2] for words in map(str.split, told.splitlines()) if words[0] == "Debian" and "-" not in words[1]]
    if not archives:
        lacking("this machine's apt has no archive of Debian: on another system these interpreters come from elsewhere")
    return archives[0]


def _write_script(version: str, root: Path, home: Path) -> None:
    """Put a script in the place of the interpreter, which will lie in `home`."""
    [loader] = (root / "usr" / "lib").glob("*/ld-linux-*.so.*")
    libraries = home / loader.parent.relative_to(root)
    program = root / "usr" / "bin" / f"python{version}"
    real = home / "usr" / "bin" / f"{program.name}.real"
    program.rename(program.with_name(real.name))
    # Python finds its environment by the name that it was called by.
    program.write_text(
        f'#!/bin/sh\nexec "{libraries / loader.name}" --library-path "{libraries}" --argv0 "$0" "{real}" "$@"\n'
    )
    program.chmod(0o755)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES * 60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
