"""The client's methods that ask an encoder for vectors of texts and images."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.encode_answers import answers_in
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_client import batches, bulk_input, requests, streams
from lensmesh_client.bulk import BulkMethod
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building, check_text
from lensmesh_client.images import ImageLike, image_bytes, listed
from lensmesh_client.tracing import operation
from lensmesh_client.types import Embeddings, EmbedResult, Priority, Transparency
from lensmesh_client.window import WINDOW_BYTES, WINDOW_ITEMS


class EncoderCalls:
    """EncoderService.EncodeTexts, EncodeImages and EncodeStream."""

    _connection: Connection

    @operation("lensmesh embed")
    async def embed(
        self,
        *,
        texts: Iterable[str] | str | None = None,
        images: Iterable[ImageLike] | ImageLike | None = None,
        space_id: str = "",
        transparency: Transparency | str | None = None,
        perceptual_hash: bool = False,
        local_features: bool = False,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Make vectors of texts or of images. Exactly one of `texts` and `images` is given.

        Args:
            texts: One text or several.
            images: One image or several. Cut to the server's limits, as texts are, four calls at a time.
            space_id: The only space that will do; empty means the mesh's default.
            transparency: Without `space_id`: the default model's space with this policy.
            perceptual_hash: Whether images get their perceptual hash too.
            local_features: Whether images get their local features too, some 16 kB each, by which two of them can be
                compared point by point.
            priority: Who waits; None means interactive.
            timeout_s: Seconds until the answer of each call; None is the client's own.

        Returns:
            Vectors, float32 of shape (n, d), in the order given; `errors` tells of bad inputs.

        Raises:
            InvalidInput: Both of `texts` and `images` are given, or none.
            PreconditionFailed: No encoder serves the space, or makes local features.
            LensmeshError: Any other failure of a whole call.
        """
        from lensmesh_client import vectors

        limits = await self._connection.limits(timeout_s=timeout_s)
        if local_features and limits.max_message_bytes:
            # Their answers are larger than images may be.
            fits = answers_in(limits.max_message_bytes)
            limits = replace(limits, max_items=min(limits.max_items or fits, fits))
        options = _options(
            space_id, transparency, priority, perceptual_hash=perceptual_hash, local_features=local_features
        )
        connection = self._connection

        async def encode_texts(chunk: list[str]) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeTextsRequest(texts=chunk, options=options)
            return (await connection.call(connection.encoder.EncodeTexts, request, timeout_s)).results

        async def encode_images(chunk: list[bytes]) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeImagesRequest(images=requests.images(chunk), options=options)
            return (await connection.call(connection.encoder.EncodeImages, request, timeout_s)).results

        if texts is not None and images is None:
            with building("texts"):
                words = [texts] if isinstance(texts, str) else list(texts)
            return vectors.embeddings(await batches.answers(words, check_text, encode_texts, limits, "texts"))
        if images is not None and texts is None:
            given, load = listed(images), partial(image_bytes, max_bytes=limits.max_image_bytes)
            return vectors.embeddings(await batches.answers(given, load, encode_images, limits, "images"))
        raise InvalidInput(Reason.QUERY_INVALID, "embed takes exactly one of texts and images", field="images")

    def embed_many(
        self,
        *,
        texts: AsyncIterable[str] | Iterable[str] | None = None,
        images: AsyncIterable[ImageLike] | Iterable[ImageLike] | None = None,
        space_id: str = "",
        transparency: Transparency | str | None = None,
        perceptual_hash: bool = False,
        local_features: bool = False,
        priority: Priority | str | None = None,
        window_items: int = WINDOW_ITEMS,
        window_bytes: int = WINDOW_BYTES,
        attempts: int = 3,
        patience_s: float = 60.0,
        timeout_s: float | None = None,
        on_resume: Callable[[LensmeshError, int], None] | None = None,
        on_wait: Callable[[str, int], None] | None = None,
    ) -> AsyncGenerator[EmbedResult]:
        """Make vectors of texts or of images, without end; yield each one's result once, as it is ready, in any order.

        A stream that breaks is opened again, as that of `ingest_many` is, and what has no answer is sent again.

        Args:
            texts: Texts; a plain iterable is stepped in a thread.
            images: Images; those given as paths are read in that thread.
            space_id: The only space that will do; empty means the mesh's default.
            transparency: Without `space_id`: the default model's space with this policy.
            perceptual_hash: Whether images get their perceptual hash too.
            local_features: Whether images get their local features too, some 16 kB each, by which two of them can be
                compared point by point.
            priority: Who waits; None means bulk.
            window_items: How many inputs are read ahead of the results taken.
            window_bytes: How many bytes of them.
            attempts: How often an input is sent that is refused for the moment.
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.
            on_resume: Told of each broken stream: why, and how many inputs are sent again.
            on_wait: Told every few seconds while nothing is answered: what the mesh waits for, and how many inputs.

        Returns:
            A generator of results; one that failed has its `error`.

        Raises:
            InvalidInput: Both of `texts` and `images` are given, or none.
            PreconditionFailed: No encoder serves the space, or makes local features.
            Unavailable: The mesh cannot be reached, or not again in time.
            LensmeshError: Any other failure of the whole.
        """
        if (texts is None) == (images is None):
            raise InvalidInput(Reason.QUERY_INVALID, "embed_many takes exactly one of texts and images", field="images")
        # What reads an input fits what is given.
        given: Any = images if texts is None else texts
        read: Any = bulk_input.image_entry if texts is None else bulk_input.text_entry

        def method() -> BulkMethod[EmbedResult]:
            return streams.embed(
                self._connection,
                _options(
                    space_id, transparency, priority, perceptual_hash=perceptual_hash, local_features=local_features
                ),
            )

        return streams.run(
            self._connection,
            given,
            read,
            method,
            name="embed_many",
            priority=priority,
            window_items=window_items,
            window_bytes=window_bytes,
            attempts=attempts,
            patience_s=patience_s,
            timeout_s=timeout_s,
            on_resume=on_resume,
            on_wait=on_wait,
        )


def _options(
    space_id: str,
    transparency: Transparency | str | None,
    priority: Priority | str | None,
    *,
    perceptual_hash: bool,
    local_features: bool,
) -> encoder_pb2.EncodeOptions:
    with building("options"):
        return encoder_pb2.EncodeOptions(
            space_id=space_id,
            data_type=common_pb2.DATA_TYPE_FLOAT32,
            priority=requests.priority(priority),
            transparency=requests.transparency(transparency),
            perceptual_hash=perceptual_hash,
            local_features=local_features,
        )
