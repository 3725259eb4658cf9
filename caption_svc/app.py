"""The captioner as the chassis runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from caption_svc.engine import ServedCaptioner
from caption_svc.model import CaptionModel
from caption_svc.models.load import load_models
from caption_svc.service import CaptionerServicer
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh_chassis.process.server import Runtime
from lensmesh_inference.engine import EngineResources
from lensmesh_inference.images.pool import DecodePool
from lensmesh_serving.app import ModelServiceApp

SERVICE = caption_pb2.DESCRIPTOR.services_by_name["CaptionerService"].full_name


class CaptionApp(ModelServiceApp[CaptionSettings, CaptionModel, ServedCaptioner]):
    """CaptionerService with the models that its settings name."""

    def __init__(
        self,
        runtime: Runtime[CaptionSettings],
        load: Callable[[CaptionSettings], Sequence[CaptionModel]] = load_models,
    ) -> None:
        # A thread of its own: no image waits for a prompt, however long.
        self._prompts = DecodePool(1, name="tokenize")
        super().__init__(runtime, SERVICE, load, pools=[self._prompts])

    def add_servicer(self, server: grpc.aio.Server) -> None:
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(CaptionerServicer(self), server)

    def serve(self, model: CaptionModel, resources: EngineResources) -> ServedCaptioner:
        tokens = self.settings.usual_caption_tokens
        return ServedCaptioner(model, resources, self._prompts, canary_tokens=tokens)
