"""Images that end the process that works at them, by their size. Imports little: decoding processes import it too."""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from lensmesh_inference.images.limits import ImageLimits

# Width and height of an image that ends whoever decodes it, and of one that ends whoever computes its vector.
DEADLY_TO_DECODE: Final = (23, 17)
DEADLY_TO_COMPUTE: Final = (17, 23)


def end_this_process() -> None:
    """End as a crash in C does: no handler runs, nothing is written."""
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyLimits(ImageLimits):
    """Ends the process in which an image is held against them: in the middle of its preparation, wherever that is."""

    def __getattribute__(self, name: str) -> Any:
        if name == "max_side_ratio":
            end_this_process()
        return super().__getattribute__(name)
