"""Images made into pixels as the Encoder does it, in threads, and nothing else: python -m bench.bare.decode FOLDER."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import torch

from bench.processor import process_s
from bench.worker import Asked, serve
from lensmesh_cli.load import supply
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.transform import Transform

MODEL_PX = 224


class Bare:
    """A decoder, a transform, and the files."""

    def __init__(self, folder: Path) -> None:
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        self._decoder = ImageDecoder(ImageLimits())
        self._transform = Transform.from_open_clip({"size": MODEL_PX})
        self._salt = 0

    def images(self, asked: Asked) -> dict[str, float]:
        """Measure images a second of `threads` threads, and the milliseconds of processor time of one."""
        self._run(asked["threads"], asked["warm"])
        began, spent = time.monotonic(), process_s(0)
        count = self._run(asked["threads"], asked["seconds"])
        return {"rate": count / (time.monotonic() - began), "cpu_ms": 1e3 * (process_s(0) - spent) / count}

    def _run(self, threads: int, seconds: float) -> int:
        counts, end = [0] * threads, time.monotonic() + seconds
        self._salt += 1

        def work(number: int) -> None:
            images = supply.images(self._contents, self._salt * 1000 + number)
            while time.monotonic() < end:
                self._decoder.prepare(next(images), self._transform)
                counts[number] += 1

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(counts)


def main() -> None:
    """Serve."""
    # The threads are here already: torch's own would stand in their way.
    torch.set_num_threads(1)
    serve({"images": Bare(Path(sys.argv[1])).images})


if __name__ == "__main__":
    main()
