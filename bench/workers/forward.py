"""The pure forward pass on a device with the inputs already there: no decoding, no copies.

python -m bench.workers.forward MODEL DEVICE PRECISION. No server with torch in this precision can do more.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import open_clip
import torch

from bench.worker import Asked, serve
from encoder_svc.models.locate import locate
from encoder_svc.models.sources import parse_source


class Forward:
    """A model on a device."""

    def __init__(self, name: str, device: str, precision: str) -> None:
        located = locate(parse_source(name), allow_download=False)
        self._device, self._dtype = torch.device(device), getattr(torch, precision)
        model: Any = open_clip.create_model(located.create_name, pretrained=located.pretrained)
        self._model = model.to(self._device, self._dtype).eval()
        size = model.visual.image_size
        self._shape = (3, *((size, size) if isinstance(size, int) else size))

    def forward(self, asked: Asked) -> dict[str, float]:
        """Measure images a second in batches of `batch`."""
        inputs = torch.randn(asked["batch"], *self._shape, device=self._device, dtype=self._dtype)
        with torch.inference_mode():
            self._run(inputs, asked["warm"])
            passes, seconds = self._run(inputs, asked["seconds"])
        return {"rate": passes * asked["batch"] / seconds}

    def _run(self, inputs: torch.Tensor, seconds: float) -> tuple[int, float]:
        self._wait()
        began, passes = time.monotonic(), 0
        while passes == 0 or time.monotonic() - began < seconds:
            self._model.encode_image(inputs)
            passes += 1
            # Only now and then: passes queue up on a device, and waiting for each would leave it idle between them.
            if passes % 8 == 0:
                self._wait()
        self._wait()
        return passes, time.monotonic() - began

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def main() -> None:
    """Serve one model."""
    model = Forward(*sys.argv[1:4])
    serve({"forward": model.forward})


if __name__ == "__main__":
    main()
