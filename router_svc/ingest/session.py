"""An Ingest call or IngestStream: what its images share, and equal ones ingested as one."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from google.rpc import status_pb2
from opentelemetry import trace

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.thumbnails import most_bytes
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.items import Incoming
from router_svc.ingest.near_duplicates import NearOrder, NearTurn
from router_svc.ingest.one_item import ItemIngestion
from router_svc.ingest.options import OptionsResolver, ResolvedOptions
from router_svc.ingest.plan import PlanOptions, Wanted, metadata_stands
from router_svc.ingest.steps import Steps
from router_svc.ingest.turns import fold

# As spans tell them.
_OUTCOMES = {
    search_pb2.UPSERT_OUTCOME_CREATED: "created",
    search_pb2.UPSERT_OUTCOME_UPDATED: "updated",
    search_pb2.UPSERT_OUTCOME_UNCHANGED: "unchanged",
    search_pb2.UPSERT_OUTCOME_SKIPPED: "skipped",
}
# What is said of a collection that is no longer as it was when its definition was read.
_OUTDATED = {
    Reason.COLLECTION_NOT_FOUND,
    Reason.SPACE_MISMATCH,
    Reason.SPACE_UNKNOWN,
    Reason.SPACE_NOT_SERVED,
    Reason.VECTOR_DIMENSION_MISMATCH,
    Reason.FEATURES_NOT_KEPT,
}
# A collection that is made anew again and again ends an item with the error it met last.
_MOST_TRIES = 4


class Session:
    """Parts that the images of one call or stream share. Leave it, and whatever is still under way is cancelled."""

    def __init__(
        self, dependencies: Dependencies, resolver: OptionsResolver, options: ResolvedOptions, scopes: IngestScopes
    ) -> None:
        """Begin with the `options` that `resolver` returned; it is asked again where the collection is another."""
        self._dependencies = dependencies
        self._resolver = resolver
        self._scopes = scopes
        self._resolving = asyncio.Lock()
        self._steps = Steps(dependencies, options, scopes)
        self._near = NearOrder(options.near.max_distance) if options.near else None
        self._left: list[Steps] = []

    @property
    def bytes_beside_image(self) -> int:
        """Bytes that an item may hold beside its image while it is in flight."""
        # A photograph's thumbnail takes a tenth of the most that one may take, and noise three quarters.
        thumbnail = most_bytes(self._dependencies.media.thumbnail_px) // 4
        return self._steps.options.features_bytes + thumbnail

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
            # Before anything is waited for: this is the order of the stream.
            near = self._near.enter() if self._near is not None else None
            try:
                await run.begin()
                run.answers = await self._run(incoming, run.members, near)
            finally:
                run.end()
                if near is not None:
                    near.leave()
        done = await run.answer(incoming.turn.place)
        span.set_attribute(spans.ITEM_OUTCOME, _OUTCOMES.get(done.outcome, ""))
        return done

    async def _run(
        self, incoming: Incoming, members: Sequence[Wanted], near: NearTurn | None
    ) -> list[router_pb2.IngestedItem | Exception]:
        """Ingest what several items of one image under one id come to, as one. Alone, each where that fails."""
        if len(members) > 1:
            options = self._steps.options.plan
            folded = fold(members, merges_metadata=options.merges_metadata)
            with contextlib.suppress(LensmeshError):
                return list(_told_apart(await self._as_defined(incoming, folded, near), members, options))
        answers: list[router_pb2.IngestedItem | Exception] = []
        for member in members:
            try:
                answers.append(await self._as_defined(incoming, member, near))
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to this item, and is raised there
                answers.append(error)
        return answers

    async def _as_defined(self, incoming: Incoming, wanted: Wanted, near: NearTurn | None) -> router_pb2.IngestedItem:
        """Ingest under the collection's definition, and again where that turns out to be another by now."""
        tries = 0
        while True:
            steps = self._steps
            try:
                return await ItemIngestion(steps, wanted, near).ingest(incoming.image)
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
        if done.outcome == search_pb2.UPSERT_OUTCOME_SKIPPED:
            yield answer
            continue
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


def failed(ref: str, error: BaseException) -> router_pb2.IngestResult:
    """Make the answer to an item that is not stored."""
    status: status_pb2.Status = to_status(error)
    return router_pb2.IngestResult(ref=ref, error=status)
