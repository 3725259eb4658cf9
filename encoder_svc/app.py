"""The encoder as the chassis runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from encoder_svc.engine import ServedEncoder, TextPools
from encoder_svc.model import EncoderModel
from encoder_svc.models.load import load_models
from encoder_svc.service import EncoderServicer
from encoder_svc.settings import EncoderSettings
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.process.server import Runtime
from lensmesh_inference.engine import EngineResources
from lensmesh_serving.app import ModelServiceApp

SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name


class EncoderApp(ModelServiceApp[EncoderSettings, EncoderModel, ServedEncoder]):
    """EncoderService with the models that its settings name."""

    def __init__(
        self,
        runtime: Runtime[EncoderSettings],
        load: Callable[[EncoderSettings], Sequence[EncoderModel]] = load_models,
    ) -> None:
        self._texts = TextPools()
        super().__init__(runtime, SERVICE, load, pools=self._texts.all)

    def add_servicer(self, server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderServicer(self), server)

    def serve(self, model: EncoderModel, resources: EngineResources) -> ServedEncoder:
        return ServedEncoder(model, resources, self._texts)
