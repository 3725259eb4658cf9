"""One image: looked up, embedded and captioned as far as the store does not have it, and written."""

import asyncio

from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.ingest.lookup import LookupResult
from router_svc.ingest.plan import CaptionSource, Wanted
from router_svc.ingest.steps import Steps
from router_svc.ingest.writer import WriteResult
from router_svc.upstreams.errors import is_away, is_busy
from router_svc.upstreams.together import together


class ItemIngestion:
    """One image on its way through the steps of its call or stream."""

    def __init__(self, steps: Steps, wanted: Wanted) -> None:
        self._steps = steps
        self._options = steps.options
        self._wanted = wanted
        self._done = router_pb2.IngestedItem(id=wanted.id)

    async def ingest(self, image: common_pb2.Image) -> router_pb2.IngestedItem:
        """Look up what the store has of the image, and do what is left. Raises why it is not stored."""
        found = await self._steps.lookups.submit(self._wanted)
        trace.get_current_span().set_attribute(spans.CACHE_HIT, found.plan.unchanged or bool(found.plan.take))
        return _unchanged(self._wanted, found) if found.plan.unchanged else await self._renew(image, found)

    async def _renew(self, image: common_pb2.Image, found: LookupResult) -> router_pb2.IngestedItem:
        done, wanted = self._done, self._wanted
        item = search_pb2.Item(
            id=wanted.id,
            image_uri=wanted.image_uri or found.plan.keep_uri,
            content_digest=wanted.digest,
        )
        for name, value in wanted.metadata.items():
            item.metadata.fields[name].CopyFrom(value)  # type: ignore[arg-type]  # a Value
        for name, donor in found.plan.take.items():
            item.vectors[name].CopyFrom(found.donors[donor].vectors[name])
            item.low_content |= found.donors[donor].low_content
        describing = asyncio.create_task(self._caption(image, found))
        try:
            # The encoder's word on a bad image counts, whatever the captioner makes of it.
            await self._embed(image, found, item)
            caption = await describing
        finally:
            describing.cancel()
            await asyncio.gather(describing, return_exceptions=True)
        if caption is not None:
            item.caption.CopyFrom(caption)
            done.caption.CopyFrom(caption)
        written = await self._steps.writes.submit(item)
        if isinstance(written, LensmeshError):
            raise written
        done.outcome = _outcome(written, found)
        if done.outcome == search_pb2.UPSERT_OUTCOME_UPDATED:
            done.changes.extend(written.changes)
        done.low_content = item.low_content
        done.store_us = written.store_us
        return done

    async def _embed(self, image: common_pb2.Image, found: LookupResult, item: search_pb2.Item) -> None:
        done = self._done
        by_space: dict[str, list[str]] = {}
        for name in found.plan.encode:
            by_space.setdefault(self._options.space_ids[name], []).append(name)
        results = await together([self._steps.vectors[space_id].submit(image) for space_id in by_space])
        for names, result in zip(by_space.values(), results, strict=True):
            if result.HasField("error"):
                raise from_status(result.error)
            for name in names:
                item.vectors[name].CopyFrom(result.embedding)
            item.low_content |= result.low_content
            done.fully_transparent |= result.fully_transparent
            if result.timings.total_us >= done.encode.total_us:
                done.encode.CopyFrom(result.timings)

    async def _caption(self, image: common_pb2.Image, found: LookupResult) -> common_pb2.Caption | None:
        match found.plan.caption:
            case CaptionSource.NOWHERE:
                return None
            case CaptionSource.CALLER:
                return common_pb2.Caption(text=self._wanted.caption)
            case CaptionSource.STORED:
                return found.donors[found.plan.caption_from].caption
            case CaptionSource.MODEL:
                return await self._generate(image)

    async def _generate(self, image: common_pb2.Image) -> common_pb2.Caption | None:
        try:
            result = await self._steps.captions.submit(image)
            if result.HasField("error"):
                raise from_status(result.error)
        except LensmeshError as error:
            if self._options.caption_is_required:
                raise _required(error) from error
            self._done.caption_error.CopyFrom(to_status(_stored_without(error)))
            return None
        self._done.describe.CopyFrom(result.timings)
        return result.caption


def _unchanged(wanted: Wanted, found: LookupResult) -> router_pb2.IngestedItem:
    done = router_pb2.IngestedItem(id=wanted.id, outcome=search_pb2.UPSERT_OUTCOME_UNCHANGED)
    if found.own is not None:
        done.low_content = found.own.low_content
        if found.own.HasField("caption"):
            done.caption.CopyFrom(found.own.caption)
    return done


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
