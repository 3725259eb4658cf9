"""A store in memory that behaves by the contract."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc
import numpy as np

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotFound, PreconditionFailed
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.router.faults import Faults

CHANGES = {
    "content_digest": search_pb2.ITEM_CHANGE_CONTENT,
    "vectors": search_pb2.ITEM_CHANGE_VECTORS,
    "caption": search_pb2.ITEM_CHANGE_CAPTION,
    "metadata": search_pb2.ITEM_CHANGE_METADATA,
    "image_uri": search_pb2.ITEM_CHANGE_IMAGE_URI,
    "local_features": search_pb2.ITEM_CHANGE_LOCAL_FEATURES,
}


class FakeSearch(search_pb2_grpc.SearchServiceServicer):
    """A store in memory. An item whose metadata has "refuse" is refused by name."""

    name = "lensmesh.search.v1.SearchService"

    def __init__(self, max_items: int = 1000) -> None:
        self.max_items = max_items
        self.faults = Faults()
        self.collections: dict[str, search_pb2.Collection] = {}
        self.items: dict[str, dict[str, search_pb2.Item]] = {}
        self.writes: list[list[str]] = []
        self.searches: list[search_pb2.SearchRequest] = []
        self.made = 0
        self.knows_features = True
        """Older releases keep none."""
        self.jobs: dict[str, search_pb2.Job] = {}
        self.looks: list[search_pb2.Job | LensmeshError] = []
        self.released: asyncio.Event | None = None
        self.parts: list[search_pb2.DuplicateGroup | LensmeshError] = []

    def add(self, server: grpc.aio.Server) -> None:
        search_pb2_grpc.add_SearchServiceServicer_to_server(self, server)

    def make(self, name: str, *spaces: tuple[str, common_pb2.VectorSpace]) -> None:
        """A collection that is there already."""
        self.collections[name] = search_pb2.Collection(
            name=name,
            uid=self._uid(),
            spaces=[search_pb2.NamedSpace(name=space_name, space=space) for space_name, space in spaces],
        )
        self.items[name] = {}

    def _uid(self) -> str:
        self.made += 1
        return f"uid {self.made}"

    async def GetInfo(self, request: Any, context: Any) -> search_pb2.GetInfoResponse:
        return search_pb2.GetInfoResponse(
            store="memory 1",
            limits=common_pb2.Limits(
                max_items=self.max_items,
                max_message_bytes=32 << 20,
                max_metadata_bytes=65536,
                max_page_size=1000,
                max_hits=1000,
                max_offset=10000,
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-search"),
        )

    async def CreateCollection(self, request: search_pb2.CreateCollectionRequest, context: Any) -> Any:
        async with self.faults.call(1):
            if request.collection.name.startswith("9"):
                raise InvalidInput(Reason.COLLECTION_INVALID, "a name begins with a letter", field="collection.name")
            if not self.knows_features:
                request.collection.ClearField("local_features")
            if request.collection.name not in self.collections:
                request.collection.uid = self._uid()
            made = self.collections.setdefault(request.collection.name, request.collection)
            self.items.setdefault(made.name, {})
            return search_pb2.CreateCollectionResponse(collection=made)

    async def GetCollection(self, request: search_pb2.GetCollectionRequest, context: Any) -> Any:
        async with self.faults.call(1):
            return search_pb2.GetCollectionResponse(collection=self._collection(request.name))

    async def ListCollections(self, request: Any, context: Any) -> search_pb2.ListCollectionsResponse:
        return search_pb2.ListCollectionsResponse(collections=list(self.collections.values()))

    async def DeleteCollection(self, request: search_pb2.DeleteCollectionRequest, context: Any) -> Any:
        self.collections.pop(request.name, None)
        return search_pb2.DeleteCollectionResponse(deleted_count=len(self.items.pop(request.name, {})))

    async def BuildIndexes(self, request: search_pb2.BuildIndexesRequest, context: Any) -> Any:
        return search_pb2.BuildIndexesResponse(collection=self._collection(request.collection))

    async def UpsertItems(self, request: search_pb2.UpsertItemsRequest, context: Any) -> Any:
        check_items(len(request.items), self.max_items, "items")
        async with self.faults.call(len(request.items)):
            collection = self._collection(request.collection)
            self._refuse_bad(request.items)
            self._refuse_strangers(collection, request.items)
            merges = request.metadata_policy == search_pb2.METADATA_POLICY_MERGE
            results = [self._put(self.items[request.collection], item, merges) for item in request.items]
            self.writes.append([item.id for item in request.items])
            return search_pb2.UpsertItemsResponse(results=results)

    @staticmethod
    def _put(there: dict[str, search_pb2.Item], item: search_pb2.Item, merges: bool) -> search_pb2.UpsertResult:
        before = there.get(item.id)
        item.local_feature_kind = item.local_features.kind
        if before is not None and merges:
            merged = dict(before.metadata.fields) | dict(item.metadata.fields)
            for name, value in merged.items():
                item.metadata.fields[name].CopyFrom(value)
        there[item.id] = item
        if before is None:
            return search_pb2.UpsertResult(id=item.id, outcome=search_pb2.UPSERT_OUTCOME_CREATED)
        changes = [change for name, change in CHANGES.items() if getattr(before, name) != getattr(item, name)]
        outcome = search_pb2.UPSERT_OUTCOME_UPDATED if before != item else search_pb2.UPSERT_OUTCOME_UNCHANGED
        return search_pb2.UpsertResult(id=item.id, outcome=outcome, changes=changes)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> Any:
        async with self.faults.call(len(request.ids)):
            self._collection(request.collection)
            there = self.items[request.collection]
            return search_pb2.GetItemsResponse(
                items=[seen(there[item_id], request.read) for item_id in request.ids if item_id in there],
                missing_ids=[item_id for item_id in request.ids if item_id not in there],
            )

    async def DeleteItems(self, request: search_pb2.DeleteItemsRequest, context: Any) -> Any:
        there = self.items[request.collection]
        return search_pb2.DeleteItemsResponse(
            deleted_count=sum(there.pop(item_id, None) is not None for item_id in request.ids.ids)
        )

    async def ListItems(self, request: search_pb2.ListItemsRequest, context: Any) -> Any:
        async with self.faults.call(1):
            self._collection(request.collection)
            assert request.filter.condition.field == "$content_digest"
            digests = {value.string_value for value in request.filter.condition.one_of.values}
            return search_pb2.ListItemsResponse(
                items=[
                    seen(item, request.read)
                    for item in self.items[request.collection].values()
                    if item.content_digest.hex() in digests
                ]
            )

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        async with self.faults.call(1):
            return self._search(request)

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> Any:
        async with self.faults.call(len(request.searches)):
            results = []
            for index, search in enumerate(request.searches):
                try:
                    results.append(search_pb2.BatchSearchResult(response=self._search(search)))
                except LensmeshError as error:
                    path = f"searches[{index}]."
                    named = type(error)(error.reason, error.message, field=path + error.violations[0].field)
                    results.append(search_pb2.BatchSearchResult(error=to_status(named)))
            return search_pb2.BatchSearchResponse(results=results)

    async def CountFacets(self, request: Any, context: Any) -> search_pb2.CountFacetsResponse:
        return search_pb2.CountFacetsResponse(facets=[search_pb2.Facet(field=name) for name in request.fields])

    async def StartCalibrate(self, request: Any, context: Any) -> search_pb2.StartCalibrateResponse:
        return search_pb2.StartCalibrateResponse(job=search_pb2.Job(id="calibrate", collection=request.collection))

    async def Aggregate(self, request: Any, context: Any) -> search_pb2.AggregateResponse:
        results = [search_pb2.AggregationResult(name=asked.name) for asked in request.aggregations]
        return search_pb2.AggregateResponse(item_count=len(self.items), results=results)

    async def StartDeleteItems(self, request: search_pb2.StartDeleteItemsRequest, context: Any) -> Any:
        self._collection(request.collection)
        kind, state = search_pb2.JOB_KIND_DELETE_ITEMS, search_pb2.JOB_STATE_PENDING
        made = search_pb2.Job(id=request.job_id, collection=request.collection, kind=kind, state=state)
        return search_pb2.StartDeleteItemsResponse(job=self.jobs.setdefault(request.job_id, made))

    async def StartRebuildIndexes(self, request: search_pb2.StartRebuildIndexesRequest, context: Any) -> Any:
        self._collection(request.collection)
        kind, state = search_pb2.JOB_KIND_REBUILD_INDEXES, search_pb2.JOB_STATE_PENDING
        made = search_pb2.Job(id=request.job_id, collection=request.collection, kind=kind, state=state)
        made.rebuild_indexes.CopyFrom(request)
        return search_pb2.StartRebuildIndexesResponse(job=self.jobs.setdefault(request.job_id, made))

    async def StartFindDuplicates(self, request: search_pb2.StartFindDuplicatesRequest, context: Any) -> Any:
        self._collection(request.collection)
        kind, state = search_pb2.JOB_KIND_FIND_DUPLICATES, search_pb2.JOB_STATE_PENDING
        made = search_pb2.Job(id=request.job_id, collection=request.collection, kind=kind, state=state)
        made.find_duplicates.CopyFrom(request)
        return search_pb2.StartFindDuplicatesResponse(job=self.jobs.setdefault(request.job_id, made))

    async def ReadDuplicates(
        self, request: search_pb2.ReadDuplicatesRequest, context: Any
    ) -> AsyncIterator[search_pb2.ReadDuplicatesResponse]:
        """Tells the test's `parts` of groups, a message for each, or raises those that are errors."""
        self._job(request.job_id)
        while self.parts:
            part = self.parts.pop(0)
            if isinstance(part, LensmeshError):
                raise part
            if part.index >= request.first_group:
                yield search_pb2.ReadDuplicatesResponse(groups=[part])

    async def GetJob(self, request: search_pb2.GetJobRequest, context: Any) -> search_pb2.GetJobResponse:
        return search_pb2.GetJobResponse(job=self._job(request.id))

    async def ListJobs(self, request: search_pb2.ListJobsRequest, context: Any) -> search_pb2.ListJobsResponse:
        return search_pb2.ListJobsResponse(jobs=list(self.jobs.values()))

    async def CancelJob(self, request: search_pb2.CancelJobRequest, context: Any) -> search_pb2.CancelJobResponse:
        job = self._job(request.id)
        job.cancel_requested, job.state = True, search_pb2.JOB_STATE_CANCELLED
        return search_pb2.CancelJobResponse(job=job)

    async def WatchJob(
        self, request: search_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[search_pb2.WatchJobResponse]:
        """Tells the job as the test changes it: `looks` are its states from now on, or errors."""
        yield search_pb2.WatchJobResponse(job=self._job(request.id))
        while self.looks:
            if self.released is not None:
                await self.released.wait()
            look = self.looks.pop(0)
            if isinstance(look, LensmeshError):
                raise look
            self.jobs[request.id].MergeFrom(look)
            yield search_pb2.WatchJobResponse(job=self.jobs[request.id])

    def _job(self, job_id: str) -> search_pb2.Job:
        if job_id not in self.jobs:
            raise NotFound(Reason.JOB_NOT_FOUND, f"no job {job_id!r}", field="id")
        return self.jobs[job_id]

    def _collection(self, name: str) -> search_pb2.Collection:
        if name not in self.collections:
            raise NotFound(Reason.COLLECTION_NOT_FOUND, f"no collection {name!r}", metadata={"collection": name})
        return self.collections[name]

    @staticmethod
    def _refuse_bad(items: Sequence[search_pb2.Item]) -> None:
        bad = [index for index, item in enumerate(items) if "refuse" in item.metadata.fields]
        if bad:
            index = bad[0]
            raise InvalidInput(
                Reason.METADATA_INVALID, f"items[{index}].metadata is refused", field=f"items[{index}].metadata"
            )

    @staticmethod
    def _refuse_strangers(collection: search_pb2.Collection, items: Sequence[search_pb2.Item]) -> None:
        """Vectors of a space that the collection has not."""
        spaces = {named.name: named.space.id for named in collection.spaces}
        for index, item in enumerate(items):
            if item.HasField("local_features") and not collection.local_features:
                field = f"items[{index}].local_features"
                raise PreconditionFailed(Reason.FEATURES_NOT_KEPT, f"{field}: not kept", field=field)
            for name, embedding in item.vectors.items():
                field = f"items[{index}].vectors[{name}]"
                if name not in spaces:
                    raise InvalidInput(Reason.SPACE_UNKNOWN, f"{field}: no such space", field=field)
                if embedding.space_id != spaces[name]:
                    raise PreconditionFailed(Reason.SPACE_MISMATCH, f"{field} is of another space", field=field)

    def _search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        self.searches.append(request)
        collection = self._collection(request.collection)
        found: dict[str, search_pb2.Hit] = {}
        answer = search_pb2.SearchResponse()
        for place, leg in enumerate(request.legs):
            try:
                scores = self._near(collection, leg, f"legs[{place}]")
            except PreconditionFailed as error:
                if not request.partial or error.reason is not Reason.ITEM_WITHOUT_VECTOR:
                    raise
                answer.failed_legs.add(name=leg.name, error=to_status(error))
                continue
            for rank, item_id in enumerate(sorted(scores, key=lambda each: (-scores[each], each)), 1):
                hit = found.setdefault(item_id, search_pb2.Hit())
                hit.legs.add(name=leg.name, score=scores[item_id], rank=rank)
                is_fused = len(request.legs) > 1 or request.HasField("fusion")
                hit.score += (leg.weight or 1) / (60 + rank) if is_fused else scores[item_id]
        # Of filters only "not this id" is known.
        found.pop(getattr(request.filter, "not").condition.equals.string_value, None)
        for item_id, hit in found.items():
            hit.item.CopyFrom(seen(self.items[collection.name][item_id], request.read))
        hits = sorted(found.values(), key=lambda hit: (-hit.score, hit.item.id))
        answer.hits.extend(hits[request.offset :][: request.limit or 10])
        return answer

    def _near(self, collection: search_pb2.Collection, leg: search_pb2.SearchLeg, path: str) -> dict[str, float]:
        """Cosines of all items that a leg finds; of words, those whose caption holds them as they are."""
        items = self.items[collection.name]
        if leg.HasField("caption_text"):
            return {item.id: 1.0 for item in items.values() if leg.caption_text in item.caption.text}
        if leg.HasField("perceptual_hash"):
            return self._alike(items.values(), leg.perceptual_hash)
        space = leg.space or collection.spaces[0].name
        if leg.HasField("item_id"):
            if leg.item_id not in items:
                raise NotFound(
                    Reason.ITEM_NOT_FOUND, f"{path}.item_id: no item {leg.item_id!r}", field=f"{path}.item_id"
                )
            if space not in items[leg.item_id].vectors:
                raise PreconditionFailed(
                    Reason.ITEM_WITHOUT_VECTOR, f"{path}.item_id has no {space}", field=f"{path}.item_id"
                )
            asked = items[leg.item_id].vectors[space]
        else:
            asked = leg.embedding
        wanted = next(named.space for named in collection.spaces if named.name == space)
        if asked.space_id != wanted.id:
            raise PreconditionFailed(
                Reason.SPACE_MISMATCH, f"{path}.embedding is of {asked.space_id}", field=f"{path}.embedding"
            )
        return {
            item.id: cosine(asked, item.vectors[space])
            for item in items.values()
            if space in item.vectors and item.id != leg.item_id
        }

    @staticmethod
    def _alike(items: Iterable[search_pb2.Item], asked: common_pb2.PerceptualHash) -> dict[str, float]:
        """Scores of all items that look the same."""
        found = {}
        for item in items:
            bits = int.from_bytes(asked.hash, "big") ^ int.from_bytes(item.perceptual_hash.hash, "big")
            if item.HasField("perceptual_hash") and bits.bit_count() <= 31:
                found[item.id] = 1 - bits.bit_count() / 256
        return found


def cosine(one: common_pb2.Embedding, other: common_pb2.Embedding) -> float:
    """Of two vectors of unit length."""
    return float(np.frombuffer(one.data, "<f4") @ np.frombuffer(other.data, "<f4"))


def seen(item: search_pb2.Item, read: search_pb2.ReadOptions) -> search_pb2.Item:
    """An item in the view that was asked for."""
    view = search_pb2.Item()
    view.CopyFrom(item)
    if read.view != search_pb2.ITEM_VIEW_FULL:
        for embedding in view.vectors.values():
            embedding.ClearField("data")
    if not read.local_features:
        view.ClearField("local_features")
    return view
