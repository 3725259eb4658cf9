"""The typed client of a lensmesh mesh: images in, found images, vectors and captions out. Needs no torch.

from lensmesh_client import Client, SyncClient
"""

from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_client.client import Client
from lensmesh_client.errors import LensmeshError
from lensmesh_client.filters import parse_filter
from lensmesh_client.images import ImageLike
from lensmesh_client.mesh import Health, Limits, MeshStatus, Model, ModelKind, Service
from lensmesh_client.sync import SyncClient
from lensmesh_client.types import (
    Caption,
    CaptionResult,
    Captions,
    Change,
    Embeddings,
    Hit,
    IngestItem,
    IngestResult,
    MetadataPolicy,
    Outcome,
    Priority,
    SearchResult,
    Timings,
    Transparency,
)

__all__ = [
    "Caption",
    "CaptionResult",
    "Captions",
    "Change",
    "ChannelSecurity",
    "Client",
    "Embeddings",
    "Health",
    "Hit",
    "ImageLike",
    "IngestItem",
    "IngestResult",
    "LensmeshError",
    "Limits",
    "MeshStatus",
    "MetadataPolicy",
    "Model",
    "ModelKind",
    "Outcome",
    "Priority",
    "SearchResult",
    "Service",
    "SyncClient",
    "Timings",
    "Transparency",
    "parse_filter",
]
