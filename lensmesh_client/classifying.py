"""The client's method that labels images, without training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_client import batches, requests, translate
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building, check_text
from lensmesh_client.images import ImageLike, image_bytes, listed
from lensmesh_client.tracing import operation
from lensmesh_client.types import ClassifyResult, Embedding, Embeddings, Priority

if TYPE_CHECKING:
    from lensmesh.common.v1 import common_pb2


class ClassifierCalls:
    """EncoderService.ClassifyImages."""

    _connection: Connection

    @operation("lensmesh classify")
    async def classify(
        self,
        images: Iterable[ImageLike] | ImageLike | Iterable[Embedding] | Embedding | Embeddings,
        labels: Iterable[str],
        *,
        template: str = "",
        templates: Iterable[str] = (),
        top: int = 0,
        space_id: str = "",
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> list[ClassifyResult]:
        """Tell how well each label fits each image, without training (zero-shot; Radford et al. 2021).

        Args:
            images: One image or several, or their vectors, as `embed` returns them. Cut to the server's limits, four
                calls at a time.
            labels: Two to `Limits.max_labels`, none empty, no two alike; one is enough for a model with a sigmoid.
            template: The sentence around a label, with "{}" in its place; empty means "a photo of {}".
            templates: Several sentences in place of `template`, up to 100: a label is the mean of what they make of it.
            top: Only the so many best labels of each image come back; 0 means all.
            space_id: The only space that will do; empty means the mesh's default, and for vectors their own.
            priority: Who waits; None means interactive.
            timeout_s: Seconds until the answer of each call; None is the client's own.

        Returns:
            One result for each image, in the order given; a bad image has its `error`.

        Raises:
            InvalidInput: The labels or the templates cannot be used.
            PreconditionFailed: No encoder serves the space, or its model cannot classify.
            LensmeshError: Any other failure of a whole call.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        given: list[Any] = _listed(images)
        vectors = [one for one in given if isinstance(one, Embedding)]
        if vectors and len(vectors) < len(given):
            raise InvalidInput(
                Reason.OPTION_INVALID, "images holds images and vectors: classify them in two calls", field="images"
            )
        words = requests.label_texts(labels)
        if vectors and not space_id:
            space_id = vectors[0].space_id
        sentences = requests.sentences(templates, "templates")
        with building("labels"):
            ask = encoder_pb2.ClassifyImagesRequest(
                labels=words,
                template=check_text(template, "template"),
                templates=sentences,
                top=top,
                priority=requests.priority(priority),
                space_id=space_id,
            )
        connection = self._connection

        async def classify(chunk: list[Any]) -> Sequence[encoder_pb2.Classification]:
            request = encoder_pb2.ClassifyImagesRequest()
            if vectors:
                request.embeddings.extend(chunk)
            else:
                request.images.extend(requests.images(chunk))
            request.MergeFrom(ask)
            return (await connection.call(connection.encoder.ClassifyImages, request, timeout_s)).results

        load: Any = _message if vectors else partial(image_bytes, max_bytes=limits.max_image_bytes)
        field = "embeddings" if vectors else "images"
        answers = await batches.answers(given, load, classify, batches.beside(limits, ask.ByteSize()), field)
        return [translate.classified(answer, words) for answer in answers]


def _listed(images: Any) -> list[Any]:
    if isinstance(images, Embedding):
        return [images]
    if isinstance(images, Embeddings):
        images.checked()
        return [images[index] for index in range(len(images))]
    return [*listed(images)]


def _message(embedding: Embedding, field: str) -> common_pb2.Embedding:
    from lensmesh_client.vectors import embedding as message

    try:
        return message(embedding.vector, check_text(embedding.space_id, f"{field}.space_id"))
    except LensmeshError as error:
        raise InvalidInput(Reason.VECTOR_INVALID, error.message, field=field) from error
