"""The client's methods that ask a captioner: images in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from lensmesh.caption.v1 import caption_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_client import batches, bulk_input, requests, streams, translate
from lensmesh_client.bulk import BulkMethod
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building
from lensmesh_client.images import ImageLike, image_bytes, listed
from lensmesh_client.tracing import operation
from lensmesh_client.types import CaptionPiece, CaptionResult, Priority, Transparency
from lensmesh_client.window import WINDOW_BYTES, WINDOW_ITEMS


class CaptionerCalls:
    """CaptionerService.CaptionImages, CaptionStream and StreamCaption."""

    _connection: Connection

    @operation("lensmesh caption")
    async def caption(
        self,
        images: Iterable[ImageLike] | ImageLike,
        *,
        prompt: str = "",
        max_tokens: int = 0,
        beams: int = 0,
        model: str = "",
        transparency: Transparency | str | None = None,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> list[CaptionResult]:
        """Describe images in words.

        Args:
            images: One image or several. Cut to the server's limits, four calls at a time.
            prompt: Words that each caption begins with.
            max_tokens: Its longest length, up to `Limits.max_caption_tokens`; 0 means the service's default, 30.
            beams: Beams of the search, 1 to 8; 0 means 1, which is greedy.
            model: The only model that will do; empty means the mesh's default.
            transparency: "white" describes images as a page shows them; None and "drop" as their colours are stored.
            priority: Who waits; None means interactive.
            timeout_s: Seconds until the answer of each call; None is the client's own.

        Returns:
            One result for each image, in the order given; a bad image has its `error`.

        Raises:
            InvalidInput: An option is outside its range.
            PreconditionFailed: No captioner has that model.
            LensmeshError: Any other failure of a whole call.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        options = _options(prompt, max_tokens, beams, model, transparency, priority)
        connection = self._connection

        async def describe(chunk: list[bytes]) -> Sequence[caption_pb2.CaptionResult]:
            request = caption_pb2.CaptionImagesRequest(images=requests.images(chunk), options=options)
            return (await connection.call(connection.captioner.CaptionImages, request, timeout_s)).results

        given, load = listed(images), partial(image_bytes, max_bytes=limits.max_image_bytes)
        answers = await batches.answers(given, load, describe, limits, "images")
        return [translate.captioned(answer, index) for index, answer in enumerate(answers)]

    def caption_many(
        self,
        images: AsyncIterable[ImageLike] | Iterable[ImageLike],
        *,
        prompt: str = "",
        max_tokens: int = 0,
        beams: int = 0,
        model: str = "",
        transparency: Transparency | str | None = None,
        priority: Priority | str | None = None,
        window_items: int = WINDOW_ITEMS,
        window_bytes: int = WINDOW_BYTES,
        attempts: int = 3,
        patience_s: float = 60.0,
        timeout_s: float | None = None,
        on_resume: Callable[[LensmeshError, int], None] | None = None,
        on_wait: Callable[[str, int], None] | None = None,
    ) -> AsyncGenerator[CaptionResult]:
        """Describe images in words, without end; yield each one's result once, as it is ready, in any order.

        A stream that breaks is opened again, as that of `ingest_many` is, and what has no answer is sent again.

        Args:
            images: Images. A plain iterable is stepped in a thread, and images given as paths are read there.
            prompt: Words that each caption begins with.
            max_tokens: Its longest length, up to `Limits.max_caption_tokens`; 0 means the service's default, 30.
            beams: Beams of the search, 1 to 8; 0 means 1, which is greedy.
            model: The only model that will do; empty means the mesh's default.
            transparency: "white" describes images as a page shows them; None and "drop" as their colours are stored.
            priority: Who waits; None means bulk.
            window_items: How many images are read ahead of the results taken.
            window_bytes: How many bytes of them.
            attempts: How often an image is sent that is refused for the moment.
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.
            on_resume: Told of each broken stream: why, and how many images are sent again.
            on_wait: Told every few seconds while nothing is answered: what the mesh waits for, and how many images.

        Returns:
            A generator of results; one that failed has its `error`.

        Raises:
            PreconditionFailed: No captioner has that model.
            Unavailable: The mesh cannot be reached, or not again in time.
            LensmeshError: Any other failure of the whole.
        """

        def method() -> BulkMethod[CaptionResult]:
            options = _options(prompt, max_tokens, beams, model, transparency, priority)
            return streams.caption(self._connection, options)

        return streams.run(
            self._connection,
            images,
            bulk_input.caption_entry,
            method,
            name="caption_many",
            priority=priority,
            window_items=window_items,
            window_bytes=window_bytes,
            attempts=attempts,
            patience_s=patience_s,
            timeout_s=timeout_s,
            on_resume=on_resume,
            on_wait=on_wait,
        )

    async def stream_caption(
        self,
        image: ImageLike,
        *,
        prompt: str = "",
        max_tokens: int = 0,
        model: str = "",
        transparency: Transparency | str | None = None,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[CaptionPiece]:
        """Describe one image word by word, for somebody who watches.

        Args:
            image: The image.
            prompt: Words that the caption begins with.
            max_tokens: Its longest length, up to `Limits.max_caption_tokens`; 0 means the service's default, 30.
            model: The only model that will do; empty means the mesh's default.
            transparency: "white" describes it as a page shows it; None and "drop" as its colours are stored.
            priority: Who waits; None means interactive.
            timeout_s: Seconds until the last word; None is the client's own.

        Returns:
            A generator of pieces to append; the last one has the whole caption.

        Raises:
            InvalidInput: The image cannot be described, or an option is outside its range.
            PreconditionFailed: No captioner has that model.
            LensmeshError: Any other failure.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        content = await asyncio.to_thread(image_bytes, image, max_bytes=limits.max_image_bytes)
        options = _options(prompt, max_tokens, 0, model, transparency, priority)
        [message] = requests.images([content])
        request = caption_pb2.StreamCaptionRequest(image=message, options=options)
        pieces = self._connection.streamed(self._connection.captioner.StreamCaption, request, timeout_s)
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.WhichOneof("piece") == "caption":
                    whole = translate.caption(piece.caption)
                    yield CaptionPiece(whole.text, whole)
                else:
                    yield CaptionPiece(piece.delta)


def _options(
    prompt: str,
    max_tokens: int,
    beams: int,
    model: str,
    transparency: Transparency | str | None,
    priority: Priority | str | None,
) -> caption_pb2.CaptionOptions:
    with building("options"):
        return caption_pb2.CaptionOptions(
            prompt=prompt,
            max_tokens=max_tokens,
            beam_count=beams,
            model=model,
            priority=requests.priority(priority),
            transparency=requests.transparency(transparency),
        )
