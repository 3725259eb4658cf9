"""A worker that prepares images as the Encoder does, with the code of any checkout, and measures their cost.

python -m bench.workers.decoding CHECKOUT. It measures processor time: of this process and of those that decode for it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.worker import Asked, serve

MODEL_PX = 224


def main() -> None:
    """Serve one checkout."""
    sys.path.insert(0, sys.argv[1])
    prepare, spent = _open(Path(sys.argv[1]))

    def images(asked: Asked) -> dict[str, Any]:
        content = Path(asked["path"]).read_bytes()
        milliseconds = []
        for _ in range(asked["times"]):
            began = spent()
            prepare(content)
            milliseconds.append((spent() - began) * 1e3)
        return {"milliseconds": milliseconds, "median": statistics.median(milliseconds)}

    serve({"images": images})


def _open(checkout: Path) -> tuple[Callable[[bytes], object], Callable[[], float]]:
    """Return the checkout's function that prepares an image, and one that returns the processor seconds so far."""
    import torch

    from lensmesh_inference.images import decoder as module
    from lensmesh_inference.images.limits import ImageLimits
    from lensmesh_inference.images.transform import Transform

    if not Path(module.__file__).is_relative_to(checkout):
        raise SystemExit(f"{checkout} holds no lensmesh_inference")
    torch.set_num_threads(1)
    decoder = module.ImageDecoder(ImageLimits())
    transform = Transform.from_open_clip({"size": MODEL_PX})

    def spent() -> float:
        # A process's own clock, by the number that Linux gives it.
        return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in decoder.pids)

    return lambda content: decoder.prepare(content, transform), spent


if __name__ == "__main__":
    main()
