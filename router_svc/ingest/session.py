"""One Ingest call or IngestStream: every picture goes through the same steps, each step gathered into batch calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.rpc import status_pb2
from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.gather import Gatherer
from router_svc.ingest.items import Incoming
from router_svc.ingest.lookup import Found, Lookup
from router_svc.ingest.mesh import Mesh, Waits
from router_svc.ingest.plan import CaptionSource, Wanted
from router_svc.ingest.terms import Asked
from router_svc.ingest.writer import Writer, Written
from router_svc.peers.batches import failure_of
from router_svc.peers.faults import is_away, is_busy
from router_svc.peers.models import image_bytes
from router_svc.peers.together import together

I = TypeVar("I")  # noqa: E741 - item and outcome, as in the gatherer
O = TypeVar("O")  # noqa: E741

# A vector, a caption and the message around them, where a step's items are not counted themselves.
NOMINAL_BYTES = 4096
# As spans tell them.
_OUTCOMES = {
    search_pb2.UPSERT_OUTCOME_CREATED: "created",
    search_pb2.UPSERT_OUTCOME_UPDATED: "updated",
    search_pb2.UPSERT_OUTCOME_UNCHANGED: "unchanged",
}


class Session:
    """What the pictures of one call or stream share. Leave it, and whatever is still under way is cancelled."""

    def __init__(
        self, mesh: Mesh, asked: Asked, waits: Waits, *, prefix: str = "", deadline: float | None = None
    ) -> None:
        self._mesh = mesh
        self._asked = asked
        self._waits = waits
        self._path = f"{prefix}image"
        self._deadline = deadline
        lookup = Lookup(mesh.stores, asked.collection, asked.terms, patience=waits.store, deadline=deadline)
        writer = Writer(mesh.stores, asked.collection, prefix=prefix, patience=waits.store, deadline=deadline)

        async def look_up(batch: Sequence[Wanted]) -> list[Found]:
            return await self._there(lambda: lookup.run(batch))

        async def write(batch: Sequence[search_pb2.Item]) -> list[Written | LensmeshError]:
            return await self._there(lambda: writer.run(batch))

        self._lookups = self._step("lookup", look_up, lambda _: NOMINAL_BYTES, lambda _: None)
        self._writes: Gatherer[search_pb2.Item, Written | LensmeshError] = self._step(
            "write", write, _item_bytes, lambda done: done if isinstance(done, LensmeshError) else None
        )
        self._captions = self._step("caption", self._describe, image_bytes, failure_of)
        self._vectors = {
            space_id: self._step("encode", self._encode_in(options), image_bytes, failure_of)
            for space_id, options in asked.encode_options.items()
        }

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        for vectors in self._vectors.values():
            await vectors.close()
        await self._captions.close()
        await self._lookups.close()
        await self._writes.close()

    async def ingest(self, incoming: Incoming) -> router_pb2.IngestedItem:
        """The item when it is durable. Raises what became of it otherwise."""
        try:
            if incoming.error is not None or incoming.wanted is None:
                raise incoming.error or AssertionError("an item has neither a digest nor an error")
            await incoming.turn.come()
            found = await self._lookups.submit(incoming.wanted)
            span = trace.get_current_span()
            span.set_attribute(spans.ITEM_ID, incoming.wanted.id)
            span.set_attribute(spans.CACHE_HIT, found.plan.unchanged or bool(found.plan.take))
            if found.plan.unchanged:
                done = _unchanged(incoming.wanted, found)
            else:
                done = await self._renew(incoming, incoming.wanted, found)
            span.set_attribute(spans.ITEM_OUTCOME, _OUTCOMES.get(done.outcome, ""))
            return done
        finally:
            incoming.turn.end()

    async def _renew(self, incoming: Incoming, wanted: Wanted, found: Found) -> router_pb2.IngestedItem:
        done = router_pb2.IngestedItem(id=wanted.id)
        item = search_pb2.Item(
            id=wanted.id,
            metadata=incoming.item.metadata,
            image_uri=wanted.image_uri or found.plan.keep_uri,
            content_digest=wanted.digest,
        )
        for name, giver in found.plan.take.items():
            item.vectors[name].CopyFrom(found.givers[giver].vectors[name])
        describing = asyncio.create_task(self._caption(incoming, found, done))
        try:
            # The encoder's word on a bad picture counts, whatever the captioner makes of it.
            await self._embed(incoming, found, item, done)
            caption = await describing
        finally:
            describing.cancel()
            await asyncio.gather(describing, return_exceptions=True)
        if caption is not None:
            item.caption.CopyFrom(caption)
            done.caption.CopyFrom(caption)
        written = await self._writes.submit(item)
        if isinstance(written, LensmeshError):
            raise written
        done.outcome = _outcome(written, found)
        done.store_us = written.store_us
        return done

    async def _embed(
        self, incoming: Incoming, found: Found, item: search_pb2.Item, done: router_pb2.IngestedItem
    ) -> None:
        by_space: dict[str, list[str]] = {}
        for name in found.plan.encode:
            by_space.setdefault(self._asked.space_ids[name], []).append(name)
        results = await together([self._vectors[space_id].submit(incoming.item.image) for space_id in by_space])
        for names, result in zip(by_space.values(), results, strict=True):
            if result.HasField("error"):
                raise from_status(result.error)
            for name in names:
                item.vectors[name].CopyFrom(result.embedding)
            if result.timings.total_us >= done.encode.total_us:
                done.encode.CopyFrom(result.timings)

    async def _caption(
        self, incoming: Incoming, found: Found, done: router_pb2.IngestedItem
    ) -> common_pb2.Caption | None:
        match found.plan.caption:
            case CaptionSource.NOWHERE:
                return None
            case CaptionSource.CALLER:
                return common_pb2.Caption(text=incoming.item.caption)
            case CaptionSource.STORED:
                return found.givers[found.plan.caption_from].caption
            case CaptionSource.MODEL:
                return await self._generate(incoming.item.image, done)

    async def _generate(self, image: common_pb2.Image, done: router_pb2.IngestedItem) -> common_pb2.Caption | None:
        try:
            result = await self._captions.submit(image)
            if result.HasField("error"):
                raise from_status(result.error)
        except LensmeshError as error:
            if self._asked.caption_is_required:
                raise _required(error) from error
            done.caption_error.CopyFrom(to_status(error))
            return None
        done.describe.CopyFrom(result.timings)
        return result.caption

    def _encode_in(
        self, options: encoder_pb2.EncodeOptions
    ) -> Callable[[Sequence[common_pb2.Image]], Awaitable[Sequence[encoder_pb2.EncodeResult]]]:
        async def encode(images: Sequence[common_pb2.Image]) -> Sequence[encoder_pb2.EncodeResult]:
            return await self._mesh.encoders.images(
                images, options, path_of=lambda _: self._path, patience=self._waits.encoder, deadline=self._deadline
            )

        return encode

    async def _describe(self, images: Sequence[common_pb2.Image]) -> Sequence[caption_pb2.CaptionResult]:
        return await self._mesh.captioners.images(
            images,
            self._asked.caption_options,
            path_of=lambda _: self._path,
            patience=self._waits.captioner,
            deadline=self._deadline,
        )

    async def _there(self, ask: Callable[[], Awaitable[O]]) -> O:
        """Asks the store, and once more where somebody deleted the collection under a running stream."""
        try:
            return await ask()
        except NotFound as error:
            if error.reason is not Reason.COLLECTION_NOT_FOUND:
                raise
            self._mesh.catalog.forget(self._asked.collection)
            await self._mesh.catalog.ensure(self._asked.collection, patience=self._waits.store, deadline=self._deadline)
            return await ask()

    def _step(
        self,
        name: str,
        run: Callable[[Sequence[I]], Awaitable[Sequence[O]]],
        size_of: Callable[[I], int],
        failure: Callable[[O], LensmeshError | None],
    ) -> Gatherer[I, O]:
        settings = self._mesh.settings
        return Gatherer(
            run,
            size_of=size_of,
            max_items=min(settings.batch_items, self._mesh.directory.stored_at_once()),
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            step=name,
            failure_of=failure,
        )


def _unchanged(wanted: Wanted, found: Found) -> router_pb2.IngestedItem:
    done = router_pb2.IngestedItem(id=wanted.id, outcome=search_pb2.UPSERT_OUTCOME_UNCHANGED)
    if found.own is not None and found.own.HasField("caption"):
        done.caption.CopyFrom(found.own.caption)
    return done


def _outcome(written: Written, found: Found) -> search_pb2.UpsertOutcome.ValueType:
    if found.own is None and written.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED:
        # The answer to the first try was lost on its way: it was this item that created it.
        return search_pb2.UPSERT_OUTCOME_CREATED
    return written.outcome


def _required(error: LensmeshError) -> LensmeshError:
    """Why an item that must have a caption has none. What may go better later keeps its own reason and delay."""
    if is_away(error) or is_busy(error):
        return error
    return PreconditionFailed(
        Reason.CAPTION_REQUIRED,
        f"options.captions asks for a caption and there is none: {error.message}",
        violations=error.violations,
        metadata={"cause": error.reason},
    )


def _refusal(written: Written | LensmeshError) -> LensmeshError | None:
    return written if isinstance(written, LensmeshError) else None


def _item_bytes(item: search_pb2.Item) -> int:
    return item.ByteSize()


def failed(ref: str, error: BaseException) -> router_pb2.IngestResult:
    """The answer to an item that is not stored."""
    status: status_pb2.Status = to_status(error)
    return router_pb2.IngestResult(ref=ref, error=status)
