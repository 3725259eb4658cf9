"""Images as they come in: looked at, named, and put in line behind their own kind."""

import asyncio
import contextlib
import hashlib
import unicodedata
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.messages.packing import Slices
from lensmesh_chassis.messages.structs import check_struct
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope
from router_svc.ingest.plan import Wanted
from router_svc.ingest.turns import Turn, Turns
from router_svc.upstreams.images import NO_IMAGE, PackedImage

MAX_ID_BYTES = 256
DIGEST_BYTES = 32
# Below it, hashing what a message brought takes less time than handing it over to a thread.
INLINE_BYTES = 256 * 1024
# The same of looking through metadata, value by value.
INLINE_METADATA_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image that is read, out of its message. Exactly one of `wanted` and `error` is set."""

    ref: str
    image: PackedImage
    size: int
    """Bytes it holds while it is in flight."""
    wanted: Wanted | None
    error: Exception | None
    turn: Turn | None
    """None of an item with an error."""
    fetched: int = 0
    """Bytes that were fetched for it."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An item whose image's bytes are here, or why they are not."""

    image: PackedImage = NO_IMAGE
    uri: str = ""
    fetched: int = 0
    error: Exception | None = None


class Intake:
    """Reads the items of one call or stream."""

    def __init__(self, max_image_bytes: int, hashing: Executor, fetcher: Fetching, scope: CallScope) -> None:
        """Take images in. `scope` is at the item of a call; the items of a stream are told by their own fields."""
        self._max_image_bytes = max_image_bytes
        self._hashing = hashing
        self._fetcher = fetcher
        self._scope = scope
        self._turns = Turns()

    async def read(self, items: Sequence[router_pb2.IngestItem]) -> list[Incoming]:
        """Read the items of one message, in order; a bad one carries its error."""
        found: list[_Found] = []
        slices = Slices()
        for item in items:
            found.append(await self._find(item))
            if slices.over:
                await slices.rest()
        digests = await self._digests([one.image for one in found])
        return [await self._incoming(*one) for one in zip(items, found, digests, strict=True)]

    async def each(self, items: Sequence[router_pb2.IngestItem]) -> AsyncGenerator[Incoming, None]:
        """Yield the items of one message, fetched ones as they are here; items of one id keep their order.

        None waits for an earlier one: what is fetched counts until its item is answered, and that may be what the
        earlier one waits for.
        """
        if not any(item.image.uri for item in items):
            read = await self.read(items)
            # The message is not held while there is no room for what it brought.
            del items
            for incoming in read:
                yield incoming
            return
        ready: asyncio.Queue[Incoming] = asyncio.Queue()
        tasks: list[asyncio.Task[None]] = []
        last_of_id: dict[str, asyncio.Task[None]] = {}
        for item in items:
            tasks.append(asyncio.create_task(self._look_after(last_of_id.get(item.id), item, ready)))
            if item.id:
                last_of_id[item.id] = tasks[-1]
        try:
            for _ in items:
                yield await ready.get()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(
        self, earlier: asyncio.Task[None] | None, item: router_pb2.IngestItem, ready: asyncio.Queue[Incoming]
    ) -> None:
        if earlier is not None:
            await asyncio.wait({earlier})
        [incoming] = await self.read([item])
        ready.put_nowait(incoming)

    async def _find(self, item: router_pb2.IngestItem) -> _Found:
        """Return the image of an item, fetched where it is given by address."""
        uri = item.image.uri
        try:
            if item.image.HasField("content"):
                return _Found(PackedImage.of(item.image))
            content = await image_content(item.image, self._scope.inside("image"), self._fetcher)
            # Fetched once, here: whoever encodes and captions it gets the very bytes that the digest is of.
            return _Found(PackedImage.of(common_pb2.Image(content=content)), uri, len(content))
        except Exception as error:  # noqa: BLE001 - whatever an item breaks, it breaks for itself
            return _Found(uri=uri, error=error)

    async def _digests(self, images: Sequence[PackedImage]) -> list[bytes]:
        """Return the SHA-256 of each image's bytes: of all that one message brought in one thread."""
        left = deque(images)
        if sum(image.size for image in images) <= INLINE_BYTES:
            return _sha256_of_each(left, self._max_image_bytes)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._hashing, _sha256_of_each, left, self._max_image_bytes)
        finally:
            # Of a stream that was left, no thread looks at more than the image that it is in.
            left.clear()

    async def _incoming(self, item: router_pb2.IngestItem, found: _Found, digest: bytes) -> Incoming:
        image, fetched = found.image, found.fetched
        size = image.size + len(item.ref) + len(item.caption)
        try:
            if found.error is not None:
                raise found.error
            self._check_size(len(image.content))
            self._check_digest(item.content_digest, digest)
            check_id(item.id, self._scope.inside("id"))
            metadata, metadata_bytes = await self._metadata(item)
            uri = item.image_uri or found.uri
            wanted = Wanted(item.id or digest.hex(), digest, metadata, item.caption, uri)
            return Incoming(item.ref, image, size + metadata_bytes, wanted, None, self._turns.take(wanted), fetched)
        except Exception as error:  # noqa: BLE001 - as above; an item without an answer would hold its stream
            return Incoming(item.ref, image, size, None, error, None, fetched)

    async def _metadata(self, item: router_pb2.IngestItem) -> tuple[Mapping[str, object], int]:
        """Return the metadata of an item, and their bytes.

        Refuses what the store would refuse, before a model runs, and before it spoils the call that carries it.
        """
        if not item.HasField("metadata"):
            return {}, 0
        field = self._scope.inside("metadata")
        # A part of a message keeps all of it, the images too.
        metadata = struct_pb2.Struct()
        metadata.CopyFrom(item.metadata)
        size = metadata.ByteSize()
        if size <= INLINE_METADATA_BYTES:
            check_struct(metadata, field)
        else:
            await asyncio.get_running_loop().run_in_executor(self._hashing, check_struct, metadata, field)
        return metadata.fields, size

    def _check_size(self, size: int) -> None:
        field = self._scope.inside("image.content")
        if size == 0:
            raise InvalidInput(Reason.IMAGE_EMPTY, f"{field} is empty: send the bytes of an image file", field=field)
        if size > self._max_image_bytes:
            raise InvalidInput(
                Reason.IMAGE_TOO_LARGE,
                f"{field} has {size} bytes and the limit is {self._max_image_bytes}: send a smaller file",
                field=field,
                metadata={"size_bytes": size, "max_image_bytes": self._max_image_bytes},
            )

    def _check_digest(self, told: bytes, real: bytes) -> None:
        field = self._scope.inside("content_digest")
        if told and len(told) != DIGEST_BYTES:
            raise InvalidInput(
                Reason.DIGEST_INVALID,
                f"{field} has {len(told)} bytes: a SHA-256 has {DIGEST_BYTES}; send it raw, or leave it out",
                field=field,
                metadata={"size_bytes": len(told)},
            )
        if told and told != real:
            raise InvalidInput(
                Reason.DIGEST_MISMATCH,
                f"{field} is {told.hex()}, and the image's bytes have {real.hex()}: send both again",
                field=field,
                metadata={"told": told.hex(), "computed": real.hex()},
            )


def _sha256_of_each(left: deque[PackedImage], max_bytes: int) -> list[bytes]:
    """Return the digests of images until none is left; of those beyond the limit, none."""
    digests: list[bytes] = []
    # Another thread may empty it at any time.
    with contextlib.suppress(IndexError):
        while True:
            content = left.popleft().content
            digests.append(hashlib.sha256(content).digest() if len(content) <= max_bytes else b"")
    return digests


def check_id(item_id: str, field: str) -> None:
    """Refuse an Item.id that no store takes. Raises InvalidInput with reason ITEM_ID_INVALID; empty is fine."""
    size = len(item_id.encode())
    if size > MAX_ID_BYTES:
        raise InvalidInput(
            Reason.ITEM_ID_INVALID,
            f"{field} has {size} bytes of UTF-8 and the limit is {MAX_ID_BYTES}: shorten it",
            field=field,
            metadata={"size_bytes": size, "limit_bytes": MAX_ID_BYTES},
        )
    if any(unicodedata.category(character) == "Cc" for character in item_id):
        raise InvalidInput(Reason.ITEM_ID_INVALID, f"{field} has control characters: use printable ones", field=field)
