"""What the tests of search say often."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from search_svc.model import Definition, FieldIndex, FieldType, Hnsw, Item, NamedSpace, StoredAs, VectorSpace

SPACE_ID = "vs1-00000000000000000000000000000001"
OTHER_SPACE_ID = "vs1-00000000000000000000000000000002"
# Known to type checkers only.
Stub: TypeAlias = "search_pb2_grpc.SearchServiceAsyncStub"


def named_space(name: str = "image", dimension: int = 4, **options: Any) -> search_pb2.NamedSpace:
    """A normalized space; options are those of VectorSpace, `stored_as`, `flat`, `hnsw` and `deferred`."""
    flat, hnsw, deferred = options.pop("flat", False), options.pop("hnsw", None), options.pop("deferred", None)
    named = search_pb2.NamedSpace(name=name)
    named.space.CopyFrom(
        common_pb2.VectorSpace(
            **{"id": SPACE_ID, "dimension": dimension, "normalized": True, **options.pop("space", {})}
        )
    )
    named.index.stored_as = options.pop("stored_as", common_pb2.DATA_TYPE_UNSPECIFIED)
    if flat:
        named.index.flat.SetInParent()
    if hnsw is not None:
        named.index.hnsw.CopyFrom(hnsw)
    if deferred is not None:
        named.index.deferred.CopyFrom(deferred)
    assert not options
    return named


def collection(
    name: str = "pictures", *spaces: search_pb2.NamedSpace, indexes: Mapping[str, Any] | None = None
) -> search_pb2.Collection:
    """A collection; one space of four dimensions unless others are given."""
    message = search_pb2.Collection(name=name, spaces=spaces or [named_space()])
    for field, field_type in (indexes or {}).items():
        message.field_indexes.add(field=field, type=field_type)
    return message


async def create(stub: Stub, message: search_pb2.Collection | None = None) -> search_pb2.Collection:
    """Makes a collection and answers it."""
    response = await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=message or collection()))
    return response.collection


def embedding(numbers: Sequence[float] | NDArray[Any], space_id: str = SPACE_ID) -> common_pb2.Embedding:
    """A float32 vector."""
    array = np.asarray(numbers, dtype="<f4")
    return common_pb2.Embedding(
        space_id=space_id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=len(array), data=array.tobytes()
    )


def item(
    item_id: str,
    vector: Sequence[float] | NDArray[Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **fields: Any,
) -> search_pb2.Item:
    """An item with one vector named image."""
    message = search_pb2.Item(id=item_id, **fields)
    if vector is not None:
        message.vectors["image"].CopyFrom(embedding(vector))
    if metadata:
        message.metadata.update(metadata)
    return message


async def upsert(stub: Stub, *items: search_pb2.Item, into: str = "pictures") -> list[Any]:
    """Writes items and answers their outcomes."""
    response = await stub.UpsertItems(search_pb2.UpsertItemsRequest(collection=into, items=items))
    return [result.outcome for result in response.results]


def search_request(vector: Sequence[float] | NDArray[Any] | None = None, **fields: Any) -> search_pb2.SearchRequest:
    """A search in the first space, near a vector or, with `near`, an item."""
    near = fields.pop("near", "")
    request = search_pb2.SearchRequest(**{"collection": "pictures", **fields})
    leg = request.legs.add()
    if near:
        leg.item_id = near
    elif vector is not None:
        leg.embedding.CopyFrom(embedding(vector))
    return request


async def found(stub: Stub, request: search_pb2.SearchRequest) -> list[str]:
    """Ids of the hits."""
    return [hit.item.id for hit in (await stub.Search(request)).hits]


def where(field: str, **test: Any) -> search_pb2.Filter:
    """A filter of one condition: where("iso", equals=100)."""
    condition = search_pb2.Condition(field=field)
    for name, value in test.items():
        match name:
            case "equals":
                set_value(condition.equals, value)
            case "one_of":
                condition.one_of.SetInParent()
                condition.one_of.extend(value)
            case "range":
                condition.range.SetInParent()
                for bound, limit in value.items():
                    set_value(getattr(condition.range, bound), limit)
            case _:
                setattr(condition, name, value)
    return search_pb2.Filter(condition=condition)


def set_value(value: Any, what: Any) -> None:
    """Fills a google.protobuf.Value."""
    if isinstance(what, bool):
        value.bool_value = what
    elif isinstance(what, str):
        value.string_value = what
    elif what is None:
        value.null_value = 0
    else:
        value.number_value = what


def all_of(*filters: search_pb2.Filter) -> search_pb2.Filter:
    return search_pb2.Filter(all=search_pb2.FilterList(filters=filters))


def any_of(*filters: search_pb2.Filter) -> search_pb2.Filter:
    return search_pb2.Filter(any=search_pb2.FilterList(filters=filters))


def none_of(one: search_pb2.Filter) -> search_pb2.Filter:
    message = search_pb2.Filter()
    getattr(message, "not").CopyFrom(one)
    return message


async def listed(stub: Stub, chosen: search_pb2.Filter | None = None, **fields: Any) -> list[str]:
    """Ids of all items that a filter chooses, over as many pages as it takes."""
    ids: list[str] = []
    request = search_pb2.ListItemsRequest(**{"collection": "pictures", "filter": chosen, **fields})
    while True:
        page = await stub.ListItems(request)
        ids += [each.id for each in page.items]
        if not page.next_page_token:
            return ids
        request.page_token = page.next_page_token


async def index_status(stub: Stub, name: str = "pictures") -> search_pb2.IndexStatus:
    """How far the index of a collection's first space is."""
    answer = await stub.GetCollection(search_pb2.GetCollectionRequest(name=name))
    return answer.collection.spaces[0].index_status


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: Reason, *fields: str) -> LensmeshError:
    """The call fails with this code and reason, and names these fields."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert (caught.value.code(), error.reason) == (code, reason), error.message
    assert [violation.field for violation in error.violations][: len(fields)] == list(fields)
    return error


def definition(
    name: str = "pictures",
    dimension: int = 4,
    *,
    hnsw: bool = True,
    indexes: dict[str, FieldType] | None = None,
    language: str = "en",
    local_features: bool = False,
) -> Definition:
    """A collection of the domain, for tests of a store."""
    space = VectorSpace(SPACE_ID, "test", "", dimension, True, ())
    fields = tuple(FieldIndex(tuple(field.split(".")), field_type) for field, field_type in (indexes or {}).items())
    spaces = (NamedSpace("image", space, StoredAs.FLOAT16, Hnsw() if hnsw else None),)
    return Definition(name, spaces, fields, language, local_features)


def domain_item(item_id: str, vector: NDArray[Any] | None = None, metadata: str = "{}") -> Item:
    """An item of the domain with a unit vector."""
    vectors = {} if vector is None else {"image": (vector / np.linalg.norm(vector)).astype(np.float16)}
    return Item(item_id, vectors, metadata=metadata)


async def outcome(call: Awaitable[object]) -> object:
    """How a call ends."""
    try:
        await call
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
