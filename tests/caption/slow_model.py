"""A model whose words come one by one, as a test lets them."""

import threading
from collections.abc import Sequence

from caption_svc.model import Caption, CaptionerInput, Worker
from caption_svc.models.blip import BlipCaptioner
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import LensmeshError


class SlowModel:
    """The tiny BLIP, one step at a time: each word waits for `step`."""

    def __init__(self, model: BlipCaptioner) -> None:
        self.model = model
        self.facts = model.facts
        self.input_bytes = model.input_bytes
        self.devices, self.plan, self.prepare = model.devices, model.plan, model.prepare
        self.step = threading.Semaphore(0)
        self.steps = 0

    def workers(self) -> Sequence[Worker]:
        return [self.caption]

    def caption(self, jobs: Sequence[CaptionerInput]) -> Sequence[Caption | LensmeshError]:
        for job in jobs:
            if job.on_text is not None:
                self._slow_down(job)
        return self.model.workers()[0](jobs)

    def _slow_down(self, job: CaptionerInput) -> None:
        told = job.on_text
        assert told is not None

        def on_text(text: str) -> None:
            self.steps += 1
            told(text)
            assert self.step.acquire(timeout=30)

        job.on_text = on_text


def request(content: bytes) -> caption_pb2.StreamCaptionRequest:
    return caption_pb2.StreamCaptionRequest(
        image=common_pb2.Image(content=content), options=caption_pb2.CaptionOptions(prompt="a red", max_tokens=20)
    )
