"""The models themselves: captions, vectors and labels of images that are not stored."""

from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.rest.context import RestContext
from http_svc.rest.models_asked import CaptionBody, ClassifyBody, EmbedBody
from http_svc.rest.operations import OperationExample, PartField, RestOperation
from http_svc.rest.shapes import (
    CaptionedShape,
    CaptionsShape,
    FailureShape,
    LabelledShape,
    LabelsShape,
    TagShape,
    VectorShape,
    VectorsShape,
)
from http_svc.rest.sources import ImageSource, image_message, read_images
from http_svc.rest.values import failed, space, tags, vector
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building


def all_images(asked: list[ImageSource], sent: list[common_pb2.Image]) -> list[common_pb2.Image]:
    """Return the images of a body, those of JSON first. Raises InvalidInput where there are none."""
    images = [image_message(each, f"images[{n}]") for n, each in enumerate(asked)] + sent
    if not images:
        raise InvalidInput(Reason.NO_ITEMS, "images is empty: send one at least, as JSON or as files", field="images")
    return images


class ModelOperations:
    """/v1/caption, /v1/embed and /v1/classify."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def caption(self, request: Request) -> Response:
        """Describe images."""
        asked, sent = await read_images(request, CaptionBody, self._context.settings)
        with building("caption"):
            options = caption_pb2.CaptionOptions(prompt=asked.prompt, max_tokens=asked.max_tokens)
            message = caption_pb2.CaptionImagesRequest(images=all_images(asked.images, sent), options=options)
        mesh = self._context.mesh
        found = await mesh.call(mesh.captioner.CaptionImages, message)
        answer: CaptionsShape = {"results": [_captioned(each) for each in found.results]}
        return json_answer(request, answer)

    async def embed(self, request: Request) -> Response:
        """Make vectors of texts or of images."""
        asked, sent = await read_images(request, EmbedBody, self._context.settings)
        mesh = self._context.mesh
        options = encoder_pb2.EncodeOptions(space_id=asked.space_id)
        found: encoder_pb2.EncodeImagesResponse | encoder_pb2.EncodeTextsResponse
        if asked.texts:
            if asked.images or sent:
                raise InvalidInput(
                    Reason.OPTION_INVALID,
                    "texts stand beside images: send them apart",
                    field="texts",
                )
            with building("texts"):
                texts = encoder_pb2.EncodeTextsRequest(texts=asked.texts, options=options)
            found = await mesh.call(mesh.encoder.EncodeTexts, texts)
        else:
            with building("images"):
                images = encoder_pb2.EncodeImagesRequest(images=all_images(asked.images, sent), options=options)
            found = await mesh.call(mesh.encoder.EncodeImages, images)
        ids = {each.embedding.space_id for each in found.results if each.HasField("embedding")}
        answer: VectorsShape = {
            "space": space(await self._context.known.space(ids.pop())) if ids else None,
            "results": [_embedded(each) for each in found.results],
        }
        return json_answer(request, answer)

    async def classify(self, request: Request) -> Response:
        """Score images against labels."""
        asked, sent = await read_images(request, ClassifyBody, self._context.settings)
        with building("labels"):
            message = encoder_pb2.ClassifyImagesRequest(
                images=all_images(asked.images, sent), labels=asked.labels, templates=asked.templates, top=asked.top
            )
        mesh = self._context.mesh
        found = await mesh.call(mesh.encoder.ClassifyImages, message)
        answer: LabelsShape = {"results": [_labelled(each, asked.labels) for each in found.results]}
        return json_answer(request, answer)


def _captioned(result: caption_pb2.CaptionResult) -> CaptionedShape:
    if result.WhichOneof("outcome") != "caption":
        return {"error": failed(result.error)}
    caption = result.caption
    return {"caption": caption.text, "model": caption.model, "confidence": caption.confidence}


def _embedded(result: encoder_pb2.EncodeResult) -> VectorShape:
    if result.WhichOneof("outcome") != "embedding":
        return {"error": failed(result.error)}
    shown: VectorShape = {"vector": vector(result.embedding)}
    if result.truncated:
        shown["truncated"] = True
    return shown


def _labelled(result: encoder_pb2.Classification, labels: list[str]) -> LabelledShape:
    if result.WhichOneof("outcome") != "scores":
        return {"error": failed(result.error)}
    if result.scores.best:
        return {"labels": tags(result.scores.best)}
    pairs = zip(labels, result.scores.probabilities, strict=False)
    scored: list[TagShape] = [{"label": label, "probability": probability} for label, probability in pairs]
    return {"labels": sorted(scored, key=lambda each: -each["probability"])}


_TAG = "models"
_PARTS = (
    PartField("image", "An image; may repeat.", file=True, required=True, many=True),
    PartField("request", "All else, as the body of JSON has it."),
)


def model_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = ModelOperations(context)
    return [
        RestOperation(
            "POST",
            "/v1/caption",
            "captionImages",
            _TAG,
            "Describe images in words",
            own.caption,
            description="One result for each image; a bad image fails alone.",
            body=CaptionBody,
            parts=_PARTS,
            answers={200: CaptionsShape, 400: FailureShape, 413: FailureShape},
            examples=(OperationExample("A file", parts=(("image", "@image"),)),),
        ),
        RestOperation(
            "POST",
            "/v1/embed",
            "embed",
            _TAG,
            "Make vectors of texts or images",
            own.embed,
            description="One result for each input; a bad one fails alone.",
            body=EmbedBody,
            parts=_PARTS,
            answers={200: VectorsShape, 400: FailureShape, 413: FailureShape},
            examples=(
                OperationExample("Texts", json={"texts": ["a red circle", "a blue square"]}),
                OperationExample("A file", parts=(("image", "@image"),)),
            ),
        ),
        RestOperation(
            "POST",
            "/v1/classify",
            "classifyImages",
            _TAG,
            "Score images against labels, without training",
            own.classify,
            body=ClassifyBody,
            parts=_PARTS,
            answers={200: LabelsShape, 400: FailureShape, 413: FailureShape},
            examples=(
                OperationExample(
                    "A file",
                    parts=(("image", "@image"), ("request", '{"labels": ["a circle", "a square"], "top": 1}')),
                ),
            ),
        ),
    ]
