"""How images are made findable: what a request may choose, and the contract's options for it."""

from typing import Annotated, Any, Literal

from google.protobuf import struct_pb2
from pydantic import Field

from http_svc.rest.asked import AskedInQuery
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client import metadata as metadata_of

Captions = Annotated[
    Literal["best-effort", "required", "none"], Field(description="What a generated caption is worth.")
]
NearAction = Annotated[
    Literal["store", "mark", "skip"], Field(description="What becomes of images that look the same as others'.")
]

_CAPTIONS = {
    "best-effort": router_pb2.CAPTION_POLICY_BEST_EFFORT,
    "required": router_pb2.CAPTION_POLICY_REQUIRED,
    "none": router_pb2.CAPTION_POLICY_NONE,
}
_NEAR = {
    "store": router_pb2.NEAR_DUPLICATE_ACTION_STORE,
    "mark": router_pb2.NEAR_DUPLICATE_ACTION_MARK,
    "skip": router_pb2.NEAR_DUPLICATE_ACTION_SKIP,
}
_METADATA = {"merge": search_pb2.METADATA_POLICY_MERGE, "replace": search_pb2.METADATA_POLICY_REPLACE}


class IngestQuery(AskedInQuery):
    """How the images of an ingest are made findable."""

    collection: Annotated[str, Field(description="The mesh's default unless given; made where it is missing.")] = ""
    captions: Captions = "best-effort"
    near_duplicates: NearAction | None = None
    metadata: Annotated[
        Literal["merge", "replace"], Field(description="What becomes of metadata that is stored already.")
    ] = "merge"
    local_features: Annotated[bool, Field(description="Whether a collection that is made keeps local features.")] = (
        False
    )
    deferred_index: Annotated[
        bool, Field(description="Whether a collection that is made leaves its index for later: for a large ingest.")
    ] = False


def ingest_options(asked: IngestQuery) -> router_pb2.IngestOptions:
    """Return the options of a call or a stream."""
    options = router_pb2.IngestOptions(
        collection=asked.collection,
        captions=_CAPTIONS[asked.captions],
        metadata_policy=_METADATA[asked.metadata],
        local_features=asked.local_features,
        deferred_index=asked.deferred_index,
    )
    if asked.near_duplicates is not None:
        options.near_duplicates.action = _NEAR[asked.near_duplicates]
    return options


def metadata_struct(values: dict[str, Any]) -> struct_pb2.Struct:
    """Return metadata as the contracts carry it. Raises InvalidInput that names what JSON of doubles cannot hold."""
    return metadata_of.struct(values)
