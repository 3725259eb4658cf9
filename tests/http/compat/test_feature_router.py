"""The addresses of Image AI Feature Router."""

import pytest

from tests.http.compat.conftest import jpeg
from tests.http.conftest import Door
from tests.http.fake_router import FakeRouter


async def test_an_image_comes_in_with_its_caption(served: FakeRouter, door: Door) -> None:
    expected = {"id": "n", "caption": "a cat", "origin": "local", "confidence": 0.75, "embedding_origin": "local"}
    answer = await door.client.post("/images", files={"file": ("a.jpg", jpeg())})
    assert answer.json() == expected
    assert served.requests["Ingest"][-1].item.image.content == jpeg()
    answer = await door.client.post("/images", json={"url": "https://example.org/a.jpg"})
    assert answer.json() == expected
    assert served.requests["Ingest"][-1].item.image.uri == "https://example.org/a.jpg"


async def test_an_image_is_read_by_its_id(served: FakeRouter, door: Door) -> None:
    answer = await door.client.get("/images/a%2Fb")
    assert answer.json() == {
        "id": "a/b",
        "caption": "a cat",
        "confidence": 0.75,
        "origin": "local",
        "payload": {"album": "x", "src": {"url": "https://example.org/a.jpg"}},
    }
    for wrong in ("/images/none", "/images/a/b", "/images/..%2f..%2fetc"):
        assert (await door.client.get(wrong)).status_code == 404


@pytest.mark.parametrize("name", ["limit", "k"])
async def test_images_are_found_by_a_text(served: FakeRouter, door: Door, name: str) -> None:
    answer = await door.client.get("/search", params={"q": "cats", name: 7})
    assert answer.json() == {"query": "cats", "results": [{"id": "a/b", "caption": "a cat", "score": 0.25}]}
    search = served.requests["Search"][-1]
    assert (search.queries[0].text, search.limit) == ("cats", 7)


async def test_what_is_wrong_is_told(served: FakeRouter, door: Door) -> None:
    for answer, words in (
        (await door.client.get("/search"), "q is empty"),
        (await door.client.get("/search?q=a&limit=0"), "limit"),
        (await door.client.get("/search?q=a&limit=x"), "limit"),
        (await door.client.post("/images", json={}), "image"),
        (await door.client.post("/images", json={"url": 5}), "url"),
        (await door.client.post("/images", content=b"x", headers={"content-type": "image/jpeg"}), "content type"),
        (await door.client.post("/images", files={"other": ("a.jpg", jpeg())}), "image"),
    ):
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]["message"]
