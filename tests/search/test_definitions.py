"""Definitions of collections, checked before any store sees them."""

from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.wire.collections import read_definition
from tests.search.support import collection, named_space


def changed(**spaces: Any) -> search_pb2.Collection:
    return collection("pictures", named_space(**spaces))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (collection(""), "collection.name"),
        (collection("1st"), "collection.name"),
        (collection("Pictures"), "collection.name"),
        (collection("a" * 64), "collection.name"),
        (collection("a\x00"), "collection.name"),
        (search_pb2.Collection(name="pictures"), "collection.spaces"),
        (changed(name=""), "collection.spaces[0].name"),
        (changed(name="with-dash"), "collection.spaces[0].name"),
        (changed(space={"id": ""}), "collection.spaces[0].space.id"),
        (changed(space={"id": "a\x00"}), "collection.spaces[0].space.id"),
        (changed(dimension=0), "collection.spaces[0].space.dimension"),
        (changed(dimension=4_001), "collection.spaces[0].space.dimension"),
        (changed(dimension=2_001, stored_as=common_pb2.DATA_TYPE_FLOAT32), "collection.spaces[0].space.dimension"),
        (changed(dimension=16_001, flat=True), "collection.spaces[0].space.dimension"),
        (changed(hnsw=search_pb2.HnswIndex(m=1)), "collection.spaces[0].index.hnsw.m"),
        (changed(hnsw=search_pb2.HnswIndex(m=101)), "collection.spaces[0].index.hnsw.m"),
        (changed(hnsw=search_pb2.HnswIndex(m=65)), "collection.spaces[0].index.hnsw.ef_construction"),
        (changed(hnsw=search_pb2.HnswIndex(ef_construction=1_001)), "collection.spaces[0].index.hnsw.ef_construction"),
        (changed(flat=True, deferred=search_pb2.DeferredBuild()), "collection.spaces[0].index.deferred"),
        (
            changed(deferred=search_pb2.DeferredBuild(at_item_count=2**63)),
            "collection.spaces[0].index.deferred.at_item_count",
        ),
        (changed(hnsw=search_pb2.HnswIndex(m=2, ef_construction=3)), "collection.spaces[0].index.hnsw.ef_construction"),
        (collection("pictures", named_space(), named_space()), "collection.spaces[1].name"),
        (collection(indexes={"a": 0}), "collection.field_indexes[0].type"),
        (collection(indexes={"a..b": 1}), "collection.field_indexes[0].field"),
        (collection(indexes={"": 1}), "collection.field_indexes[0].field"),
        (collection(indexes={"$id": 1}), "collection.field_indexes[0].field"),
        (collection(indexes={"a\x00": 1}), "collection.field_indexes[0].field"),
    ],
)
def test_bad_definitions(bad: search_pb2.Collection, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_definition(bad)
    assert caught.value.reason is Reason.COLLECTION_INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


def test_everything_wrong_is_named_at_once() -> None:
    bad = collection("pictures", named_space(dimension=0), named_space("Bad"))
    with pytest.raises(InvalidInput) as caught:
        read_definition(bad)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["collection.spaces[0].space.dimension", "collection.spaces[1].name"]
