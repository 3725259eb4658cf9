"""A container of an image, as `docker run --read-only --tmpfs /tmp` would have it, out of the kernel's own parts.

Its own mount and process namespaces, a root that cannot be written, a folder of the test as /tmp, the image's user,
environment and entry point. Not its own network, and no limits of memory, capabilities or system calls.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

# $1 the image's files, $2 the folder for /tmp, $3 the user; then the command. The shell becomes the program, so that
# this is process 1.
_ENTER = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
for each in dev etc/resolv.conf etc/hosts; do
  [ ! -e "$1/$each" ] || mount --rbind "/$each" "$1/$each"
done
mount --bind "$2" "$1/tmp"
mount -t proc proc "$1/proc"
mount -o remount,ro,bind "$1"
root=$1 user=$3
shift 3
exec chroot --userspec="$user" "$root" "$@"
"""


class Container:
    """Files, configuration and a folder for /tmp."""

    def __init__(self, root: Path, config: Mapping[str, Any], tmp: Path) -> None:
        self._root, self._config, self.tmp = root, config, tmp
        tmp.mkdir(parents=True, exist_ok=True)
        tmp.chmod(0o1777)

    @property
    def user(self) -> str:
        return str(self._config["User"])

    def command(self, *program: str, **environment: str) -> list[str]:
        """What runs `program` in it (the entry point if none is given) with more in its environment."""
        variables = [*self._config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _ENTER, "enter", str(self._root), str(self.tmp), self.user),
            *("env", "--ignore-environment", *variables),
            *(program or self._config["Entrypoint"]),
        ]

    def run(self, *program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*program, **environment), capture_output=True, text=True, timeout=600, check=False
        )

    def entry(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The entry point with arguments."""
        return self.run(*self._config["Entrypoint"], *arguments, **environment)

    def healthcheck(self) -> list[str]:
        """The program that the image asks its health with."""
        kind, *program = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(program)

    @contextmanager
    def started(self, log: Path, **environment: str) -> Iterator["Started"]:
        """The entry point, running; killed at the end if it still does."""
        with log.open("wb") as output:
            process = subprocess.Popen(self.command(**environment), stdout=output, stderr=output)
        try:
            yield Started(process, log)
        finally:
            process.kill()
            process.wait()


class Started:
    """A running container."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self.log = process, log

    def signal(self, number: int) -> None:
        """To process 1, as `docker stop` sends it."""
        [first] = psutil.Process(self.process.pid).children()
        os.kill(first.pid, number)

    def said(self) -> str:
        return self.log.read_text()
