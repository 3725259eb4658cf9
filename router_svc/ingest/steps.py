"""The steps that an image takes into one collection as it is defined now, each gathered into batch calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from router_svc.ingest.dependencies import Dependencies, Waits
from router_svc.ingest.lookup import Lookup, LookupResult
from router_svc.ingest.options import ResolvedOptions
from router_svc.ingest.plan import Wanted
from router_svc.ingest.writer import Writer, WriteResult
from router_svc.micro_batcher import MicroBatcher
from router_svc.upstreams.batch_call import failure_of
from router_svc.upstreams.models import image_bytes

I = TypeVar("I")  # noqa: E741 - item and outcome, as in the batcher
O = TypeVar("O")  # noqa: E741

# A vector, a caption and the message around them, where a step's items are not counted themselves.
NOMINAL_BYTES = 4096


class Steps:
    """The batch calls of one call or stream, under one definition of its collection.

    A collection may be deleted and made anew under a running stream: then the stream goes on with other steps.
    """

    def __init__(
        self, mesh: Dependencies, asked: ResolvedOptions, waits: Waits, *, prefix: str, deadline: float | None
    ) -> None:
        self.asked = asked
        self._mesh = mesh
        self._waits = waits
        self._path = f"{prefix}image"
        self._deadline = deadline
        lookup = Lookup(mesh.stores, asked.collection, asked.terms, patience=waits.store, deadline=deadline)
        writer = Writer(
            mesh.stores,
            asked.collection,
            asked.metadata_policy,
            prefix=prefix,
            patience=waits.store,
            deadline=deadline,
        )
        self.lookups: MicroBatcher[Wanted, LookupResult] = self._step(
            "lookup", lookup.run, lambda _: NOMINAL_BYTES, lambda _: None
        )
        self.writes: MicroBatcher[search_pb2.Item, WriteResult | LensmeshError] = self._step(
            "write", writer.run, _item_bytes, lambda done: done if isinstance(done, LensmeshError) else None
        )
        self.captions = self._step("caption", self._describe, image_bytes, failure_of)
        self.vectors = {
            space_id: self._step("encode", self._encode_in(options), image_bytes, failure_of)
            for space_id, options in asked.encode_options.items()
        }
        """By VectorSpace.id."""

    async def close(self) -> None:
        """Cancel whatever is still under way."""
        for vectors in self.vectors.values():
            await vectors.close()
        await self.captions.close()
        await self.lookups.close()
        await self.writes.close()

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
            self.asked.caption_options,
            path_of=lambda _: self._path,
            patience=self._waits.captioner,
            deadline=self._deadline,
        )

    def _step(
        self,
        name: str,
        run: Callable[[Sequence[I]], Awaitable[Sequence[O]]],
        size_of: Callable[[I], int],
        failure: Callable[[O], LensmeshError | None],
    ) -> MicroBatcher[I, O]:
        settings = self._mesh.settings
        return MicroBatcher(
            run,
            size_of=size_of,
            max_items=min(settings.batch_items, self._mesh.directory.stored_at_once()),
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            step=name,
            failure_of=failure,
        )


def _item_bytes(item: search_pb2.Item) -> int:
    return item.ByteSize()
