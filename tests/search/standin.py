"""A stand-in for a Qdrant server: its gRPC API, answered by Qdrant's own engine in process.

No package index has the server, so this is what the network side of the store is tested with. What it answers is the
engine's; what is not is written here: errors' codes, authentication, and nothing of a cluster. With
LENSMESH_TEST_QDRANT_URL the same tests run against a real server.
"""

import asyncio
import re
from typing import Any

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client import grpc as api
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_to_payload
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from lensmesh_chassis.tls.credentials import ChannelSecurity
from search_svc.qdrant.address import QdrantAddress, parse_address
from search_svc.qdrant.engine import Remote
from tests.search.edge import EdgeEngine

Code = grpc.StatusCode
# Generated without types.
_REGISTER: tuple[Any, ...] = (
    points_service_pb2_grpc.add_PointsServicer_to_server,
    collections_service_pb2_grpc.add_CollectionsServicer_to_server,
    qdrant_pb2_grpc.add_QdrantServicer_to_server,
)
_SCHEMAS = {
    api.FieldType.FieldTypeKeyword: models.PayloadSchemaType.KEYWORD,
    api.FieldType.FieldTypeInteger: models.PayloadSchemaType.INTEGER,
    api.FieldType.FieldTypeFloat: models.PayloadSchemaType.FLOAT,
    api.FieldType.FieldTypeDatetime: models.PayloadSchemaType.DATETIME,
}
_FACETED = {api.FieldType.FieldTypeKeyword, api.FieldType.FieldTypeInteger, api.FieldType.FieldTypeBool}


class StandIn:
    """The server. Faults are attributes, to be set at any time."""

    def __init__(self, *, api_key: str = "", version: str = "1.17.0") -> None:
        self.api_key = api_key
        self.version = version
        self.port = 0
        # While False, calls wait: the server seems to hang.
        self.flowing = asyncio.Event()
        self.flowing.set()
        # Names of calls, and writes that would be acknowledged too early.
        self.calls: list[str] = []
        self.careless: list[str] = []
        # Calls of these names fail with these codes.
        self.failing: dict[str, grpc.StatusCode] = {}
        # Calls of these names wait, of this collection where one is named; and those that have waited.
        self.holding: set[str] = set()
        self.held_of = ""
        self.held: list[str] = []
        self.created: list[api.CreateCollection] = []
        self.updated: list[api.UpdateCollection] = []
        # Metadata of the last call, and of the last call of each name.
        self.metadata: list[tuple[str, str]] = []
        self.seen: dict[str, list[tuple[str, str]]] = {}
        # While set, graphs are being built: this much of the vectors has one.
        self.optimized: float | None = None
        # Why the optimizer failed; and whether it waits for a word, as after a restart.
        self.optimizer_error = ""
        self.waits = False
        self._thresholds: dict[str, int] = {}
        self._indexes: dict[str, dict[str, int]] = {}
        self._engine: Any = EdgeEngine()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens, at the port that it had before if it did."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        for register in _REGISTER:
            register(_Service(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Ends every connection; what is stored stays."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def remove(self) -> None:
        """Stops, and forgets what is stored."""
        await self.stop()
        await self._engine.close()

    def forget_indexes(self, name: str) -> None:
        """As of a collection that an older release made."""
        self._indexes.pop(name, None)

    def indexes(self, collection: str) -> set[str]:
        """Keys of the payload that are indexed."""
        return set(self._indexes.get(collection, {}))

    def url(self, key: str = "", prefix: str = "") -> str:
        return f"qdrant://{f':{key}@' if key else ''}127.0.0.1:{self.port}/{prefix}"

    async def answer(self, name: str, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """One call, with the faults that are set."""
        self.calls.append(name)
        self.metadata = [(str(key), str(value)) for key, value in context.invocation_metadata() or ()]
        self.seen[name] = self.metadata
        if self.api_key and ("api-key", self.api_key) not in self.metadata:
            await context.abort(Code.UNAUTHENTICATED, "Must provide an API key or an Authorization bearer token")
        await self.flowing.wait()
        if name in self.holding and self.held_of in ("", getattr(request, "collection_name", "")):
            self.held.append(name)
            # For ever: until whoever called is gone.
            await asyncio.Event().wait()
        if name in self.failing:
            await context.abort(self.failing[name], "made to fail")
        if isinstance(request, api.UpsertPoints | api.DeletePoints) and not (
            request.wait and request.ordering.type == api.WriteOrderingType.Strong
        ):
            self.careless.append(name)
        try:
            return await getattr(self, f"_{name}")(request)
        except ValueError as error:
            await context.abort(_code(str(error)), str(error))

    async def _HealthCheck(self, request: Any) -> Any:
        return api.HealthCheckReply(title="qdrant - vector search engine", version=self.version)

    async def _Create(self, request: api.CreateCollection) -> Any:
        self.created.append(request)
        await self._engine.create_collection(
            request.collection_name, vectors_config=GrpcToRest.convert_vectors_config(request.vectors_config)
        )
        if request.optimizers_config.HasField("indexing_threshold"):
            self._thresholds[request.collection_name] = request.optimizers_config.indexing_threshold
        return api.CollectionOperationResponse(result=True)

    async def _Update(self, request: api.UpdateCollection) -> Any:
        await self._engine.count(request.collection_name)
        if request.optimizers_config.HasField("indexing_threshold"):
            self._thresholds[request.collection_name] = request.optimizers_config.indexing_threshold
        self.updated.append(request)
        self.waits = False
        return api.CollectionOperationResponse(result=True)

    async def _Get_collection(self, request: api.GetCollectionInfoRequest) -> Any:
        count = (await self._engine.count(request.collection_name)).count
        status = models.CollectionStatus.GREEN
        if self.optimized is not None:
            status = models.CollectionStatus.YELLOW
        if self.waits:
            status = models.CollectionStatus.GREY
        info = models.CollectionInfo(
            status=status,
            optimizer_status=models.OptimizersStatusOneOf1(error=self.optimizer_error)
            if self.optimizer_error
            else models.OptimizersStatusOneOf.OK,
            indexed_vectors_count=int(count * (1.0 if self.optimized is None else self.optimized)),
            points_count=count,
            segments_count=1,
            payload_schema={},
            config=models.CollectionConfig(
                params=models.CollectionParams(),
                hnsw_config=models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
                wal_config=models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0),
                optimizer_config=models.OptimizersConfig(
                    deleted_threshold=0.2,
                    vacuum_min_vector_number=1_000,
                    default_segment_number=0,
                    indexing_threshold=self._thresholds.get(request.collection_name, 10_000),
                    flush_interval_sec=5,
                ),
            ),
        )
        return api.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    async def _Delete_collection(self, request: api.DeleteCollection) -> Any:
        self._indexes.pop(request.collection_name, None)
        return api.CollectionOperationResponse(result=await self._engine.delete_collection(request.collection_name))

    async def _CollectionExists(self, request: Any) -> Any:
        exists = await self._engine.collection_exists(request.collection_name)
        return api.CollectionExistsResponse(result=api.CollectionExists(exists=exists))

    async def _List(self, request: Any) -> Any:
        names = [each.name for each in (await self._engine.get_collections()).collections]
        return api.ListCollectionsResponse(collections=[api.CollectionDescription(name=name) for name in names])

    async def _CreateFieldIndex(self, request: api.CreateFieldIndexCollection) -> Any:
        await self._engine.count(request.collection_name)
        if '"' in request.field_name.replace('"', "", 2):
            raise ValueError(f"Invalid JSON path: {request.field_name}")
        self._indexes.setdefault(request.collection_name, {})[request.field_name] = request.field_type
        schema = _SCHEMAS[request.field_type]
        await self._engine.create_payload_index(request.collection_name, request.field_name, field_schema=schema)
        return _done()

    async def _Upsert(self, request: api.UpsertPoints) -> Any:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        mode: Any = request.update_mode
        mode = GrpcToRest.convert_update_mode(mode) if request.HasField("update_mode") else None
        await self._engine.upsert(request.collection_name, points, update_mode=mode)
        return _done()

    async def _SetPayload(self, request: api.SetPayloadPoints) -> Any:
        await self._engine.set_payload(
            request.collection_name,
            grpc_to_payload(request.payload),
            points=GrpcToRest.convert_points_selector(request.points_selector),
        )
        return _done()

    async def _Delete(self, request: Any) -> Any:
        if isinstance(request, api.DeleteCollection):
            return await self._Delete_collection(request)
        selector = GrpcToRest.convert_points_selector(request.points)
        await self._engine.delete(request.collection_name, points_selector=selector)
        return _done()

    async def _Get(self, request: Any) -> Any:
        if isinstance(request, api.GetCollectionInfoRequest):
            return await self._Get_collection(request)
        records = await self._engine.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(point) for point in request.ids],
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        # A server promises no order.
        return api.GetResponse(result=[_record(record) for record in reversed(records)])

    async def _Scroll(self, request: api.ScrollPoints) -> Any:
        records, offset = await self._engine.scroll(
            request.collection_name,
            scroll_filter=_filter(request, "filter"),
            limit=request.limit,
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
        )
        response = api.ScrollResponse(result=[_record(record) for record in records])
        if offset is not None:
            response.next_page_offset.CopyFrom(RestToGrpc.convert_extended_point_id(offset))
        return response

    async def _Count(self, request: api.CountPoints) -> Any:
        counted = await self._engine.count(request.collection_name, count_filter=_filter(request, "filter"))
        return api.CountResponse(result=api.CountResult(count=counted.count))

    async def _Query(self, request: api.QueryPoints) -> Any:
        return api.QueryResponse(result=await self._scored(request))

    async def _QueryBatch(self, request: api.QueryBatchPoints) -> Any:
        results = [api.BatchResult(result=await self._scored(each)) for each in request.query_points]
        return api.QueryBatchResponse(result=results)

    async def _scored(self, request: api.QueryPoints) -> list[Any]:
        query = GrpcToRest.convert_query(request.query)
        found = await self._engine.query_points(
            request.collection_name,
            query=query.nearest if isinstance(query, models.NearestQuery) else query,
            using=request.using,
            query_filter=_filter(request, "filter"),
            limit=request.limit,
            search_params=GrpcToRest.convert_search_params(request.params) if request.HasField("params") else None,
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
        )
        return [RestToGrpc.convert_scored_point(point) for point in found.points]

    async def _Facet(self, request: api.FacetCounts) -> Any:
        if self._indexes.get(request.collection_name, {}).get(request.key) not in _FACETED:
            raise ValueError(f"No appropriate index for faceting: {request.key}")
        found = await self._engine.facet(
            request.collection_name, request.key, facet_filter=_filter(request, "filter"), limit=1_000_000
        )
        hits = sorted(found.hits, key=lambda hit: (hit.count, str(hit.value)), reverse=True)[: request.limit]
        return api.FacetResponse(hits=[RestToGrpc.convert_facet_value_hit(hit) for hit in hits])


class _Service:
    """A servicer whose every method is the stand-in's of the same name."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin

    def __getattr__(self, method: str) -> Any:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._standin.answer(method, request, context)

        return answer


def _filter(request: Any, field: str) -> models.Filter | None:
    return GrpcToRest.convert_filter(getattr(request, field)) if request.HasField(field) else None


def _record(record: models.Record) -> Any:
    # The converter wants a payload.
    return RestToGrpc.convert_record(record.model_copy(update={"payload": record.payload or {}}))


def _done() -> Any:
    return api.PointsOperationResponse(result=api.UpdateResult(operation_id=1, status=api.UpdateStatus.Completed))


def _code(message: str) -> grpc.StatusCode:
    if re.fullmatch("Collection .* not found", message):
        return Code.NOT_FOUND
    if re.fullmatch("Collection .* already exists", message):
        return Code.ALREADY_EXISTS
    return Code.INVALID_ARGUMENT


async def remove_collections(url: str) -> None:
    """Removes what a test made on a real server."""
    address = parse_address(url)
    assert isinstance(address, QdrantAddress)

    async def work(client: AsyncQdrantClient) -> None:
        for each in (await client.get_collections()).collections:
            if each.name == address.prefix or each.name.startswith(f"{address.prefix}."):
                await client.delete_collection(each.name)

    engine = Remote(address, ChannelSecurity())
    await engine.run(work, timeout_s=60)
    await engine.close()
