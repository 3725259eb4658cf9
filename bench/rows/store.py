"""A store with items in it: PostgreSQL, SearchService, and a collection of vectors that lie as those of images do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from google.protobuf import struct_pb2

from bench.rows.sides import Side
from bench.services import Database, Service
from bench.stage import Stage
from bench.store.drawn import draw
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT

COLLECTION = "searched"
BATCH = 500
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Store:
    """The processes of a store."""

    database: Database
    search: Service


async def open_store(stage: Stage, side: Side) -> Store:
    """Start a database, and one checkout's service before it."""
    database = await stage.database(f"{side.prefix}database")
    settings = {"STORE_URL": database.uri}
    return Store(database, await stage.service("search", f"{side.prefix}search", settings, side.environment))


async def space_of(encoder: Service) -> common_pb2.VectorSpace:
    """Return the space that an Encoder serves by default."""
    async with grpc.aio.insecure_channel(encoder.address, [DIRECT]) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        info = await stub.GetInfo(encoder_pb2.GetInfoRequest(), timeout=PATIENCE_S)
        return info.models[0].spaces[0]


def collection(space: common_pb2.VectorSpace, name: str = COLLECTION) -> search_pb2.Collection:
    """Define a collection with the default index, and one indexed field."""
    return search_pb2.Collection(
        name=name,
        spaces=[search_pb2.NamedSpace(name="image", space=space)],
        field_indexes=[search_pb2.FieldIndex(field="group", type=search_pb2.FIELD_TYPE_KEYWORD)],
    )


def items(space: common_pb2.VectorSpace, count: int) -> list[search_pb2.Item]:
    """Make items with vectors in clusters, and metadata such as images have."""
    vectors = draw(np.random.default_rng(1), count, space.dimension)
    made = []
    for number, vector in enumerate(vectors):
        metadata = struct_pb2.Struct()
        metadata.update({"group": f"g{number % 100}", "file": f"/images/{number}.jpg", "iso": 100})
        embedding = common_pb2.Embedding(
            space_id=space.id,
            data_type=common_pb2.DATA_TYPE_FLOAT16,
            dimension=space.dimension,
            data=vector.tobytes(),
        )
        made.append(search_pb2.Item(id=f"{number:08}", vectors={"image": embedding}, metadata=metadata))
    return made


def batches(name: str, made: Sequence[search_pb2.Item]) -> list[search_pb2.UpsertItemsRequest]:
    """Make the requests that write the items."""
    return [
        search_pb2.UpsertItemsRequest(collection=name, items=made[begin : begin + BATCH])
        for begin in range(0, len(made), BATCH)
    ]


async def fill(store: Store, defined: search_pb2.Collection, made: Sequence[search_pb2.Item]) -> None:
    """Make the collection and write the items."""
    async with grpc.aio.insecure_channel(store.search.address, [DIRECT]) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=defined), timeout=PATIENCE_S)
        for request in batches(defined.name, made):
            await stub.UpsertItems(request, timeout=PATIENCE_S)
