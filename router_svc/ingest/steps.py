"""The steps that an image takes into one collection as it is defined now, each gathered into batch calls."""

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from router_svc.call_scope import CallScope, Patience
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.keeping import Keeping
from router_svc.ingest.lookup import Lookup, LookupResult
from router_svc.ingest.near_lookup import NearItem, NearLookup, NearQuery
from router_svc.ingest.options import ResolvedOptions
from router_svc.ingest.plan import Wanted
from router_svc.ingest.writer import Writer, WriteResult
from router_svc.micro_batcher import MicroBatcher
from router_svc.upstreams.batch_call import failure_of
from router_svc.upstreams.images import PackedImage

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# A vector, a caption and the message around them, where a step's items are not counted themselves.
NOMINAL_BYTES = 4096
# Calls to the store that begin with whatever waits; further ones only when they are full.
STORE_CALLS = 2


class Steps:
    """The batch calls of one call or stream, under one definition of its collection.

    A collection may be deleted and made anew under a running stream: then the stream goes on with other steps.
    """

    def __init__(self, dependencies: Dependencies, options: ResolvedOptions, scopes: IngestScopes) -> None:
        self.options = options
        self._dependencies = dependencies
        media = dependencies.media
        lookup = Lookup(dependencies.stores, options.collection, options.plan, scopes.store, media)
        writer = Writer(dependencies.stores, options.collection, options.metadata_policy, scopes.store)
        encoder = scopes.encoder.at(scopes.encoder.inside("image"))
        captioner = scopes.captioner.at(scopes.captioner.inside("image"))
        describe = dependencies.captioners.images
        # The store does a statement for many items in about the time of one. Two at a time: where a replica hangs, the
        # other call goes on.
        self.lookups: MicroBatcher[Wanted, LookupResult] = self._batcher(
            "lookup", lookup.run, _nominal_bytes, None, eager_calls=STORE_CALLS
        )
        self.writes: MicroBatcher[search_pb2.Item, WriteResult | LensmeshError] = self._batcher(
            "write", writer.run, _item_bytes, _failure_of, eager_calls=STORE_CALLS
        )
        self.captions: MicroBatcher[PackedImage, caption_pb2.CaptionResult] = self._batcher(
            "caption",
            functools.partial(describe.run, options=options.caption_options, scope=captioner),
            describe.size_of,
            failure_of,
        )
        self.vectors: dict[str, MicroBatcher[PackedImage, encoder_pb2.EncodeResult]] = {
            space_id: self._encoder(encode_options, encoder)
            for space_id, encode_options in options.encode_options.items()
        }
        """By VectorSpace.id."""
        self.shown: MicroBatcher[PackedImage, encoder_pb2.EncodeResult] | None = None
        """Vectors in the first space, with thumbnails; None where none are kept."""
        self._thumbnails: MicroBatcher[PackedImage, encoder_pb2.EncodeResult] | None = None
        if media.thumbnail_px:
            # An image that is there already waits for no encoder that is away.
            impatient = encoder.waiting(Patience(busy_s=encoder.patience.busy_s))
            self.shown = self._encoder(options.with_thumbnails(media.thumbnail_px), encoder)
            self._thumbnails = self._encoder(options.thumbnails_alone(media.thumbnail_px), impatient)
        self.keeping = Keeping(media, self._thumbnails)
        self.tags: MicroBatcher[common_pb2.Embedding, encoder_pb2.Classification] | None = None
        if options.tags is not None:
            label = dependencies.encoders.vector_classification
            run = functools.partial(label.run, options=options.tags.request(), scope=encoder)
            self.tags = self._batcher("tag", run, label.size_of, failure_of)
        self.metadata_path = scopes.store.inside("metadata")
        """The path of an item's metadata in the caller's words."""

        self.nearest: MicroBatcher[NearQuery, NearItem | LensmeshError | None] | None = None
        """None where near-duplicates are not looked for."""
        if options.near is not None:
            near = NearLookup(dependencies.stores, options.collection, options.near.max_distance, scopes.store)
            self.nearest = self._batcher("near", near.run, _nominal_bytes, _failure_of, eager_calls=STORE_CALLS)

    async def close(self) -> None:
        """Cancel whatever is still under way."""
        if self.nearest is not None:
            await self.nearest.close()
        for vectors in (*self.vectors.values(), self.shown, self._thumbnails):
            if vectors is not None:
                await vectors.close()
        await self.captions.close()
        if self.tags is not None:
            await self.tags.close()
        await self.lookups.close()
        await self.writes.close()

    def _encoder(
        self, options: encoder_pb2.EncodeOptions, scope: CallScope
    ) -> MicroBatcher[PackedImage, encoder_pb2.EncodeResult]:
        encode = self._dependencies.encoders.images
        run = functools.partial(encode.run, options=options, scope=scope)
        return self._batcher("encode", run, encode.size_of, failure_of)

    def _batcher(
        self,
        name: str,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        size_of: Callable[[Item], int],
        failure: Callable[[Outcome], LensmeshError | None] | None,
        eager_calls: int = 0,
    ) -> MicroBatcher[Item, Outcome]:
        settings = self._dependencies.settings
        return MicroBatcher(
            run,
            size_of=size_of,
            max_items=min(settings.batch_items, self._dependencies.directory.stored_at_once()),
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            eager_calls=eager_calls,
            step=name,
            failure_of=failure,
        )


def _nominal_bytes(_item: object) -> int:
    return NOMINAL_BYTES


def _item_bytes(item: search_pb2.Item) -> int:
    return item.ByteSize()


def _failure_of(outcome: object) -> LensmeshError | None:
    return outcome if isinstance(outcome, LensmeshError) else None
