"""The service as a process: started as operators start it, measured, stopped."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.settings import SettingsError, load_settings
from search_svc.settings import SearchSettings
from tests.search.support import Stub, collection, create, found, item, named_space, search_request, until, upsert

MAX_MEMORY_BYTES = 200 * 1000 * 1000


async def test_memory_and_a_clean_end(database_url: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LENSMESH_SEARCH_STORE_URL": database_url,
        "LENSMESH_SEARCH_LISTEN": "127.0.0.1:0",
        "LENSMESH_SEARCH_READY_FILE": str(ready),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "search_svc", env=environment)
    try:

        async def is_ready() -> bool:
            assert process.returncode is None
            return ready.exists()

        await until(is_ready)
        address = json.loads(ready.read_text())["addresses"][0]
        async with open_channel(address) as channel:
            stub: Stub = search_pb2_grpc.SearchServiceStub(channel)

            async def serves() -> bool:
                info = await stub.GetInfo(search_pb2.GetInfoRequest())
                return not info.server.not_serving_reason

            await until(serves)
            await create(stub, collection("pictures", named_space(dimension=512, flat=True)))
            vectors = np.random.default_rng(1).standard_normal((1_000, 512))
            await upsert(stub, *(item(f"{i}", vectors[i], {"n": i, "text": "x" * 500}) for i in range(1_000)))
            for i in range(20):
                assert len(await found(stub, search_request(vectors[i], limit=1_000))) == 1_000
            info = await stub.GetInfo(search_pb2.GetInfoRequest())
            assert psutil.Process(process.pid).memory_info().rss < MAX_MEMORY_BYTES
            assert 0 < info.server.memory_bytes < MAX_MEMORY_BYTES
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_the_service_imports_no_model_library() -> None:
    import subprocess

    code = (
        "import sys, search_svc.app, search_svc.settings;"
        "print([name for name in ('torch', 'transformers', 'PIL', 'scipy', 'pandas') if name in sys.modules])"
    )
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["", "mysql://user:very-secret@host/x", "very-secret"])
def test_a_store_url_of_no_known_kind(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings(SearchSettings)
    assert "LENSMESH_SEARCH_STORE_URL" in str(caught.value)
    assert "postgresql://" in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_the_store_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", "postgresql://user:very-secret@host/x")
    settings = load_settings(SearchSettings)
    assert "very-secret" not in repr(settings)
    assert "very-secret" not in settings.model_dump_json()
