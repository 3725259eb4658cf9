"""The images themselves of one call or stream, on their way into the media store beside their items."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import LensmeshError
from router_svc.media.forms import KeptForm
from router_svc.media.inventory import Lacking
from router_svc.media.media import Media
from router_svc.micro_batcher import MicroBatcher, let_go
from router_svc.upstreams.images import PackedImage

Encode = Callable[[Sequence[PackedImage]], Awaitable[Sequence[encoder_pb2.EncodeResult]]]
# Encodes images in one space, with their thumbnails.
ThumbnailCalls = MicroBatcher[PackedImage, encoder_pb2.EncodeResult]


class Keeping:
    """Keeps what the media store lacks. No failure of that store, or of an encoder, becomes the item's."""

    def __init__(self, media: Media, calls: ThumbnailCalls | None) -> None:
        """Keep images in `media`; `calls` make thumbnails of images whose vectors are there. None: nothing is kept."""
        self._media = media
        self._calls = calls

    async def keep(
        self,
        image: PackedImage,
        digest: bytes,
        lacking: Lacking,
        beside: encoder_pb2.EncodeResult | None = None,
    ) -> None:
        """Keep the image of a durable item. `beside` is its encoder's answer that may hold the thumbnail."""
        if self._calls is None:
            return
        if lacking.original:
            await self._media.keep(KeptForm.ORIGINAL, digest, bytes(image.content))
        if lacking.thumbnail:
            result = beside if beside is not None else await self._made(image)
            if result is not None and result.HasField("thumbnail"):
                await self._media.keep(KeptForm.THUMBNAIL, digest, result.thumbnail.content)

    async def make_up(self, image: PackedImage, digest: bytes, lacking: Lacking) -> None:
        """Keep the image of an item that is there unchanged, where it is certain that it is missing."""
        if lacking.certain:
            await self.keep(image, digest, lacking)

    async def _made(self, image: PackedImage) -> encoder_pb2.EncodeResult | None:
        """Make a thumbnail of an image that needs no vector; None where nobody can just now."""
        assert self._calls is not None, "who keeps nothing asks for nothing"
        made: asyncio.Future[encoder_pb2.EncodeResult] = self._calls.enqueue(image)
        try:
            return await made
        except LensmeshError:
            return None
        finally:
            let_go([made])
