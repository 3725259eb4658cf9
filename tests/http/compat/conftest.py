"""A door before a router that serves one encoder and knows one image."""

import io

import numpy as np
import pytest
from PIL import Image

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.fake_router import FakeRouter

MODEL = "ViT-B-32/openai"
SPACE = common_pb2.VectorSpace(id="vs1-a", model=MODEL, dimension=4, normalized=True)


def jpeg(width: int = 40, height: int = 30) -> bytes:
    """Return a small image."""
    kept = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(kept, "JPEG")
    return kept.getvalue()


def result(numbers: list[float]) -> encoder_pb2.EncodeResult:
    """Return a vector as an encoder sends it."""
    data = np.asarray(numbers, "<f4").tobytes()
    return encoder_pb2.EncodeResult(
        embedding=common_pb2.Embedding(
            space_id=SPACE.id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=len(numbers), data=data
        )
    )


def of_texts(request: encoder_pb2.EncodeTextsRequest) -> encoder_pb2.EncodeTextsResponse:
    """Return a vector of each text: how long it is."""
    return encoder_pb2.EncodeTextsResponse(results=[result([0, 0, 0, len(text)]) for text in request.texts])


def of_images(request: encoder_pb2.EncodeImagesRequest) -> encoder_pb2.EncodeImagesResponse:
    """Return a vector of each image, 1 in its first place; an error for what is no JPEG."""
    wrong = encoder_pb2.EncodeResult(
        error=to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="images[0]"))
    )
    return encoder_pb2.EncodeImagesResponse(
        results=[
            result([1, 0.5, 0, 0]) if image.uri or image.content.startswith(b"\xff\xd8") else wrong
            for image in request.images
        ]
    )


@pytest.fixture
def served(router: FakeRouter) -> FakeRouter:
    """Let the router serve one encoder, one store and one image."""
    device = common_pb2.Device(id="cuda:0", name="NVIDIA H200")
    router.answers["GetStatus"] = router_pb2.GetStatusResponse(
        default_collection="default",
        services=[
            router_pb2.ServiceStatus(
                name="lensmesh.encoder.v1.EncoderService",
                health=router_pb2.HEALTH_SERVING,
                spaces=[SPACE],
                models=[common_pb2.ModelInfo(name=MODEL, devices=[device])],
            ),
            router_pb2.ServiceStatus(
                name="lensmesh.search.v1.SearchService", health=router_pb2.HEALTH_SERVING, store="qdrant 1.20"
            ),
        ],
    )
    router.answers["EncodeTexts"] = of_texts
    router.answers["EncodeImages"] = of_images
    item = search_pb2.Item(id="a/b", image_uri="https://example.org/a.jpg")
    item.caption.text, item.caption.confidence = "a cat", 0.75
    item.metadata.update({"album": "x"})
    router.answers["GetItems"] = lambda request: search_pb2.GetItemsResponse(
        items=[item] if request.ids == ["a/b"] else []
    )
    router.answers["Search"] = router_pb2.SearchResponse(hits=[search_pb2.Hit(item=item, score=0.25)])
    router.answers["Ingest"] = router_pb2.IngestResponse(item=router_pb2.IngestedItem(id="n", caption=item.caption))
    return router
