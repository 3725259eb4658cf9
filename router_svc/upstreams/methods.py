"""The methods that the router calls on the services behind it. What it only passes on, it reads from the contract."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lensmesh.caption.v1 import caption_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class UpstreamMethod(Generic[Q, A]):
    """A method of a contract, to be called on the stub of whichever upstream takes the work."""

    name: str
    request: type[Q]
    answer: type[A]
    """Of a streamed answer: one piece of it."""

    @classmethod
    def of(cls, method: MethodDescriptor) -> "UpstreamMethod[Any, Any]":
        """Return the method that a contract describes."""
        return UpstreamMethod(method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type))


ENCODE_IMAGES = UpstreamMethod("EncodeImages", encoder_pb2.EncodeImagesRequest, encoder_pb2.EncodeImagesResponse)
ENCODE_TEXTS = UpstreamMethod("EncodeTexts", encoder_pb2.EncodeTextsRequest, encoder_pb2.EncodeTextsResponse)
CLASSIFY_IMAGES = UpstreamMethod(
    "ClassifyImages", encoder_pb2.ClassifyImagesRequest, encoder_pb2.ClassifyImagesResponse
)

CAPTION_IMAGES = UpstreamMethod("CaptionImages", caption_pb2.CaptionImagesRequest, caption_pb2.CaptionImagesResponse)
STREAM_CAPTION = UpstreamMethod("StreamCaption", caption_pb2.StreamCaptionRequest, caption_pb2.StreamCaptionResponse)

GET_SEARCH_INFO = UpstreamMethod("GetInfo", search_pb2.GetInfoRequest, search_pb2.GetInfoResponse)
CREATE_COLLECTION = UpstreamMethod(
    "CreateCollection", search_pb2.CreateCollectionRequest, search_pb2.CreateCollectionResponse
)
GET_COLLECTION = UpstreamMethod("GetCollection", search_pb2.GetCollectionRequest, search_pb2.GetCollectionResponse)
UPSERT_ITEMS = UpstreamMethod("UpsertItems", search_pb2.UpsertItemsRequest, search_pb2.UpsertItemsResponse)
GET_ITEMS = UpstreamMethod("GetItems", search_pb2.GetItemsRequest, search_pb2.GetItemsResponse)
LIST_ITEMS = UpstreamMethod("ListItems", search_pb2.ListItemsRequest, search_pb2.ListItemsResponse)
SEARCH = UpstreamMethod("Search", search_pb2.SearchRequest, search_pb2.SearchResponse)
BATCH_SEARCH = UpstreamMethod("BatchSearch", search_pb2.BatchSearchRequest, search_pb2.BatchSearchResponse)
