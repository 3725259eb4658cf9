"""`/v1/embeddings` as clients of OpenAI, infinity and vLLM send it."""

import base64
import struct
from typing import Any

import pytest

from tests.http.compat.conftest import MODEL, jpeg
from tests.http.conftest import Door
from tests.http.fake_router import FakeRouter

IMAGE = "data:image/jpeg;base64," + base64.b64encode(jpeg()).decode()


async def test_texts_have_vectors_in_order(served: FakeRouter, door: Door) -> None:
    answer = await door.client.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "a cat"]})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["object"], shown["model"]) == ("list", MODEL)
    assert [each["index"] for each in shown["data"]] == [0, 1]
    assert [each["embedding"][3] for each in shown["data"]] == [1, 5]
    one = await door.client.post("/v1/embeddings", json={"model": MODEL, "input": "a", "encoding_format": "base64"})
    packed = base64.b64decode(one.json()["data"][0]["embedding"])
    assert struct.unpack("<4f", packed) == (0, 0, 0, 1)


FORMS: list[dict[str, Any]] = [
    {"input": IMAGE},
    {"input": [IMAGE], "modality": "image"},
    {"input": ["https://example.org/a.jpg"], "modality": "image"},
    {"input": [{"image": IMAGE}]},
    {"input": [{"type": "image_url", "image_url": {"url": IMAGE}}]},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": IMAGE}},
                    {"type": "text", "text": "Represent it."},
                ],
            }
        ]
    },
]


@pytest.mark.parametrize("form", FORMS)
async def test_images_come_in_several_forms(served: FakeRouter, door: Door, form: dict[str, Any]) -> None:
    answer = await door.client.post("/v1/embeddings", json={"model": MODEL} | form)
    assert answer.status_code == 200, answer.text
    assert [each["embedding"] for each in answer.json()["data"]] == [[1, 0.5, 0, 0]]


async def test_texts_and_images_keep_their_order(served: FakeRouter, door: Door) -> None:
    answer = await door.client.post("/v1/embeddings", json={"input": ["abc", IMAGE, {"text": "ab"}]})
    assert [each["embedding"] for each in answer.json()["data"]] == [[0, 0, 0, 3], [1, 0.5, 0, 0], [0, 0, 0, 2]]


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "input[0]"),
    ({"input": []}, 400, "input is empty"),
    ({"input": [1]}, 400, "input[0]"),
    ({"input": ["a", [1, 2]]}, 400, "input[1]"),
    ({"input": "a", "modality": "audio"}, 400, "modality"),
    ({"input": ["not base64!"], "modality": "image"}, 400, "input[0]"),
    ({"input": "a", "dimensions": 8}, 400, "dimensions"),
    ({"input": "a", "encoding_format": "text"}, 400, "encoding_format"),
    ({"input": "a", "model": "text-embedding-3-small"}, 404, "text-embedding-3-small"),
    ({"messages": []}, 400, "messages"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD)
async def test_what_is_wrong_is_told(
    served: FakeRouter, door: Door, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await door.client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
