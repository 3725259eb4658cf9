"""The end of a process that cannot go on: logs and spans are sent, and nothing else is waited for."""

import contextlib
import logging
import os
import sys
import threading
from typing import Any

GIVEN_UP = 70
"""Exit code of a process that found that it cannot work any more: a device that hangs or is lost, an event loop that
is blocked. (EX_SOFTWARE of sysexits.h.)"""

# What is still to be sent gets so long altogether.
_FLUSH_SECONDS = 1.5


def give_up(provider: Any | None) -> None:
    """End this process now, from any thread, with exit code 70. Spans, reports and logs get a moment to be sent.

    Threads are not joined and nothing is closed: whoever calls this has found that something does not end.
    """
    last = threading.Thread(target=_flush, args=(provider,), name="last-words", daemon=True)
    last.start()
    # Whatever it meets, a lock that the hung thread holds or a collector that is away, it is not waited for longer.
    last.join(_FLUSH_SECONDS)
    os._exit(GIVEN_UP)


def _flush(provider: Any | None) -> None:
    # Imported here: the command line reads the exit code at every start, and needs neither.
    from lensmesh_chassis.telemetry import tracing
    from lensmesh_chassis.telemetry.error_tracking import stop_error_tracking

    for handler in logging.getLogger().handlers:
        with contextlib.suppress(Exception):
            handler.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    with contextlib.suppress(Exception):
        tracing.stop_tracing(provider, _FLUSH_SECONDS / 2)
    with contextlib.suppress(Exception):
        stop_error_tracking()
