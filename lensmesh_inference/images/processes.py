"""Processes that decode images. A limit that is exceeded ends one of these processes, and never the service.

Each process is a fresh interpreter that knows none of the models; a fork after gRPC or CUDA have begun would hang. A
thread sends it one image at a time and waits without Python's lock. The mechanism has two uses: a few small processes
for images that do not prove their cost, and many processes with torch, for machines with more cores than one Python
process keeps busy.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from lensmesh_chassis.errors import InternalFault, InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.counts import DecodeCounts
from lensmesh_inference.images.interpreter import Interpreter, LostProcessError
from lensmesh_inference.images.messages import DecodeAnswer, DecodeRequest
from lensmesh_inference.images.raster import Pixels

Kind: TypeAlias = Literal["torch", "pillow"]
# How many processes may come to their end before they have read an image.
_TRIES: Final = 3
# A machine that does much else gives a process this part of the time.
_LEAST_SHARE: Final = 30
# What a decoder's own bookkeeping may take beside what the header tells.
_MEMORY_FACTOR: Final = 1.25
_MEMORY_BYTES: Final = 64 * 1024**2
_log = logging.getLogger(__name__)


class DecodeProcesses:
    """At most `count` processes that serve any thread. They are started when they are needed and replaced when lost."""

    def __init__(
        self,
        count: int,
        kind: Kind,
        *,
        cpu_s: float,
        answer_s: float | None = None,
        counts: DecodeCounts | None = None,
    ) -> None:
        """Set the limits of a process, which is ended when it exceeds one of them.

        A process may need `cpu_s` seconds on a processor for one image. It must answer within `answer_s` seconds; None:
        thirty times `cpu_s`. What is refused and dropped is counted in `counts`.
        """
        self._counts: Final = counts or DecodeCounts()
        self.count: Final = count
        self._kind: Final = kind
        self._cpu_s: Final = cpu_s
        self._answer_s: Final = _LEAST_SHARE * cpu_s if answer_s is None else answer_s
        self._room = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._all: set[Interpreter] = set()
        self._idle: list[Interpreter] = []
        self._ending = False

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run, or whose end has not been noticed yet."""
        with self._lock:
            return [process.pid for process in self._all]

    def decode(self, content: bytes, asked: DecodeRequest, *, memory_bytes: int) -> tuple[DecodeAnswer, Pixels]:
        """Decode one image in one of the processes, within this memory. Return the answer and the pixels.

        Raises ``InvalidInput`` for a bad image. The reason is IMAGE_TOO_COSTLY for an image that ended its process,
        took too long or needed too much memory: such an image is tried only once. A process that was lost before it had
        read the image does not count against the image.
        """
        memory = int(memory_bytes * _MEMORY_FACTOR) + _MEMORY_BYTES + 2 * len(content)
        asked = replace(asked, memory_bytes=memory, cpu_s=self._cpu_s)
        for _ in range(_TRIES):
            try:
                answer, pixels = self._ask(content, asked)
            except LostProcessError as lost:
                if self._ending:
                    raise _draining() from lost
                if not lost.before:
                    raise self._refusal(lost, asked) from lost
                continue
            if answer.refused is not None:
                raise answer.refused.error()
            if answer.overfilled:
                self._counts.refuse("memory")
                text = f"{asked.field} takes more memory to decode than its size tells: encode it again."
                raise too_costly(text, asked.field, {"max_decode_bytes": memory_bytes})
            if answer.bug:
                raise RuntimeError(f"a decoding process failed: {answer.bug}")
            return answer, pixels
        raise InternalFault(Reason.INTERNAL, "No decoding process starts; the service's log tells why.")

    def give_up(self) -> None:
        """End the processes in the middle of their images, and start no more.

        Another replica shall decode these images.
        """
        with self._lock:
            self._ending = True
            running = list(self._all)
        for process in running:
            process.kill()

    def close(self) -> None:
        """End all processes. Call it when no thread decodes any more."""
        with self._lock:
            ended, self._all, self._idle = self._all, set(), []
        for process in ended:
            process.end()

    def _ask(self, content: bytes, asked: DecodeRequest) -> tuple[DecodeAnswer, Pixels]:
        with self._room:
            process = self._take()
            try:
                answered = process.ask(content, asked)
            except BaseException as error:
                with self._lock:
                    self._all.discard(process)
                said = self._said(process)
                process.end(within_s=0)
                _log.warning("decoding process %d was lost (%s)%s", process.pid, error, said)
                raise
            # Read before the next image: its process tells by the unread lines whether they became more.
            if said := self._said(process):
                _log.info("%s was decoded%s", asked.field, said)
            with self._lock:
                self._idle.append(process)
        return answered

    def _take(self) -> Interpreter:
        with self._lock:
            if self._ending:
                raise _draining()
            while self._idle:
                process = self._idle.pop()
                if process.lives:
                    return process
                self._all.discard(process)
                process.end(within_s=0)
            process = Interpreter(self._kind, answer_s=self._answer_s)
            self._all.add(process)
            return process

    def _said(self, process: Interpreter) -> str:
        """Summarize what the libraries of a process wrote, and count the lines as dropped."""
        lines, first = process.said()
        self._counts.drop(lines)
        return f"; {lines} lines of its libraries are dropped, the first is: {first}" if lines else ""

    def _refusal(self, lost: LostProcessError, asked: DecodeRequest) -> InvalidInput:
        self._counts.refuse("time" if lost.too_long else "crashed")
        if lost.too_long:
            text = f"{asked.field} takes more than {self._cpu_s:g} s to decode: encode it again, or scale it down."
            return too_costly(text, asked.field, {"max_decode_seconds": f"{self._cpu_s:g}"})
        text = f"{asked.field} ended the process that decoded it, and is not tried again: encode it again."
        return too_costly(text, asked.field, {})


def _draining() -> Unavailable:
    return Unavailable(Reason.DRAINING, "the service ends before the image is decoded: send it again")


def too_costly(text: str, field: str, metadata: dict[str, object]) -> InvalidInput:
    """Return the error for an image that costs more than one image may."""
    return InvalidInput(Reason.IMAGE_TOO_COSTLY, text, field=field, metadata=metadata)
