"""Requests as Immich's server sends them."""

import json
from typing import Any

import pytest

from tests.http.compat.conftest import MODEL, jpeg
from tests.http.conftest import Door
from tests.http.fake_router import FakeRouter


def asked(kind: str, model: str = "ViT-B-32__openai", **options: Any) -> str:
    """Return `entries` as Immich's server writes it."""
    return json.dumps({"clip": {kind: {"modelName": model, "options": options}}})


async def test_it_is_there(served: FakeRouter, door: Door) -> None:
    answer = await door.client.get("/ping")
    assert (answer.status_code, answer.text) == (200, "pong")


async def test_an_image_gives_its_vector_as_text_and_its_size(served: FakeRouter, door: Door) -> None:
    files: dict[str, Any] = {"entries": (None, asked("visual")), "image": ("image.jpg", jpeg(64, 48))}
    answer = await door.client.post("/predict", files=files)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["imageWidth"], shown["imageHeight"]) == (64, 48)
    assert json.loads(shown["clip"]) == [1, 0.5, 0, 0]
    assert served.requests["EncodeImages"][-1].options.space_id == "vs1-a"


async def test_a_text_gives_its_vector_as_text(served: FakeRouter, door: Door) -> None:
    files = {"entries": (None, asked("textual", language="de")), "text": (None, "Strand")}
    answer = await door.client.post("/predict", files=files)
    assert json.loads(answer.json()["clip"]) == [0, 0, 0, 6]
    assert set(answer.json()) == {"clip"}


@pytest.mark.parametrize("name", ["ViT-B-32__openai", MODEL, "vit-b-32:OPENAI"])
async def test_a_model_has_one_name_in_several_writings(served: FakeRouter, door: Door, name: str) -> None:
    files = {"entries": (None, asked("textual", name)), "text": (None, "x")}
    assert (await door.client.post("/predict", files=files)).status_code == 200


async def test_another_model_is_refused_unless_the_operator_names_it(served: FakeRouter, stopped_door: Door) -> None:
    door = await stopped_door.start(model_names="nllb-clip-base-siglip__v1")
    files = {"entries": (None, asked("textual", "ViT-L-14__openai")), "text": (None, "x")}
    answer = await door.client.post("/predict", files=files)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "MODEL_NOT_SERVED")
    assert MODEL in answer.json()["error"]["message"]
    files["entries"] = (None, asked("textual", "nllb-clip-base-siglip__v1"))
    assert (await door.client.post("/predict", files=files)).status_code == 200


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"image": ("a.jpg", jpeg())}, 400, "entries"),
    ({"entries": (None, "{"), "text": (None, "x")}, 400, "JSON"),
    ({"entries": (None, '{"clip": {"visual": {}}}'), "text": (None, "x")}, 400, "modelName"),
    ({"entries": (None, asked("visual")), "text": (None, "x")}, 400, "image"),
    ({"entries": (None, asked("textual")), "image": ("a.jpg", jpeg())}, 400, "text"),
    ({"entries": (None, asked("visual")), "image": ("a.jpg", b"no image")}, 400, "no image"),
    ({"entries": (None, '{"facial-recognition": {}}'), "image": ("a.jpg", jpeg())}, 501, "facial-recognition"),
    ({"entries": (None, '{"ocr": {}}'), "image": ("a.jpg", jpeg())}, 501, "ocr"),
]


@pytest.mark.parametrize(("files", "status", "words"), BAD)
async def test_what_is_wrong_is_told(
    served: FakeRouter, door: Door, files: dict[str, Any], status: int, words: str
) -> None:
    answer = await door.client.post("/predict", files=files)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
