"""The addresses of vision-encoder and of its router."""

import base64
from typing import Any

import pytest

from lensmesh.router.v1 import router_pb2
from tests.http.compat.conftest import jpeg
from tests.http.conftest import Door
from tests.http.fake_router import FakeRouter

BASE64 = base64.b64encode(jpeg()).decode()


async def test_health_and_info(served: FakeRouter, door: Door) -> None:
    assert (await door.client.get("/health")).json() == {
        "status": "healthy",
        "device": "cuda:0",
        "model": "ViT-B-32/openai",
        "cuda_available": True,
        "gpu_name": "NVIDIA H200",
    }
    assert (await door.client.get("/info")).json() == {
        "model_name": "ViT-B-32",
        "pretrained": "openai",
        "device": "cuda:0",
        "embedding_dim": 4,
        "normalize_default": True,
        "qdrant_enabled": True,
    }


async def test_no_encoder_is_unhealthy(served: FakeRouter, door: Door) -> None:
    served.answers["GetStatus"] = router_pb2.GetStatusResponse()
    answer = await door.client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")


async def test_vectors_of_a_text_and_of_an_image(served: FakeRouter, door: Door) -> None:
    answer = await door.client.post("/embed/text", json={"text": "abc", "normalize": True})
    shown = answer.json()
    assert (shown["embedding"], shown["dimension"], shown["normalized"]) == ([0, 0, 0, 3], 4, True)
    by_url = await door.client.post("/embed/image", json={"image_url": "https://example.org/a.jpg"})
    by_file = await door.client.post("/embed/image", files={"file": ("a.jpg", jpeg())}, data={"normalize": "true"})
    uploaded = await door.client.post("/embed/image/upload", files={"file": ("a.jpg", jpeg())})
    assert by_url.json() == by_file.json() == uploaded.json()
    assert by_url.json()["embedding"] == [1, 0.5, 0, 0]


async def test_a_route_does_what_its_mode_says(served: FakeRouter, door: Door) -> None:
    payload: dict[str, Any] = {"operation": "embed_text", "text": "abcd", "normalize": True}
    answer = await door.client.post("/route", json={"mode": "vision_embed", "message": "embed", "payload": payload})
    shown = answer.json()
    assert (shown["ok"], shown["provider_id"], shown["data"]["embedding"]) == (True, "vision_encoder", [0, 0, 0, 4])
    payload = {"operation": "embed_image", "image_url": BASE64}
    answer = await door.client.post("/route", json={"mode": "vision_embed", "payload": payload})
    assert answer.json()["data"]["embedding"] == [1, 0.5, 0, 0]

    answer = await door.client.post(
        "/route", json={"mode": "image_search", "message": "a cat", "payload": {"top_k": 3}}
    )
    found = answer.json()["data"]
    assert (answer.json()["provider_id"], found["success"], found["count"]) == ("vision_rag", True, 1)
    assert found["images"][0] == {
        "id": "a/b",
        "score": 0.25,
        "metadata": {"album": "x"},
        "path": "https://example.org/a.jpg",
        "caption": "a cat",
    }
    assert "a cat" in found["formatted_text"]
    search = served.requests["Search"][-1]
    assert (search.queries[0].text, search.limit) == ("a cat", 3)


async def test_a_route_that_fails_says_so_in_its_answer(served: FakeRouter, door: Door) -> None:
    payload = {"operation": "embed_image", "image_url": base64.b64encode(b"none").decode()}
    answer = await door.client.post("/route", json={"mode": "vision_embed", "payload": payload})
    assert answer.status_code == 400
    assert (answer.json()["ok"], answer.json()["error"]) == (False, "no image")


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("/embed/text", {}, "text"),
    ("/embed/text", {"text": "a", "normalize": False}, "normalize"),
    ("/embed/text", {"text": "a", "normalize": "perhaps"}, "normalize"),
    ("/embed/image", {}, "image_url"),
    ("/embed/image", {"image_url": "file:///etc/passwd"}, "image_url"),
    ("/route", {"mode": "chat"}, "mode"),
    ("/route", {"mode": "image_search", "payload": []}, "payload"),
]


@pytest.mark.parametrize(("path", "body", "words"), BAD)
async def test_what_is_wrong_is_told(
    served: FakeRouter, door: Door, path: str, body: dict[str, Any], words: str
) -> None:
    answer = await door.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


async def test_a_search_without_a_question_is_refused(served: FakeRouter, door: Door) -> None:
    for payload in ({}, {"text": "a", "top_k": 0}, {"text": "a", "top_k": "many"}):
        answer = await door.client.post("/route", json={"mode": "image_search", "payload": payload})
        assert (answer.status_code, answer.json()["ok"]) == (400, False)
