"""A real PostgreSQL with pgvector for tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

STARTS = 12
START_S = 60.0
STOP_S = 60.0
# Nothing here outlives the machine, and waiting for its disk is most of a test's time.
NOT_DURABLE = "".join(f"{name} = off\n" for name in ("fsync", "full_page_writes", "synchronous_commit"))


class PostgresForTests:
    """A PostgreSQL server in a folder of its own, that can be stopped and started again.

    It is kept by the process that keeps it for `lensmesh up`. Never by this one: as root the server gets another user,
    for which Python forks, and what gRPC does in a fork of a process with its threads can end that fork.
    """

    def __init__(self) -> None:
        # Not pytest's own folders: the path of a socket has at most 107 bytes.
        self._root = Path(tempfile.mkdtemp(prefix="lensmesh-pg-"))
        self._root.chmod(0o755)
        self._folder = self._root / "data"
        self._ready = self._root / "ready.json"
        self._keeper: subprocess.Popen[bytes] | None = None
        self.start()
        self.url: str = self._told()["uri"]
        (self._folder / "postgresql.auto.conf").write_text(NOT_DURABLE)
        os.kill(self._told()["postmaster_pid"], signal.SIGHUP)

    def _told(self) -> dict[str, Any]:
        """What the keeper wrote when the server answered."""
        told: dict[str, Any] = json.loads(self._ready.read_text())
        return told

    @property
    def socket(self) -> str:
        """Where it listens."""
        query = parse_qs(urlsplit(self.url).query)
        return f"{query['host'][0]}/.s.PGSQL.5432"

    @property
    def rules(self) -> Path:
        """Its pg_hba.conf: who gets in."""
        return self._folder / "pg_hba.conf"

    def database(self, name: str) -> str:
        """URL of a database."""
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """Nothing happens where it is stopped."""
        if self._keeper is not None:
            self._keeper.terminate()
            try:
                self._keeper.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.communicate()
            self._keeper = None

    def kill(self) -> None:
        """Ends the server at once, as a power cut would: it says goodbye to nobody, and recovers when it starts."""
        os.kill(self._told()["postmaster_pid"], signal.SIGKILL)
        assert self._keeper is not None
        # The keeper finds it gone, and ends too.
        self._keeper.wait(timeout=STOP_S)
        self.stop()

    def start(self) -> None:
        """Nothing happens where it runs. The package gives a start ten seconds: a busy machine may need several."""
        if self._keeper is not None:
            return
        log = self._root / "keeper.log"
        for _ in range(STARTS):
            self._ready.unlink(missing_ok=True)
            with log.open("ab") as written:
                # It ends with this process, however that ends.
                command = [sys.executable, "-m", "lensmesh_local.child", "lensmesh_local.database"]
                command += [str(self._folder), str(self._ready)]
                self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=written, stderr=written)
            until = time.monotonic() + START_S
            while self._keeper.poll() is None and time.monotonic() < until:
                if self._ready.exists():
                    return
                time.sleep(0.05)
            self.stop()
        raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)
