"""The service as a process: started as operators start it, measured, stopped."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.settings import SettingsError, load_settings
from search_svc.settings import SearchSettings
from tests.search.processes import search_process
from tests.search.support import collection, create, found, item, named_space, search_request, upsert

MAX_MEMORY_BYTES = 200 * 1000 * 1000


async def test_memory_and_a_clean_end(store_url: str, tmp_path: Path) -> None:
    async with search_process(store_url, tmp_path) as search:
        await search.recovers()
        stub, process = search.stub, search.process
        await create(stub, collection("pictures", named_space(dimension=512, flat=True)))
        vectors = np.random.default_rng(1).standard_normal((1_000, 512))
        await upsert(stub, *(item(f"{i}", vectors[i], {"n": i, "text": "x" * 500}) for i in range(1_000)))
        for i in range(10):
            assert len(await found(stub, search_request(vectors[i], limit=1_000))) == 1_000
        info = await stub.GetInfo(search_pb2.GetInfoRequest())
        assert psutil.Process(process.pid).memory_info().rss < MAX_MEMORY_BYTES
        assert 0 < info.server.memory_bytes < MAX_MEMORY_BYTES
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def test_the_service_imports_no_model_library() -> None:
    import subprocess

    code = (
        "import sys, search_svc.app, search_svc.settings;"
        # Qdrant's client is for those who use Qdrant.
        "large = ('qdrant_client', 'torch', 'transformers', 'PIL', 'scipy', 'pandas');"
        "print([name for name in large if name in sys.modules])"
    )
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["", "mysql://user:very-secret@host/x", "very-secret", "qdrant://:very-secret@h:x"])
def test_a_store_url_of_no_known_kind(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings(SearchSettings)
    assert "LENSMESH_SEARCH_STORE_URL" in str(caught.value)
    assert "qdrant://" in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_the_store_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", "postgresql://user:very-secret@host/x")
    settings = load_settings(SearchSettings)
    assert "very-secret" not in repr(settings)
    assert "very-secret" not in settings.model_dump_json()
