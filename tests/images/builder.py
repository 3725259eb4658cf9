"""Images built by buildah on a base of Debian's own, since no registry is asked for anything.

The base is made once by debootstrap and kept in .tools/images.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.tools import ROOT, need

BASE = "localhost/lensmesh-test-base"
STORE = ROOT / ".tools" / "images"
MINUTES = 60
# What pip needs to reach its packages from here; never part of an image.
_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "client-cert", "default-timeout")


class Builder:
    """One store of images. `base()` first."""

    def __init__(self) -> None:
        STORE.mkdir(parents=True, exist_ok=True)
        self._options = [f"--root={STORE.resolve()}/store", f"--runroot={STORE.resolve()}/run"]
        # Overlays share what images have in common; where the kernel has none here, each image is a copy.
        if self._run("info", check=False).returncode:
            self._options.append("--storage-driver=vfs")
            self._run("info")

    def base(self) -> str:
        """The image that stands for the public one: Debian with Python. Made where it is not there yet."""
        with _locked():
            if self._run("inspect", "--type=image", BASE, check=False).returncode:
                with tempfile.TemporaryDirectory(dir=STORE) as folder:
                    packages = "--include=python3,python3-venv,ca-certificates"
                    # In a mount namespace of its own: what it mounts into the folder is gone with it, however it ends.
                    _checked(
                        [
                            "unshare",
                            "--mount",
                            need("debootstrap"),
                            "--variant=minbase",
                            packages,
                            "bookworm",
                            f"{folder}/root",
                        ]
                    )
                    container = self._run("from", "scratch").stdout.strip()
                    self._run("add", "--quiet", container, f"{folder}/root", "/")
                    self._run("commit", "--quiet", "--rm", container, BASE)
        return BASE

    def build(self, tags: Mapping[str, str]) -> None:
        """Targets of the Dockerfile with their tags. What they have in common is built once."""
        with _locked(), pip_access() as volumes:
            for target, tag in tags.items():
                self._run(
                    "bud",
                    "--quiet",
                    "--layers",
                    "--format=docker",
                    f"--build-arg=BASE={BASE}",
                    *(f"--volume={path}:{inside}:ro" for path, inside in volumes),
                    f"--target={target}",
                    f"--tag={tag}",
                    str(ROOT),
                )

    def config(self, image: str) -> dict[str, Any]:
        """What the image says of itself: user, environment, entry point."""
        told: dict[str, Any] = json.loads(self._run("inspect", "--type=image", image).stdout)["Docker"]["config"]
        return told

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The image's files."""
        container = self._run("from", image).stdout.strip()
        try:
            yield Path(self._run("mount", container).stdout.strip())
        finally:
            self._run("rm", container)

    def remove(self, images: Iterable[str]) -> None:
        """These, and the layers that only builds used: with each change of the code they would grow."""
        with _locked():
            self._run("rmi", "--force", *images, check=False)
            self._run("rmi", "--prune", check=False)

    def _run(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            [need("buildah"), *self._options, command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=MINUTES * 60,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"buildah {command}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done


@contextmanager
def pip_access() -> Iterator[list[tuple[str, str]]]:
    """Files to mount into a build so that its pip gets packages as this machine's does: (here, inside)."""
    listed = _checked([sys.executable, "-m", "pip", "config", "list"])
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in _PIP:
            settings[key] = shlex.split(value)[0].replace("\n", " ")
    volumes = []
    for key in ("cert", "client-cert"):
        if key in settings:
            volumes.append((str(Path(settings[key]).resolve()), f"/run/pip/{key}.pem"))
            settings[key] = f"/run/pip/{key}.pem"
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items())]) + "\n")
        file.flush()
        yield [*volumes, (file.name, "/etc/pip.conf")]


@contextmanager
def _locked() -> Iterator[None]:
    """Two test runs make the base once, and neither takes away what the other is building on."""
    with (STORE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _checked(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES * 60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
