"""One Ingest call or IngestStream: every image is looked up, encoded, captioned and written."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from google.rpc import status_pb2
from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.items import Incoming
from router_svc.ingest.lookup import LookupResult
from router_svc.ingest.options import OptionsResolver, ResolvedOptions
from router_svc.ingest.plan import CaptionSource, PlanOptions, Wanted, metadata_stands
from router_svc.ingest.steps import Steps
from router_svc.ingest.turns import fold
from router_svc.ingest.writer import WriteResult
from router_svc.upstreams.errors import is_away, is_busy
from router_svc.upstreams.together import together

# As spans tell them.
_OUTCOMES = {
    search_pb2.UPSERT_OUTCOME_CREATED: "created",
    search_pb2.UPSERT_OUTCOME_UPDATED: "updated",
    search_pb2.UPSERT_OUTCOME_UNCHANGED: "unchanged",
}
# What is said of a collection that is no longer as it was when its definition was read.
_OUTDATED = {
    Reason.COLLECTION_NOT_FOUND,
    Reason.SPACE_MISMATCH,
    Reason.SPACE_UNKNOWN,
    Reason.SPACE_NOT_SERVED,
    Reason.VECTOR_DIMENSION_MISMATCH,
}
# A collection that is made anew again and again ends an item with the error it met last.
_MOST_TRIES = 4


class Session:
    """What the images of one call or stream share. Leave it, and whatever is still under way is cancelled."""

    def __init__(
        self, dependencies: Dependencies, resolver: OptionsResolver, options: ResolvedOptions, scopes: IngestScopes
    ) -> None:
        """`options` are what `resolver` has returned; it is asked again where the collection is another one by now."""
        self._dependencies = dependencies
        self._resolver = resolver
        self._scopes = scopes
        self._resolving = asyncio.Lock()
        self._steps = Steps(dependencies, options, scopes)
        self._left: list[Steps] = []

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        for steps in (*self._left, self._steps):
            await steps.close()

    async def ingest(self, incoming: Incoming) -> router_pb2.IngestedItem:
        """Return the item when it is durable. Raises what became of it otherwise."""
        if incoming.error is not None:
            raise incoming.error
        if incoming.wanted is None or incoming.turn is None:
            raise AssertionError("an item has neither a digest nor an error")
        span = trace.get_current_span()
        span.set_attribute(spans.ITEM_ID, incoming.wanted.id)
        run = incoming.turn.run
        if incoming.turn.leads:
            try:
                await run.begin()
                run.answers = await self._run(incoming, run.members)
            finally:
                run.end()
        done = await run.answer(incoming.turn.place)
        span.set_attribute(spans.ITEM_OUTCOME, _OUTCOMES.get(done.outcome, ""))
        return done

    async def _run(self, incoming: Incoming, members: Sequence[Wanted]) -> list[router_pb2.IngestedItem | Exception]:
        """Ingest what several items of one image under one id come to, as one. Alone, each where that fails."""
        if len(members) > 1:
            options = self._steps.options.plan
            folded = fold(members, merges_metadata=options.merges_metadata)
            with contextlib.suppress(LensmeshError):
                return list(_told_apart(await self._as_defined(incoming, folded), members, options))
        answers: list[router_pb2.IngestedItem | Exception] = []
        for member in members:
            try:
                answers.append(await self._as_defined(incoming, member))
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to this item, and is raised there
                answers.append(error)
        return answers

    async def _as_defined(self, incoming: Incoming, wanted: Wanted) -> router_pb2.IngestedItem:
        """Ingest under the collection's definition, and again where that turns out to be another by now."""
        tries = 0
        while True:
            steps = self._steps
            try:
                return await _Item(steps, incoming, wanted).ingest()
            except LensmeshError as error:
                tries += 1
                if error.reason not in _OUTDATED or tries == _MOST_TRIES:
                    raise
                await self._define_again(steps, error)

    async def _define_again(self, steps: Steps, error: LensmeshError) -> None:
        """Read the collection's definition anew. Raises `error` where it still is what `steps` work by."""
        async with self._resolving:
            if self._steps is not steps:
                return
            self._dependencies.collection_cache.forget(steps.options.collection)
            options = await self._resolver.resolve()
            if options.identity != steps.options.identity:
                self._left.append(steps)
                self._steps = Steps(self._dependencies, options, self._scopes)
            elif error.reason is not Reason.COLLECTION_NOT_FOUND:
                raise error


class _Item:
    """One image on its way through the steps."""

    def __init__(self, steps: Steps, incoming: Incoming, wanted: Wanted) -> None:
        self._steps = steps
        self._options = steps.options
        self._image = incoming.item.image
        self._incoming = incoming
        self._wanted = wanted
        self._done = router_pb2.IngestedItem(id=wanted.id)

    async def ingest(self) -> router_pb2.IngestedItem:
        found = await self._steps.lookups.submit(self._wanted)
        trace.get_current_span().set_attribute(spans.CACHE_HIT, found.plan.unchanged or bool(found.plan.take))
        return _unchanged(self._wanted, found) if found.plan.unchanged else await self._renew(found)

    async def _renew(self, found: LookupResult) -> router_pb2.IngestedItem:
        done, wanted = self._done, self._wanted
        item = search_pb2.Item(
            id=wanted.id,
            image_uri=wanted.image_uri or found.plan.keep_uri,
            content_digest=wanted.digest,
        )
        for name, value in wanted.metadata.items():
            item.metadata.fields[name].CopyFrom(value)  # type: ignore[arg-type]
        for name, donor in found.plan.take.items():
            item.vectors[name].CopyFrom(found.donors[donor].vectors[name])
            item.low_content |= found.donors[donor].low_content
        describing = asyncio.create_task(self._caption(found))
        try:
            # The encoder's word on a bad image counts, whatever the captioner makes of it.
            await self._embed(found, item)
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

    async def _embed(self, found: LookupResult, item: search_pb2.Item) -> None:
        done = self._done
        by_space: dict[str, list[str]] = {}
        for name in found.plan.encode:
            by_space.setdefault(self._options.space_ids[name], []).append(name)
        results = await together([self._steps.vectors[space_id].submit(self._image) for space_id in by_space])
        for names, result in zip(by_space.values(), results, strict=True):
            if result.HasField("error"):
                raise from_status(result.error)
            for name in names:
                item.vectors[name].CopyFrom(result.embedding)
            item.low_content |= result.low_content
            done.fully_transparent |= result.fully_transparent
            if result.timings.total_us >= done.encode.total_us:
                done.encode.CopyFrom(result.timings)

    async def _caption(self, found: LookupResult) -> common_pb2.Caption | None:
        match found.plan.caption:
            case CaptionSource.NOWHERE:
                return None
            case CaptionSource.CALLER:
                return common_pb2.Caption(text=self._wanted.caption)
            case CaptionSource.STORED:
                return found.donors[found.plan.caption_from].caption
            case CaptionSource.MODEL:
                return await self._generate()

    async def _generate(self) -> common_pb2.Caption | None:
        try:
            result = await self._steps.captions.submit(self._image)
            if result.HasField("error"):
                raise from_status(result.error)
        except LensmeshError as error:
            if self._options.caption_is_required:
                raise _required(error) from error
            self._done.caption_error.CopyFrom(to_status(_stored_without(error)))
            return None
        self._done.describe.CopyFrom(result.timings)
        return result.caption


def _told_apart(
    done: router_pb2.IngestedItem, members: Sequence[Wanted], options: PlanOptions
) -> Iterator[router_pb2.IngestedItem]:
    """Yield the answers to the members of a run that was ingested as one: the first as it was, then what each added."""
    yield done
    before, *others = members
    for member in others:
        after = fold([before, member], merges_metadata=options.merges_metadata)
        answer = router_pb2.IngestedItem()
        answer.CopyFrom(done)
        del answer.changes[:]
        if not metadata_stands(after.metadata, before.metadata, options):
            answer.changes.append(search_pb2.ITEM_CHANGE_METADATA)
        if after.caption != before.caption:
            answer.changes.append(search_pb2.ITEM_CHANGE_CAPTION)
        if after.image_uri != before.image_uri:
            answer.changes.append(search_pb2.ITEM_CHANGE_IMAGE_URI)
        answer.outcome = search_pb2.UPSERT_OUTCOME_UPDATED if answer.changes else search_pb2.UPSERT_OUTCOME_UNCHANGED
        before = after
        yield answer


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


def failed(ref: str, error: BaseException) -> router_pb2.IngestResult:
    """Make the answer to an item that is not stored."""
    status: status_pb2.Status = to_status(error)
    return router_pb2.IngestResult(ref=ref, error=status)
