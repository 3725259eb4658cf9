"""Nothing phones home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LOOK = """
import json, socket, sys
dialled = []
class Spy(socket.socket):
    def connect(self, address): dialled.append(str(address)); raise OSError("no network")
socket.socket = Spy
real = socket.getaddrinfo
def resolve(*args, **kwargs): dialled.append(str(args[:2])); raise OSError("no network")
socket.getaddrinfo = resolve
from lensmesh_inference.backends.openvino_import import import_quietly
import_quietly("openvino")
import_quietly("nncf")
wrapper = sys.modules["nncf.telemetry.wrapper"]
print(json.dumps({
    "dialled": dialled,
    "openvino": type(sys.modules["openvino.tools.ovc"].telemetry).__module__,
    "nncf": isinstance(wrapper.telemetry, wrapper.NNCFTelemetry),
    "loaded": sorted(name for name in sys.modules if name.startswith("openvino_telemetry.")),
}))
"""


def test_openvino_and_nncf_send_nothing(tmp_path: Path) -> None:
    """HOME is empty, as in a container: nobody has declined."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CI", "NNCF", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["dialled"] == []
    assert found["loaded"] == []
    assert found["openvino"] == "openvino.tools.ovc.telemetry_stub"
    assert found["nncf"] is False
    assert not list(tmp_path.rglob("*")), "it wrote an identity or statistics into the home folder"
