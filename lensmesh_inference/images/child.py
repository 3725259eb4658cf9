"""A process that decodes images for a service: python -m lensmesh_inference.images.child FD KIND

FD is the process's end of a socket pair. It receives a pickled `DecodeRequest` and the image's bytes. It answers that
it has begun, then sends a pickled `DecodeAnswer` and, where there are any, the pixels. KIND is "torch" where torch
resizes, quickly, or "pillow" where the process shall be small. The process ends when the other end is closed, however
its parent ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import resource
import signal
import sys
import termios
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_chassis.errors import InvalidInput
from lensmesh_inference.images.local_features import opencv
from lensmesh_inference.images.messages import BEGUN, READY, DecodeAnswer, DecodeRefusal, DecodeRequest

if TYPE_CHECKING:
    from lensmesh_inference.images.raster import Pixels, Resize

# What is decoded with care takes the processor only where nobody else wants it so much.
_NICE = 5


def main() -> None:
    """Serve one parent until it goes away."""
    # Whoever stops a service by its process group stops this one too early: what was read is still to be answered.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent: Connection[bytes, bytes] = Connection(int(sys.argv[1]))
    resize = _settle(sys.argv[2])
    with contextlib.suppress(EOFError, OSError):
        parent.send_bytes(READY)
        while True:
            asked: DecodeRequest = pickle.loads(parent.recv_bytes())
            content = parent.recv_bytes()
            parent.send_bytes(BEGUN)
            answer, pixels = _answer(content, asked, resize)
            parent.send_bytes(pickle.dumps(answer))
            if pixels is not None:
                parent.send_bytes(pixels.data.cast("B"))


def _settle(kind: str) -> Resize:
    """Import what decoding needs, which takes seconds, and return the function that resizes.

    No core file is left where a decoder crashes.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    from lensmesh_inference.images.quiet import quiet_pillow

    quiet_pillow()
    if kind == "torch":
        import torch

        from lensmesh_inference.images.prepare import resize_by_torch

        torch.set_num_threads(1)
        return resize_by_torch
    from PIL import Image

    from lensmesh_inference.images.raster import resize_by_pillow

    Image.init()
    os.nice(_NICE)
    # Where the machine or the container is short of memory, this process goes, and not the service.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return resize_by_pillow


def _answer(content: bytes, asked: DecodeRequest, resize: Resize) -> tuple[DecodeAnswer, Pixels | None]:
    try:
        if asked.featured:
            # Of what the process has before it begins.
            opencv()
        with _limited(asked):
            return _decode(content, asked, resize)
    except MemoryError:
        return DecodeAnswer(overfilled=True), None
    except InvalidInput as error:
        if _from_memory(error):
            return DecodeAnswer(overfilled=True), None
        return DecodeAnswer(refused=DecodeRefusal.of(error)), None
    except Exception:  # noqa: BLE001 - a bug ends no process; the parent raises and logs it
        return DecodeAnswer(bug=traceback.format_exc()), None


def _decode(content: bytes, asked: DecodeRequest, resize: Resize) -> tuple[DecodeAnswer, Pixels]:
    import numpy as np

    from lensmesh_inference.images.header import open_image
    from lensmesh_inference.images.pillow import decode_opened
    from lensmesh_inference.images.raster import make
    from lensmesh_inference.images.structure import look

    if asked.transform is None:
        decoded = decode_opened(
            open_image(content, asked.limits, asked.field),
            content,
            asked.field,
            asked.transparency,
            _heard,
            hashed=asked.hashed,
            featured=asked.featured,
            thumbnail_px=asked.thumbnail_px,
        )
        width, height = decoded.image.size
        whole = np.asarray(decoded.image).reshape(height, width, 3)
        answer = DecodeAnswer(
            (height, width, 3),
            fully_transparent=decoded.fully_transparent,
            perceptual_hash=decoded.perceptual_hash,
            local_features=decoded.local_features,
            thumbnail=decoded.thumbnail,
        )
        return answer, whole
    made = make(
        content,
        asked.transform,
        asked.limits,
        asked.field,
        structure=look(content, asked.field),
        resize=resize,
        scaled=asked.scaled,
        transparency=asked.transparency,
        hashed=asked.hashed,
        featured=asked.featured,
        thumbnail_px=asked.thumbnail_px,
        heard=_heard,
    )
    shape = (3, asked.transform.height, asked.transform.width)
    answer = DecodeAnswer(
        shape,
        low_content=made.low_content,
        fully_transparent=made.fully_transparent,
        perceptual_hash=made.perceptual_hash,
        local_features=made.local_features,
        thumbnail=made.thumbnail,
    )
    return answer, made.pixels


def _heard() -> int:
    """Return how many bytes libraries have written that the parent has not read yet.

    Standard error is a pipe to the parent.
    """
    return int.from_bytes(fcntl.ioctl(2, termios.FIONREAD, bytes(4)), sys.byteorder)


@contextmanager
def _limited(asked: DecodeRequest) -> Iterator[None]:
    """Enforce the limits of one image.

    Too much memory raises ``MemoryError``. Too much time ends the process (SIGPROF).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if asked.memory_bytes:
        # Where there is no /proc the system does not hold to this limit either.
        with contextlib.suppress(OSError):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + asked.memory_bytes, hard))
    signal.setitimer(signal.ITIMER_PROF, asked.cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _from_memory(error: BaseException | None) -> bool:
    """Tell whether a lack of memory caused an error. Pillow's readers turn ``MemoryError`` into errors of any type."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
