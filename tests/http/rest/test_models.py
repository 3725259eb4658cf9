"""Captions, vectors, labels and matches by REST."""

import base64
import struct
from typing import Any

import pytest
from google.protobuf import struct_pb2

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.conftest import Door
from tests.http.rest.answers import PNG, STATUS, item

BAD = to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image"))
BOTH = [common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT]
FILES: list[tuple[str, Any]] = [("image", ("a.png", PNG, "image/png")), ("image", ("b.png", b"bad", "image/png"))]


async def test_captions(door: Door) -> None:
    caption = common_pb2.Caption(text="a cat", model="blip@1", confidence=0.5)
    results = [caption_pb2.CaptionResult(caption=caption), caption_pb2.CaptionResult(error=BAD)]
    door.router.answers["CaptionImages"] = caption_pb2.CaptionImagesResponse(results=results)
    answer = await door.client.post("/v1/caption", files=[*FILES, ("request", (None, '{"prompt": "a"}'))])
    first, second = answer.json()["results"]
    assert first == {"caption": "a cat", "model": "blip@1", "confidence": 0.5}
    assert second["error"]["reason"] == "IMAGE_UNDECODABLE"
    request = door.router.requests["CaptionImages"][-1]
    assert [each.content for each in request.images] == [PNG, b"bad"]
    assert request.options.prompt == "a"


async def test_vectors_of_texts_and_images(door: Door) -> None:
    space = common_pb2.VectorSpace(id="vs1-x", model="ViT", dimension=2, normalized=True, modalities=BOTH)
    model = encoder_pb2.ServedModel(spaces=[space])
    half = common_pb2.Embedding(
        space_id="vs1-x", data_type=common_pb2.DATA_TYPE_FLOAT16, dimension=2, data=struct.pack("<2e", 0.5, -1)
    )
    whole = common_pb2.Embedding(space_id="vs1-x", dimension=2, data=struct.pack("<2f", 0.25, 1))
    door.router.answers |= {
        "GetInfo": lambda _: encoder_pb2.GetInfoResponse(models=[model]),
        "EncodeTexts": encoder_pb2.EncodeTextsResponse(
            results=[encoder_pb2.EncodeResult(embedding=half, truncated=True)]
        ),
        "EncodeImages": encoder_pb2.EncodeImagesResponse(
            results=[encoder_pb2.EncodeResult(embedding=whole), encoder_pb2.EncodeResult(error=BAD)]
        ),
    }
    texts = (await door.client.post("/v1/embed", json={"texts": ["a"], "space_id": "vs1-x"})).json()
    assert texts["results"] == [{"vector": [0.5, -1], "truncated": True}]
    assert texts["space"] == {
        "id": "vs1-x", "model": "ViT", "dimension": 2, "normalized": True, "modalities": ["image", "text"],
    }  # fmt: skip
    assert door.router.requests["EncodeTexts"][-1].options.space_id == "vs1-x"
    images = [{"base64": base64.b64encode(PNG).decode()}, {"url": "https://example.org/b.png"}]
    shown = (await door.client.post("/v1/embed", json={"images": images})).json()
    assert shown["results"][0] == {"vector": [0.25, 1]}
    assert shown["results"][1]["error"]["code"] == "INVALID_ARGUMENT"
    assert len(door.router.requests["GetInfo"]) == 1


async def test_labels_best_first(door: Door) -> None:
    scores = encoder_pb2.LabelScores(probabilities=[0.25, 0.75])
    best = encoder_pb2.LabelScores(best=[encoder_pb2.LabelScore(index=1, label="dog", probability=0.75)])
    results = [encoder_pb2.Classification(scores=each) for each in (scores, best)]
    door.router.answers["ClassifyImages"] = encoder_pb2.ClassifyImagesResponse(results=results)
    request = '{"labels": ["cat", "dog"], "templates": ["{} here"]}'
    answer = await door.client.post("/v1/classify", files=[*FILES, ("request", (None, request))])
    first, second = answer.json()["results"]
    assert first["labels"] == [{"label": "dog", "probability": 0.75}, {"label": "cat", "probability": 0.25}]
    assert second["labels"] == [{"label": "dog", "probability": 0.75}]
    assert list(door.router.requests["ClassifyImages"][-1].templates) == ["{} here"]


async def test_matches_tell_the_entry(door: Door) -> None:
    entry = struct_pb2.ListValue(values=[struct_pb2.Value(string_value="Monet"), struct_pb2.Value(number_value=3)])
    best = router_pb2.MatchCandidate(
        item=item("a"),
        entry=entry,
        confidence=0.75,
        basis=router_pb2.MATCH_BASIS_GEOMETRY,
        hash_distance=4,
        geometry=router_pb2.MatchGeometry(inlier_count=30, homography=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
    )
    match = router_pb2.ImageMatch(verdict=router_pb2.MATCH_VERDICT_NO_MATCH, best=best, alternatives=[best])
    results = [router_pb2.MatchResult(match=match), router_pb2.MatchResult(error=BAD)]
    door.router.answers |= {"GetStatus": STATUS, "MatchImages": router_pb2.MatchImagesResponse(results=results)}
    body = {
        "images": [{"url": "https://example.org/a.png"}] * 2,
        "entry_fields": ["artist", "entry"],
        "thresholds": {"match": 0.9},
        "alternatives": 1,
        "filter": "artist=Monet",
    }
    first, second = (await door.client.post("/v1/match", json=body)).json()["results"]
    assert (first["verdict"], first["ambiguous"]) == ("no_match", False)
    assert first["best"]["entry"] == {"artist": "Monet", "entry": 3}
    assert (first["best"]["basis"], first["best"]["cosine"], first["best"]["hash_distance"]) == ("geometry", None, 4)
    assert (first["best"]["geometry"]["inliers"], first["best"]["image"]["id"]) == (30, "a")
    assert first["alternatives"] == [first["best"]]
    assert second["error"]["reason"] == "IMAGE_UNDECODABLE"
    request = door.router.requests["MatchImages"][-1]
    assert request.thresholds.match == pytest.approx(0.9)
    assert not request.thresholds.HasField("unsure")
    assert request.filter.condition.field == "artist"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/caption", {}, "images"),
        ("/v1/caption", {"images": [{}]}, "images[0]"),
        ("/v1/caption", {"images": [{"base64": "AA==", "url": "x"}]}, "images[0]"),
        ("/v1/caption", {"images": [{"url": "x"}] * 257}, "images"),
        ("/v1/embed", {"texts": ["a"], "images": [{"url": "x"}]}, "texts"),
        ("/v1/embed", {"texts": "a"}, "texts"),
        ("/v1/classify", {"labels": [1], "images": [{"url": "x"}]}, "labels[0]"),
        ("/v1/match", {"images": [{"url": "x"}], "thresholds": {"match": 2}}, "thresholds.match"),
    ],
)
async def test_what_does_not_fit_is_named(door: Door, path: str, body: Any, field: str) -> None:
    answer = await door.client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["fields"][0]["field"]) == (400, field), answer.text
