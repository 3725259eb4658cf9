"""Runner of a module as a child that never outlives its supervisor: `python -m lensmesh_local.child MODULE ARGUMENT...`

The supervisor holds the other end of this process's standard input. When the supervisor is gone, however it went, the
pipe closes. Then the module gets the SIGTERM that a living supervisor would have sent.
"""

import os
import runpy
import signal
import sys
import threading
import time

# After the drain of a service (20 s unless set) and its clean-up.
LAST_SECONDS = 45.0


def _until_left_alone() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the named module as `python -m` would."""
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    threading.Thread(target=_until_left_alone, name="supervisor-watch", daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
