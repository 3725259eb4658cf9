"""The asynchronous stubs by one name for the type checker and for the interpreter: the former knows a class more."""

from typing import TYPE_CHECKING

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc

if TYPE_CHECKING:
    EncoderStub = encoder_pb2_grpc.EncoderServiceAsyncStub
    CaptionerStub = caption_pb2_grpc.CaptionerServiceAsyncStub
    SearchStub = search_pb2_grpc.SearchServiceAsyncStub
else:
    EncoderStub = encoder_pb2_grpc.EncoderServiceStub
    CaptionerStub = caption_pb2_grpc.CaptionerServiceStub
    SearchStub = search_pb2_grpc.SearchServiceStub
