"""Processes that prepare pictures, for machines with more cores than one Python process can keep busy.

Each is a fresh interpreter (a fork after gRPC or CUDA have begun would hang) that knows torch and none of the models. A
thread of the decode pool asks one at a time and waits for it without Python's lock.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import socket
import struct
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Final

import torch

from lensmesh_chassis.errors import InternalFault, InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.pictures.messages import READY, Answer, Asked
from lensmesh_inference.pictures.prepare import Prepared

# For importing torch on a machine that is starting many things at once.
_START_S: Final = 300.0
# Longest time for one picture. The largest one that is accepted takes a second or two.
PICTURE_S: Final = 60
# How many processes one picture may cost before it is held to be the reason.
_TRIES: Final = 2
_END_S: Final = 10.0
_log = logging.getLogger(__name__)


class LostChildError(Exception):
    """The process ended or hangs."""


class Child:
    """One process; a thread at a time talks to it."""

    def __init__(self, picture_s: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # A hanging decoder is found by what waits for it.
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", picture_s, 0))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lensmesh_inference.pictures.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # The same code as here; and no threads besides its own one.
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
            )
            self._pipe: Connection[bytes, bytes] = Connection(ours.detach())
        self.ready = False
        """Whether it has come so far that a picture can be what ends it."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def prepare(self, content: bytes, asked: Asked) -> Prepared:
        """As `prepare.prepare`; raises ``LostChildError`` where the process did not live to answer."""
        question = pickle.dumps(asked)
        pixels = torch.empty(3, asked.transform.height, asked.transform.width, dtype=torch.uint8)
        try:
            answer = self._ask(question, content, pixels)
        except Exception as error:
            # Half an answer, or what is none: whatever comes next from this process would be of the picture before.
            raise LostChildError(type(error).__name__) from error
        if answer.refused is not None:
            raise answer.refused.error()
        if answer.bug:
            raise RuntimeError(f"a decoding process failed: {answer.bug}")
        return Prepared(pixels, answer.low_content, answer.fully_transparent)

    def _ask(self, question: bytes, content: bytes, pixels: torch.Tensor) -> Answer:
        """The answer, and in `pixels` what it made of the picture."""
        if not self.ready:
            self._wait_until_ready()
        self._pipe.send_bytes(question)
        self._pipe.send_bytes(content)
        answer: Answer = pickle.loads(self._pipe.recv_bytes())
        done = answer.refused is None and not answer.bug
        if done and self._pipe.recv_bytes_into(pixels.numpy().data.cast("B")) != pixels.nbytes:
            raise EOFError
        return answer

    def end(self, *, within_s: float = _END_S) -> None:
        """Close its pipe, at which it ends; kill it where it does not, or has not begun to read."""
        self._pipe.close()
        try:
            self._process.wait(within_s if self.ready else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        if not self._pipe.poll(_START_S) or self._pipe.recv_bytes() != READY:
            raise EOFError
        self.ready = True


class DecodeProcesses:
    """`count` processes that answer any thread's call, and are replaced when they are lost."""

    def __init__(self, count: int, *, picture_s: int = PICTURE_S) -> None:
        """A process that needs more than `picture_s` for one picture is held to hang."""
        self._picture_s = picture_s
        self._children = {Child(picture_s) for _ in range(count)}
        self._free: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in self._children:
            self._free.put(child)

    @property
    def pids(self) -> list[int]:
        """Of those that live or are about to be found dead."""
        return [child.pid for child in list(self._children)]

    def prepare(self, content: bytes, asked: Asked) -> Prepared:
        """As `prepare.prepare`, in one of the processes.

        A lost process is replaced and its picture done again, by another one; a picture that loses two is refused
        as undecodable.
        """
        innocent = False
        for _ in range(_TRIES):
            child = self._free.get()
            try:
                prepared = child.prepare(content, asked)
            except LostChildError as error:
                innocent = innocent or not child.ready
                child = self._replace(child, error)
            else:
                return prepared
            finally:
                self._free.put(child)
        if innocent:
            raise InternalFault(Reason.INTERNAL, "No decoding process starts; the service's log tells why.")
        raise InvalidInput(
            Reason.IMAGE_UNDECODABLE,
            f"{asked.field} cannot be decoded: {_TRIES} processes that tried did not live to answer. Encode it again.",
            field=asked.field,
        )

    def close(self) -> None:
        """End all processes, after what they are doing."""
        for _ in range(len(self._children)):
            self._free.get().end()
        self._children.clear()

    def _replace(self, lost: Child, error: LostChildError) -> Child:
        lost.end(within_s=0)
        _log.warning("decoding process %d was lost (%s); another one is started", lost.pid, error)
        child = Child(self._picture_s)
        self._children.discard(lost)
        self._children.add(child)
        return child
