"""An image: looked up, embedded and captioned as far as the store does not have it, and written."""

import asyncio
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, NotBuilt, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.ingest.lookup import LookupResult
from router_svc.ingest.near_duplicates import NearTurn
from router_svc.ingest.near_item import is_left_out
from router_svc.ingest.plan import CaptionSource, Wanted
from router_svc.ingest.steps import Steps
from router_svc.ingest.writer import WriteResult
from router_svc.media.inventory import NOTHING
from router_svc.micro_batcher import MicroBatcher, let_go
from router_svc.upstreams.errors import is_away, is_busy
from router_svc.upstreams.images import PackedImage


class ItemIngestion:
    """An image on its way through the steps of its call or stream."""

    def __init__(self, steps: Steps, wanted: Wanted, near: NearTurn | None = None) -> None:
        self._steps = steps
        self._near = near
        self._options = steps.options
        self._wanted = wanted
        self._done = router_pb2.IngestedItem(id=wanted.id)

    async def ingest(self, image: PackedImage) -> router_pb2.IngestedItem:
        """Look up what the store has of the image, and do what is left. Raises why it is not stored."""
        tags, wanted = self._options.tags, self._wanted
        if tags is not None:
            tags.check_carried(wanted.metadata, self._steps.metadata_path)
        found = await self._steps.lookups.submit(wanted)
        if tags is not None and found.own is not None and self._options.plan.merges_metadata:
            tags.check_stored(found.own.metadata.fields, wanted.id)
        trace.get_current_span().set_attribute(spans.CACHE_HIT, found.plan.unchanged or bool(found.plan.take))
        if not found.plan.unchanged:
            return await self._renew(image, found)
        if found.lacking is not NOTHING:
            await self._steps.keeping.make_up(image, wanted.digest, found.lacking)
        return self._unchanged(found)

    def _unchanged(self, found: LookupResult) -> router_pb2.IngestedItem:
        done = self._done
        done.outcome = search_pb2.UPSERT_OUTCOME_UNCHANGED
        if found.own is not None:
            done.low_content = found.own.low_content
            if found.own.HasField("caption"):
                done.caption.CopyFrom(found.own.caption)
            if self._options.tags is not None:
                done.tags.extend(self._options.tags.told(found.own.metadata.fields))
        return done

    async def _renew(self, image: PackedImage, found: LookupResult) -> router_pb2.IngestedItem:
        done, wanted = self._done, self._wanted
        item = search_pb2.Item(
            id=wanted.id,
            image_uri=wanted.image_uri or found.plan.keep_uri,
            content_digest=wanted.digest,
        )
        for name, value in {**wanted.metadata, **found.plan.tags}.items():
            item.metadata.fields[name].CopyFrom(value)  # type: ignore[arg-type]  # a Value
        for name, donor in found.plan.take.items():
            item.vectors[name].CopyFrom(found.donors[donor].vectors[name])
            item.low_content |= found.donors[donor].low_content
        if found.plan.hash_from:
            item.perceptual_hash.CopyFrom(found.donors[found.plan.hash_from].perceptual_hash)
        if found.plan.features_from:
            item.local_features.CopyFrom(found.donors[found.plan.features_from].local_features)
        # At the same time, and without a task for either: an item costs the router its share of two calls.
        space_ids = dict.fromkeys(self._options.space_ids[name] for name in found.plan.encode)
        embedded = {space_id: self._calls_of(space_id, found).enqueue(image) for space_id in space_ids}
        described = self._steps.captions.enqueue(image) if found.plan.caption is CaptionSource.MODEL else None
        waited: list[asyncio.Future[Any]] = [*embedded.values(), *([described] if described else [])]
        try:
            # The encoder's word on a bad image counts, whatever the captioner makes of it.
            await self._embed(embedded, found, item)
            if self._near is not None and await is_left_out(self._near, self._steps, found, item, done):
                return done
            tagged = self._tagged(item) if found.plan.tag else None
            waited += [tagged] if tagged else []
            caption = await self._caption(described, found)
            if tagged is not None:
                await self._tag(tagged, item)
        finally:
            let_go(waited)
        if self._options.tags is not None:
            done.tags.extend(self._options.tags.told(item.metadata.fields))
        if caption is not None:
            item.caption.CopyFrom(caption)
            done.caption.CopyFrom(caption)
        written = await self._write(item)
        if found.lacking is not NOTHING:
            beside = embedded.get(self._options.first_space_id)
            await self._steps.keeping.keep(image, wanted.digest, found.lacking, beside.result() if beside else None)
        done.outcome = _outcome(written, found)
        if done.outcome == search_pb2.UPSERT_OUTCOME_UPDATED:
            done.changes.extend(written.changes)
        done.low_content = item.low_content
        done.store_us = written.store_us
        return done

    def _calls_of(self, space_id: str, found: LookupResult) -> MicroBatcher[PackedImage, encoder_pb2.EncodeResult]:
        """Return the calls that make a vector, and the thumbnail beside it where that is lacking."""
        shown = self._steps.shown
        if shown is not None and found.lacking.thumbnail and space_id == self._options.first_space_id:
            return shown
        return self._steps.vectors[space_id]

    async def _write(self, item: search_pb2.Item) -> WriteResult:
        stored = False
        try:
            written = await self._steps.writes.submit(item)
            if isinstance(written, LensmeshError):
                raise written
            stored = True
            return written
        finally:
            if self._near is not None:
                self._near.end(stored=stored)

    async def _embed(
        self,
        embedded: Mapping[str, asyncio.Future[encoder_pb2.EncodeResult]],
        found: LookupResult,
        item: search_pb2.Item,
    ) -> None:
        """Put the vectors into the item. `embedded`: what becomes of the image in each space, by VectorSpace.id."""
        done = self._done
        if len(embedded) > 1:
            # The first that fails is raised at once.
            await asyncio.gather(*embedded.values())
        results = {space_id: await result for space_id, result in embedded.items()}
        for result in results.values():
            if result.HasField("error"):
                raise from_status(result.error)
            item.low_content |= result.low_content
            done.fully_transparent |= result.fully_transparent
            if result.HasField("perceptual_hash"):
                item.perceptual_hash.CopyFrom(result.perceptual_hash)
            if result.HasField("local_features"):
                item.local_features.CopyFrom(result.local_features)
            if result.timings.total_us >= done.encode.total_us:
                done.encode.CopyFrom(result.timings)
        for name in found.plan.encode:
            item.vectors[name].CopyFrom(results[self._options.space_ids[name]].embedding)
        if self._options.near is not None and not item.HasField("perceptual_hash"):
            raise NotBuilt(
                Reason.NOT_IMPLEMENTED,
                "options.near_duplicates: the encoder here makes no perceptual hashes; it is of an older release",
                metadata={"field": "options.near_duplicates"},
            )

    def _tagged(self, item: search_pb2.Item) -> asyncio.Future[encoder_pb2.Classification] | None:
        """Begin to find the tags of an item, whose vectors are here."""
        tags, calls = self._options.tags, self._steps.tags
        return None if tags is None or calls is None else calls.enqueue(item.vectors[tags.space])

    async def _tag(self, tagged: asyncio.Future[encoder_pb2.Classification], item: search_pb2.Item) -> None:
        """Put the tags into the item's metadata."""
        result, tags = await tagged, self._options.tags
        if result.HasField("error"):
            raise from_status(result.error)
        for name, value in tags.written(result.scores, self._wanted.digest).items() if tags is not None else ():
            item.metadata.fields[name].CopyFrom(value)

    async def _caption(
        self, described: asyncio.Future[caption_pb2.CaptionResult] | None, found: LookupResult
    ) -> common_pb2.Caption | None:
        match found.plan.caption:
            case CaptionSource.CALLER:
                return common_pb2.Caption(text=self._wanted.caption)
            case CaptionSource.STORED:
                return found.donors[found.plan.caption_from].caption
            case CaptionSource.MODEL if described is not None:
                return await self._generated(described)
            case _:
                return None

    async def _generated(self, described: asyncio.Future[caption_pb2.CaptionResult]) -> common_pb2.Caption | None:
        try:
            result = await described
            if result.HasField("error"):
                raise from_status(result.error)
        except LensmeshError as error:
            if self._options.caption_is_required:
                raise _required(error) from error
            self._done.caption_error.CopyFrom(to_status(_stored_without(error)))
            return None
        self._done.describe.CopyFrom(result.timings)
        return result.caption


def _outcome(written: WriteResult, found: LookupResult) -> search_pb2.UpsertOutcome.ValueType:
    if found.own is None and written.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED:
        # The answer to the first try was lost on its way: it was this item that created it.
        return search_pb2.UPSERT_OUTCOME_CREATED
    return written.outcome


def _stored_without(error: LensmeshError) -> LensmeshError:
    """Tell why an item is stored without a caption, and how it gets one where that may go better later."""
    if not is_away(error) and not is_busy(error):
        return error
    return type(error)(
        error.reason,
        f"{error.message}; the item is stored without a caption: ingest it again to fill it",
        retry_after_s=error.retry_after_s,
        metadata=error.metadata,
    )


def _required(error: LensmeshError) -> LensmeshError:
    """Tell why an item that must have a caption has none. What may go better later keeps its own reason and delay."""
    if is_away(error) or is_busy(error):
        return error
    return PreconditionFailed(
        Reason.CAPTION_REQUIRED,
        f"options.captions asks for a caption and there is none: {error.message}",
        violations=error.violations,
        metadata={"cause": error.reason},
    )
