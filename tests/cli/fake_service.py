"""A process with faults, for the supervisor: `python -m tests.cli.fake_service READY_FILE [FAULT]`."""

import json
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Ready at once; ends on SIGTERM unless told otherwise."""
    ready, faults = Path(sys.argv[1]), set(sys.argv[2:])
    if "fails" in faults or ("fails-again" in faults and "FAKE_RESTARTS" in os.environ):
        sys.stderr.write("the model is missing: fetch it\n")
        sys.exit(1)
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if "stubborn" in faults else asked.set())
    address = os.environ.get("FAKE_LISTEN", f"port-of-{os.getpid()}")
    draft = ready.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "addresses": [address]}))
    draft.replace(ready)
    while not asked.wait(0.05):
        pass


if __name__ == "__main__":
    main()
