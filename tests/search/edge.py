"""Qdrant's own engine in process (qdrant-edge-py), behind those methods of the client that the stand-in calls."""

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client.http import models

_DISTANCES = {models.Distance.DOT: edge.Distance.Dot, models.Distance.COSINE: edge.Distance.Cosine}
_TYPES = {
    models.Datatype.FLOAT16: edge.VectorStorageDatatype.Float16,
    models.Datatype.FLOAT32: edge.VectorStorageDatatype.Float32,
}
_SCHEMAS = {
    models.PayloadSchemaType.KEYWORD: edge.PayloadSchemaType.Keyword,
    models.PayloadSchemaType.INTEGER: edge.PayloadSchemaType.Integer,
    models.PayloadSchemaType.FLOAT: edge.PayloadSchemaType.Float,
    models.PayloadSchemaType.DATETIME: edge.PayloadSchemaType.Datetime,
}
_MODES = {
    None: None,
    models.UpdateMode.UPSERT: edge.UpdateMode.Upsert,
    models.UpdateMode.INSERT_ONLY: edge.UpdateMode.InsertOnly,
}
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4 << 30
_Pages = tuple[list[models.Record], str | None]


class EdgeEngine:
    """Collections, each a shard in a temporary folder."""

    def __init__(self) -> None:
        # In memory where the system has room there: the engine waits for the disk with each shard it makes. A
        # container's folder is often of 64 MiB, and a process that maps a file there beyond its end is killed.
        fits = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
        where = _MEMORY if fits else None
        self._folder = tempfile.TemporaryDirectory(prefix="lensmesh-edge-", dir=where)
        self._shards: dict[str, Any] = {}

    async def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._folder.cleanup()

    async def create_collection(self, name: str, *, vectors_config: dict[str, models.VectorParams]) -> None:
        if name in self._shards:
            raise ValueError(f"Collection {name} already exists")
        path = Path(self._folder.name) / uuid.uuid4().hex
        path.mkdir()
        vectors = {key: _vector(params) for key, params in vectors_config.items()}
        self._shards[name] = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=vectors))

    async def delete_collection(self, name: str) -> bool:
        shard = self._shards.pop(name, None)
        if shard is not None:
            shard.close()
        return shard is not None

    async def collection_exists(self, name: str) -> bool:
        return name in self._shards

    async def get_collections(self) -> models.CollectionsResponse:
        return models.CollectionsResponse(
            collections=[models.CollectionDescription(name=name) for name in self._shards]
        )

    async def create_payload_index(self, name: str, field: str, *, field_schema: models.PayloadSchemaType) -> None:
        self._shard(name).update(edge.UpdateOperation.create_field_index(field, _SCHEMAS[field_schema]))

    async def upsert(
        self, name: str, points: list[models.PointStruct], *, update_mode: models.UpdateMode | None = None
    ) -> None:
        ours = [edge.Point(uuid.UUID(str(each.id)), _named(each), each.payload) for each in points]
        self._shard(name).update(edge.UpdateOperation.upsert_points(ours, update_mode=_MODES[update_mode]))

    async def set_payload(self, name: str, payload: dict[str, Any], *, points: models.FilterSelector) -> None:
        operation = edge.UpdateOperation.set_payload_by_filter(_filter(points.filter), payload)
        self._shard(name).update(operation)

    async def delete(self, name: str, *, points_selector: models.PointsSelector) -> None:
        if isinstance(points_selector, models.PointIdsList):
            operation = edge.UpdateOperation.delete_points([uuid.UUID(str(each)) for each in points_selector.points])
        else:
            assert isinstance(points_selector, models.FilterSelector)
            operation = edge.UpdateOperation.delete_points_by_filter(_filter(points_selector.filter))
        self._shard(name).update(operation)

    async def retrieve(self, name: str, ids: list[Any], **what: Any) -> list[models.Record]:
        found = self._shard(name).retrieve([uuid.UUID(str(each)) for each in ids], **_what(what))
        return [_record(each) for each in found]

    async def scroll(
        self, name: str, *, scroll_filter: models.Filter | None, limit: int, offset: str | None, **what: Any
    ) -> _Pages:
        begin = None if offset is None else uuid.UUID(offset)
        request = edge.ScrollRequest(offset=begin, limit=limit, filter=_filter(scroll_filter), **_what(what))
        records, following = self._shard(name).scroll(request)
        return [_record(each) for each in records], None if following is None else str(following)

    async def count(self, name: str, *, count_filter: models.Filter | None = None) -> models.CountResult:
        request = edge.CountRequest(exact=True, filter=_filter(count_filter))
        return models.CountResult(count=self._shard(name).count(request))

    async def query_points(
        self, name: str, *, query: list[float], using: str, query_filter: models.Filter | None, limit: int, **what: Any
    ) -> models.QueryResponse:
        params = what.pop("search_params", None) or models.SearchParams()
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(query, using=using),
            filter=_filter(query_filter),
            params=edge.SearchParams(hnsw_ef=params.hnsw_ef, exact=bool(params.exact)),
            **_what(what),
        )
        points = [
            models.ScoredPoint(id=str(each.id), version=0, score=each.score, payload=each.payload)
            for each in self._shard(name).query(request)
        ]
        return models.QueryResponse(points=points)

    async def facet(
        self, name: str, key: str, *, facet_filter: models.Filter | None, limit: int
    ) -> models.FacetResponse:
        request = edge.FacetRequest(key, limit=limit, exact=True, filter=_filter(facet_filter))
        hits = self._shard(name).facet(request).hits
        return models.FacetResponse(hits=[models.FacetValueHit(value=each.value, count=each.count) for each in hits])

    def _shard(self, name: str) -> Any:
        if name not in self._shards:
            raise ValueError(f"Collection {name} not found")
        return self._shards[name]


def _named(point: models.PointStruct) -> Any:
    return point.vector


def _vector(params: models.VectorParams) -> Any:
    hnsw = params.hnsw_config or models.HnswConfigDiff()
    m = 16 if hnsw.m is None else hnsw.m
    return edge.EdgeVectorParams(
        size=params.size,
        distance=_DISTANCES[params.distance],
        datatype=_TYPES[params.datatype or models.Datatype.FLOAT32],
        hnsw_config=edge.HnswIndexConfig(m=m, ef_construct=hnsw.ef_construct or 100, full_scan_threshold=10),
    )


def _what(what: dict[str, Any]) -> dict[str, Any]:
    """What of each point comes back."""
    payload = what.get("with_payload")
    if isinstance(payload, models.PayloadSelectorInclude):
        payload = payload.include
    return {"with_payload": payload, "with_vector": what.get("with_vectors", False)}


def _record(record: Any) -> models.Record:
    return models.Record(id=str(record.id), payload=record.payload, vector=record.vector)


def _filter(chosen: models.Filter | None) -> Any:
    if chosen is None:
        return None

    def part(conditions: Any) -> Any:
        return conditions and [_condition(each) for each in conditions]

    return edge.Filter(must=part(chosen.must), should=part(chosen.should), must_not=part(chosen.must_not))


def _condition(condition: Any) -> Any:
    match condition:
        case models.Filter():
            return _filter(condition)
        case models.HasIdCondition():
            return edge.HasIdCondition({uuid.UUID(str(each)) for each in condition.has_id})
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case models.FieldCondition(match=models.MatchAny() as match):
            return edge.FieldCondition(condition.key, match=edge.MatchAny(match.any))
        case models.FieldCondition(range=models.DatetimeRange() as moments):
            return edge.FieldCondition(condition.key, range=edge.RangeDateTime(**moments.model_dump(mode="json")))
        case models.FieldCondition(range=models.Range() as numbers):
            return edge.FieldCondition(condition.key, range=edge.RangeFloat(**numbers.model_dump()))
        case _:
            raise ValueError(f"the stand-in knows no such condition: {condition!r}")
