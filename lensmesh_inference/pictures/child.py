"""A process that prepares pictures for a service: python -m lensmesh_inference.pictures.child FD

FD is its end of a socket pair. Asked are a pickled `Asked` and the picture's bytes; answered are a pickled `Answer`
and, where there are any, the pixels. It ends when the other end is closed, however its parent came to its end.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from lensmesh_chassis.errors import InvalidInput
from lensmesh_inference.pictures.messages import READY, Answer, Asked, Refused


def main() -> None:
    """Serve one parent until it goes."""
    # Whoever stops a service by its process group stops this one too early: what was read is still to be answered.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent: Connection[bytes, bytes] = Connection(int(sys.argv[1]))
    # Imported here, after the signals: it takes seconds.
    import torch

    from lensmesh_inference.pictures.prepare import prepare

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        parent.send_bytes(READY)
        while True:
            asked: Asked = pickle.loads(parent.recv_bytes())
            content = parent.recv_bytes()
            try:
                made = prepare(
                    content,
                    asked.transform,
                    asked.limits,
                    asked.field,
                    scaled=asked.scaled,
                    transparency=asked.transparency,
                )
            except InvalidInput as error:
                parent.send_bytes(pickle.dumps(Answer(refused=Refused.of(error))))
            except Exception:  # noqa: BLE001 - a bug ends no process; the parent raises and logs it
                parent.send_bytes(pickle.dumps(Answer(bug=traceback.format_exc())))
            else:
                answer = Answer(low_content=made.low_content, fully_transparent=made.fully_transparent)
                parent.send_bytes(pickle.dumps(answer))
                parent.send_bytes(made.pixels.numpy().data.cast("B"))


if __name__ == "__main__":
    main()
