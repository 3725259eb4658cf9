"""Images as they come in: looked at, named, and put in line behind their own kind."""

import asyncio
import hashlib
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.messages.structs import check_struct
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope
from router_svc.ingest.plan import Wanted
from router_svc.ingest.turns import Turn, Turns

MAX_ID_BYTES = 256
DIGEST_BYTES = 32
# Below it, hashing takes less time than handing over to a thread.
INLINE_BYTES = 256 * 1024
# The same of looking through metadata, value by value.
INLINE_METADATA_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True)
class Incoming:
    """One image that is read. Exactly one of `wanted` and `error` is set."""

    item: router_pb2.IngestItem
    wanted: Wanted | None
    error: Exception | None
    turn: Turn | None
    """None of an item with an error."""
    fetched: int = 0
    """Bytes that were fetched for it."""

    @property
    def size(self) -> int:
        """Bytes it holds while it is in flight."""
        return self.item.ByteSize()


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
        return [self._incoming(*seen) for seen in await asyncio.gather(*(self._look_at(item) for item in items))]

    async def each(self, items: Sequence[router_pb2.IngestItem]) -> AsyncGenerator[Incoming, None]:
        """Yield the items of one message, fetched ones as they are here; items of one id keep their order.

        None waits for an earlier one: what is fetched counts until its item is answered, and that may be what the
        earlier one waits for.
        """
        if not any(item.image.uri for item in items):
            for incoming in await self.read(items):
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
        ready.put_nowait(self._incoming(*await self._look_at(item)))

    def _incoming(self, item: router_pb2.IngestItem, found: Wanted | Exception, fetched: int) -> Incoming:
        if isinstance(found, Wanted):
            try:
                return Incoming(item, found, None, self._turns.take(found), fetched)
            except Exception as error:  # noqa: BLE001 - as of _look_at; an item without an answer would hold its stream
                found = error
        return Incoming(item, None, found, None, fetched)

    async def _look_at(self, item: router_pb2.IngestItem) -> tuple[router_pb2.IngestItem, Wanted | Exception, int]:
        """Return the item, with its image's bytes where they were fetched, what it wants or why not, and their size."""
        uri, size = item.image.uri, 0
        try:
            content = await image_content(item.image, self._scope.inside("image"), self._fetcher)
            if uri:
                size = len(content)
                # Fetched once, here: whoever encodes and captions it gets the very bytes that the digest is of.
                fetched = router_pb2.IngestItem()
                fetched.CopyFrom(item)
                fetched.image.content = content
                item = fetched
            self._check_size(len(content))
            digest = await self._digest(content)
            self._check_digest(item.content_digest, digest)
            check_id(item.id, self._scope.inside("id"))
            await self._check_metadata(item)
        except Exception as error:  # noqa: BLE001 - whatever an item breaks, it breaks for itself
            return item, error, size
        wanted = Wanted(item.id or digest.hex(), digest, item.metadata.fields, item.caption, item.image_uri or uri)
        return item, wanted, size

    async def _digest(self, content: bytes) -> bytes:
        if len(content) <= INLINE_BYTES:
            return _sha256(content)
        return await asyncio.get_running_loop().run_in_executor(self._hashing, _sha256, content)

    async def _check_metadata(self, item: router_pb2.IngestItem) -> None:
        """Refuse what the store would refuse, before a model runs, and before it spoils the call that carries it."""
        if not item.HasField("metadata"):
            return
        field = self._scope.inside("metadata")
        if item.metadata.ByteSize() <= INLINE_METADATA_BYTES:
            check_struct(item.metadata, field)
        else:
            await asyncio.get_running_loop().run_in_executor(self._hashing, check_struct, item.metadata, field)

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


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


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
