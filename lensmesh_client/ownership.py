"""Places where a client may be used: gRPC's threads do not survive a fork, and a channel belongs to one event loop."""

from __future__ import annotations

import asyncio
import os

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason


def closed() -> PreconditionFailed:
    """Make the error of a call under which its client was closed."""
    return PreconditionFailed(Reason.CLIENT_UNUSABLE, "this client was closed while the call ran")


class Ownership:
    """The process and the event loop that a channel was opened in."""

    _grpc_began_in: int | None = None
    """The process in which any client opened its first channel: gRPC's threads run in that one only."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self) -> None:
        """Make the running event loop the owner, or check that it is. Raises PreconditionFailed otherwise."""
        began_in = Ownership._grpc_began_in
        if began_in is not None and began_in != os.getpid():
            raise PreconditionFailed(
                Reason.CLIENT_UNUSABLE,
                f"this process was forked from process {began_in}, in which a lensmesh client had made calls, and gRPC "
                "does not survive that. Make the first call after the fork, or start processes with multiprocessing's "
                '"spawn"',
            )
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise PreconditionFailed(
                Reason.CLIENT_UNUSABLE,
                "this client is in use in another event loop. Make one client for each loop, or close() it there "
                "first; SyncClient works from everywhere",
            )
        Ownership._grpc_began_in = os.getpid()
        self._loop = loop

    def release(self) -> None:
        """Let the next loop that comes be the owner."""
        self._loop = None
