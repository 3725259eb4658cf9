"""Process that keeps an embedded PostgreSQL with pgvector running in a folder until SIGTERM.

`python -m lensmesh_local.database FOLDER READY_FILE`. Writes {"pid", "uri", "postmaster_pid"} once it answers. Exits
with code 3 when the server dies under it, so that its supervisor starts both again.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from lensmesh_local.postgres.server import PostgresServer
from lensmesh_local.postgres.user import CannotStart

SERVER_DIED = 3


def write_ready(path: Path, content: dict[str, object]) -> None:
    """Write the file in one step, so that a reader sees all or nothing."""
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
    try:
        server = PostgresServer(folder)
        server.start(asked.is_set)
    except CannotStart as error:
        logging.error("%s", error)
        sys.exit(1)
    write_ready(ready, {"pid": os.getpid(), "uri": server.uri, "postmaster_pid": server.pid})
    while not asked.wait(0.25):
        if not server.is_running():
            logging.error("PostgreSQL (process %s) ended; its log is %s", server.pid, folder / "log")
            sys.exit(SERVER_DIED)
    ready.unlink(missing_ok=True)
    server.stop()


if __name__ == "__main__":
    main()
