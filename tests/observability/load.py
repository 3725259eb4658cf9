"""Something to see: callers that ingest, search, embed, and make mistakes, in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import urllib.request
from collections.abc import Iterator

from PIL import Image

from lensmesh_client import Client, IngestItem, LensmeshError

COLLECTION = "load"


def image(number: int) -> bytes:
    """A small PNG, no two alike."""
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (number % 256, number // 256 % 256, 7)).save(file, "PNG")
    return file.getvalue()


def ask_by_http(page: str) -> None:
    """A search by HTTP, and a mistake."""
    body = json.dumps({"collection": COLLECTION, "queries": [{"text": "a red circle"}], "limit": 3}).encode()
    headers = {"content-type": "application/json"}
    for path in ("lensmesh.router.v1.RouterService/Search", "nothing-here"):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(page + path, body, headers), timeout=60).close()


async def one_round(client: Client, number: int) -> None:
    """Eight images, one of them broken, as a stream; one alone; what is asked of them; a few mistakes."""
    items = [IngestItem(image(8 * number + place), ref=str(place)) for place in range(7)]
    async for _ in client.ingest_many([*items, IngestItem(b"no image", ref="bad")], collection=COLLECTION):
        pass
    await client.ingest(image(8 * number), collection=COLLECTION)
    for words in ("a red circle", "two blue stars"):
        await client.search(words, collection=COLLECTION, limit=3)
    await client.search(image=image(number), collection=COLLECTION, limit=3)
    await client.embed(texts=["one", "two"])
    await client.caption([image(number)])
    for mistake in (client.search("x", collection="no-such-collection"), client.search(" ", collection=COLLECTION)):
        with contextlib.suppress(LensmeshError):
            await mistake


@contextlib.contextmanager
def under_load(target: str, page: str) -> Iterator[None]:
    """Rounds one after the other until left. A mesh that is broken on purpose meanwhile ends none of it."""
    stop = threading.Event()
    first = threading.Event()

    async def work() -> None:
        number = 0
        async with Client(target) as client:
            while not stop.is_set():
                with contextlib.suppress(LensmeshError):
                    await one_round(client, number)
                    await asyncio.to_thread(ask_by_http, page)
                    first.set()
                number += 1
                await asyncio.sleep(0.5)

    thread = threading.Thread(target=lambda: asyncio.run(work()), name="load")
    thread.start()
    try:
        assert first.wait(300), "no round of the load got through"
        yield
    finally:
        stop.set()
        thread.join(300)
