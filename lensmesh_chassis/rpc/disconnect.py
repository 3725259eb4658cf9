"""Detection of a disconnected client. gRPC ends its requests as it ends those of a client that has sent everything."""

import asyncio
import time

# The news that a call was cancelled comes after the end of its requests: within 2 ms where nothing else is to be done.
_NEWS_SECONDS = 0.02


class DisconnectDetector:
    """Detector by which a stream whose requests have just ended learns of its cancellation before it counts as done.

    A handler that has nothing left to answer ends within microseconds. Without this, traces, metrics and logs would say
    OK of a call whose client left.
    """

    def __init__(self) -> None:
        self._ended: float | None = None

    def requests_ended(self) -> None:
        """Note the moment."""
        self._ended = time.monotonic()

    async def news(self) -> None:
        """Wait for a cancellation that may still be on its way. Raises CancelledError where it comes."""
        if self._ended is not None and (left := self._ended + _NEWS_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)
