"""Items of an ingest, as they come in its body: files with what follows them, or lines of JSON."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from http_svc.json_bodies import parse_json
from http_svc.rest.asked import fitted
from http_svc.rest.ingest_options import metadata_struct
from http_svc.rest.multipart import BodyPart, MultipartReader
from http_svc.rest.sources import ImageSource, image_message, unknown_part
from http_svc.serving.body import Body
from http_svc.settings import HttpSettings
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import Cancelled, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building

_FOLLOWING = ("metadata", "id", "caption", "ref", "image_uri")


class IngestLine(ImageSource):
    """One line of an ingest: an image and what comes with it."""

    ref: Annotated[str, Field(description="Comes back with the answer.")] = ""
    name: Annotated[str, Field(description="Comes back with the answer, as a file's name does.")] = ""
    id: Annotated[str, Field(description="Its id; the digest of its bytes unless given.")] = ""
    caption: Annotated[str, Field(description="Used in place of a generated one.")] = ""
    metadata: dict[str, Any] | None = None
    image_uri: Annotated[str, Field(description="Where the image lies; kept, never fetched.")] = ""


@dataclass(slots=True, eq=False)
class StreamedItem:
    """An item on its way; with an error where it cannot be sent."""

    ref: str
    name: str
    message: router_pb2.IngestItem
    error: LensmeshError | None = None
    held: int = 0
    """Bytes that it holds of the room for bodies."""


async def chunks(body: Body, left: Callable[[], None]) -> AsyncIterator[bytes]:
    """Yield a body as it comes. Raises Cancelled where the client leaves, and calls `left` first."""
    while not body.complete:
        message = await body.receive()
        if message["type"] == "http.disconnect":
            left()
            raise Cancelled(Reason.CANCELLED, "the client left before its body was complete")
        if message.get("body"):
            yield message["body"]


async def files(pieces: AsyncIterator[bytes], boundary: bytes, settings: HttpSettings) -> AsyncIterator[StreamedItem]:
    """Yield the files of a multipart body, each with the parts that follow it."""
    reader = MultipartReader(boundary, settings.body_bytes, skip_large=True)
    item: _FileItem | None = None
    async for piece in pieces:
        for part in reader.feed(piece):
            if part.name == "file":
                if item is not None:
                    yield item.done()
                item = _FileItem(part, settings)
            elif item is None or not item.take(part):
                raise unknown_part(part.name, ("file", *_FOLLOWING))
    reader.finish()
    if item is not None:
        yield item.done()


class _FileItem:
    """A file, and the parts that follow it."""

    def __init__(self, part: BodyPart, settings: HttpSettings) -> None:
        self._settings = settings
        self._item = StreamedItem("", part.file_name, router_pb2.IngestItem())
        self._taken: set[str] = set()
        if part.too_large:
            self._item.error = _too_large(settings.body_bytes)
        else:
            self._item.message.image.content = part.content

    def take(self, part: BodyPart) -> bool:
        """Take a part that follows. Return whether it is known and new."""
        if part.name not in _FOLLOWING or part.name in self._taken:
            return False
        self._taken.add(part.name)
        message = self._item.message
        try:
            with building(part.name):
                if part.too_large:
                    raise _too_large(self._settings.body_bytes)
                if part.name == "metadata":
                    message.metadata.CopyFrom(metadata_struct(parse_json(part.content, self._settings.body_values)))
                elif part.name == "ref":
                    self._item.ref = part.text()
                else:
                    setattr(message, part.name, part.text())
        except LensmeshError as error:
            self._item.error = self._item.error or error
        return True

    def done(self) -> StreamedItem:
        """Return the item."""
        return self._item


async def lines(pieces: AsyncIterator[bytes], settings: HttpSettings) -> AsyncIterator[StreamedItem]:
    """Yield the items of lines of JSON. A line that is too long, or does not fit, fails alone."""
    rest = bytearray()
    skipping = False
    async for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            if skipping or len(rest) + end - start > settings.body_bytes:
                yield _failed(_too_large(settings.body_bytes))
            elif line := bytes(rest + piece[start:end]).strip() if rest else piece[start:end].strip():
                yield _item_of(line, settings)
            rest.clear()
            skipping, start = False, end + 1
        if skipping or len(rest) + len(piece) - start > settings.body_bytes:
            rest.clear()
            skipping = True
        else:
            rest += piece[start:]
    if skipping:
        yield _failed(_too_large(settings.body_bytes))
    elif line := bytes(rest).strip():
        yield _item_of(line, settings)


def _item_of(line: bytes, settings: HttpSettings) -> StreamedItem:
    try:
        asked = fitted(IngestLine, parse_json(line, settings.body_values))
        item = StreamedItem(asked.ref, asked.name, router_pb2.IngestItem())
    except LensmeshError as error:
        return _failed(error)
    try:
        with building("line"):
            message = item.message
            message.id, message.caption, message.image_uri = asked.id, asked.caption, asked.image_uri
            message.image.CopyFrom(image_message(asked, ""))
            if asked.metadata is not None:
                message.metadata.CopyFrom(metadata_struct(asked.metadata))
    except LensmeshError as error:
        item.error = error
    return item


def _failed(error: LensmeshError) -> StreamedItem:
    return StreamedItem("", "", router_pb2.IngestItem(), error)


def _too_large(limit: int) -> InvalidInput:
    return InvalidInput(
        Reason.IMAGE_TOO_LARGE,
        f"the item has more than {limit} bytes (body_bytes): send a smaller image",
        metadata={"limit": limit},
    )
