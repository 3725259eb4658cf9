"""The router as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc

from lensmesh.router.v1 import router_pb2, router_pb2_grpc

MIB = 1 << 20


def answered(stub: router_pb2_grpc.RouterServiceStub) -> router_pb2.GetStatusResponse:
    """The status, once the process has started."""
    for _ in range(600):
        try:
            return stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60)
        except grpc.RpcError:
            time.sleep(0.1)
    raise AssertionError("it never answered")


def test_it_starts_answers_stays_small_and_drains(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")},
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LENSMESH_ROUTER_LISTEN": "127.0.0.1:0",
        "LENSMESH_ROUTER_READY_FILE": str(ready),
        "LENSMESH_ROUTER_ENCODER_TARGETS": "127.0.0.1:9",
        "LENSMESH_ROUTER_CAPTION_TARGETS": "",
        "LENSMESH_ROUTER_SEARCH_TARGETS": "127.0.0.1:9",
    }
    process = subprocess.Popen([sys.executable, "-m", "router_svc"], env=environment)
    try:
        for _ in range(600):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        [address] = json.loads(ready.read_text())["addresses"]
        with grpc.insecure_channel(address) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            answer = answered(stub)
        assert len(answer.services) == 2
        assert 0 < answer.server.memory_bytes <= 200 * MIB
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def test_it_imports_no_framework() -> None:
    code = (
        "import sys, router_svc.app; "
        "print([name for name in ('torch', 'transformers', 'open_clip', 'asyncpg', 'PIL') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
