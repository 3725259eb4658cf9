"""A decoding process (`child.py`), as the service sees it."""

from __future__ import annotations

import math
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Final

import numpy as np

from lensmesh_inference.images.messages import BEGUN, READY, DecodeAnswer, DecodeRequest
from lensmesh_inference.images.raster import Pixels

# For a machine that is starting many things at once.
_START_S: Final = 300.0
_END_S: Final = 10.0
# Silence is counted in these: a service that was stopped for an hour has not waited for an hour.
_TICK_S: Final = 0.5
# For a message that has begun.
_MESSAGE_S: Final = 60
_SAID_BYTES: Final = 64 * 1024
_SAID_CHARS: Final = 200


class LostProcessError(Exception):
    """The process has ended or does not answer. `before`: it had not read the image yet.

    `too_long`: it took too long.
    """

    def __init__(self, why: str, *, before: bool = False, too_long: bool = False) -> None:
        super().__init__(why)
        self.before = before
        self.too_long = too_long


class Interpreter:
    """A decoding process. Only one thread at a time may talk to it."""

    def __init__(self, kind: str, *, answer_s: float) -> None:
        """Start the process. An answer may take `answer_s` seconds."""
        self._ticks = math.ceil(answer_s / _TICK_S)
        self._ready = False
        # What its libraries write is kept by nobody: a full pipe takes no more, and does not make who writes wait.
        self._said, stderr = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_S, 0))
            # The same code as here; and no threads besides its own one.
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            }
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "lensmesh_inference.images.child", str(theirs.fileno()), kind],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
            finally:
                os.close(stderr)
            self._pipe: Connection[bytes, bytes] = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """True while the process still runs."""
        return self._process.poll() is None

    def ask(self, content: bytes, asked: DecodeRequest) -> tuple[DecodeAnswer, Pixels]:
        """Have one image decoded. After ``LostProcessError`` the process must not be asked again."""
        try:
            if not self._ready:
                if not self._pipe.poll(_START_S) or self._pipe.recv_bytes() != READY:
                    raise EOFError
                self._ready = True
            self._pipe.send_bytes(pickle.dumps(asked))
            self._pipe.send_bytes(content)
            if self._pipe.recv_bytes() != BEGUN:
                raise EOFError
        except Exception as error:
            raise LostProcessError(f"{type(error).__name__} before it decoded", before=True) from error
        try:
            return self._answer()
        except LostProcessError:
            raise
        except Exception as error:
            # Half an answer, or what is none: whatever comes next would be of the image before.
            code = self._code()
            raise LostProcessError(f"code {code}", too_long=code == -signal.SIGPROF) from error

    def _answer(self) -> tuple[DecodeAnswer, Pixels]:
        if not any(self._pipe.poll(_TICK_S) for _ in range(self._ticks)):
            raise LostProcessError("no answer", too_long=True)
        answer: DecodeAnswer = pickle.loads(self._pipe.recv_bytes())
        pixels = np.empty(answer.shape, np.uint8)
        if pixels.size and self._pipe.recv_bytes_into(pixels.data.cast("B")) != pixels.nbytes:
            raise EOFError
        return answer, pixels

    def _code(self) -> int | None:
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> tuple[int, str]:
        """Return how many lines its libraries wrote since the last call, and the beginning of the first line."""
        try:
            raw = os.read(self._said, _SAID_BYTES)
        except OSError:
            return 0, ""
        first = raw.decode(errors="replace").strip().partition("\n")[0][:_SAID_CHARS]
        # The last one may lack its end.
        return raw.count(b"\n") + (raw[-1:] not in (b"", b"\n")), first

    def kill(self) -> None:
        """End the process in the middle of an image. A thread that waits for it gets ``LostProcessError``."""
        self._process.kill()

    def end(self, *, within_s: float = _END_S) -> None:
        """Close the process's pipe, which ends the process. Kill it if it does not end, or has not begun to read."""
        self._pipe.close()
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
        try:
            self._process.wait(within_s if self._ready else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
