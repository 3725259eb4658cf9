"""A model service whose model has faults on demand: `python -m tests.faults.faulty encoder|caption`.

It is the service as it is, but for its model: the mock, which before each batch reads from the file that FAULTS names
what is to go wrong. Images of the sizes that `poison.py` names end the encoder at any time. Nothing of a service's own
is patched.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from caption_svc.app import CaptionApp
from caption_svc.model import Caption, CaptionerInput
from caption_svc.models.mock import MockCaptioner
from caption_svc.settings import CaptionSettings
from encoder_svc.app import EncoderApp
from encoder_svc.model import EncoderInput, Vector
from encoder_svc.models.mock import MockModel
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.process.server import Runtime, run
from lensmesh_chassis.settings import load_settings
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency
from tests.faults.poison import DEADLY_TO_COMPUTE, DEADLY_TO_DECODE, DeadlyLimits, end_this_process


class Fault:
    """What the file says now, and what comes of it.

    "hang": the batch never ends. "raise", "lost": it raises. "oom N": it does not fit where it has more than N items.
    "slow S": it takes S seconds. "nan": numbers that are none; "other": another answer. "block" is no fault of the
    model: it blocks the event loop.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Started again, a process finds its device well, as after a reset of the driver.
        self._begun = time.time()

    def _words(self) -> list[str]:
        if not self._file.exists() or self._file.stat().st_mtime < self._begun:
            return []
        return self._file.read_text().split()

    async def block_when_told(self) -> None:
        """On the event loop."""
        while self._words() != ["block"]:  # noqa: ASYNC110 - the file is another process's
            await asyncio.sleep(0.05)
        time.sleep(3600)  # noqa: ASYNC251 - that is the fault

    def strike(self, items: int) -> str:
        """What is to be done to the answers: "nan", "other" or nothing."""
        match self._words():
            case ["hang"]:
                threading.Event().wait()
            case ["raise"]:
                raise RuntimeError("secret: the device is confused")
            case ["lost"]:
                raise DeviceLost("the device fell off the bus")
            case ["oom", most] if items > int(most):
                raise OutOfMemory("does not fit")
            case ["slow", seconds]:
                time.sleep(float(seconds))
            case ["nan" | "other" as word]:
                return word
        return ""


class FaultyEncoder(MockModel):
    """The mock encoder with faults."""

    def __init__(self, fault: Fault) -> None:
        super().__init__("mock")
        self._fault = fault
        self._deadly: set[bytes] = set()

    def prepare_image(
        self,
        content: bytes,
        decoder: ImageDecoder,
        field: str,
        transparency: Transparency = Transparency.DROP,
        *,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
    ) -> EncoderInput:
        size = Image.open(io.BytesIO(content)).size
        if size == DEADLY_TO_DECODE:
            decoder = decoder.within(DeadlyLimits())
        if size == DEADLY_TO_COMPUTE:
            self._deadly.add(hashlib.sha256(content).digest())
        return super().prepare_image(
            content, decoder, field, transparency, hashed=hashed, featured=featured, thumbnail_px=thumbnail_px
        )

    def compute(self, batch: Sequence[EncoderInput]) -> Sequence[Vector]:
        if any(item.data in self._deadly for item in batch):
            end_this_process()
        word = self._fault.strike(len(batch))
        vectors = super().compute(batch)
        if word == "nan":
            return [np.full_like(vector, np.nan) for vector in vectors]
        return [-vector for vector in vectors] if word else vectors


class FaultyCaptioner(MockCaptioner):
    """The mock captioner with faults."""

    def __init__(self, fault: Fault) -> None:
        super().__init__("mock")
        self._fault = fault

    def caption(self, jobs: Sequence[CaptionerInput]) -> list[Caption]:
        word = self._fault.strike(len(jobs))
        return [
            Caption(f"{word} {one.text}".strip(), one.confidence, one.token_count, one.truncated)
            for one in super().caption(jobs)
        ]


def main() -> None:
    """Run until a signal, or until it gives up."""
    fault, blocking = Fault(Path(os.environ["FAULTS"])), list[asyncio.Task[None]]()
    if sys.argv[1] == "encoder":
        encoder = FaultyEncoder(fault)

        def build(runtime: Runtime[EncoderSettings]) -> EncoderApp:
            blocking.append(asyncio.create_task(fault.block_when_told()))
            return EncoderApp(runtime, lambda _: [encoder])

        run(load_settings(EncoderSettings), build, "encoder")
    else:
        captioner = FaultyCaptioner(fault)
        run(load_settings(CaptionSettings), lambda runtime: CaptionApp(runtime, lambda _: [captioner]), "caption")


if __name__ == "__main__":
    main()
