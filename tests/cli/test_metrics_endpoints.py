"""The metrics endpoints that `lensmesh up` opens: free ports unless told otherwise, and a taken one is named."""

import json
import socket
from pathlib import Path

from lensmesh_cli.top.looks import SERVICES, endpoints_of
from tests.support.meshes import Mesh, lensmesh


def test_every_service_of_a_local_mesh_shows_metrics_on_a_free_loopback_port(mesh: Mesh) -> None:
    found = endpoints_of(mesh.data)
    assert len(set(found)) == len(SERVICES)
    for service, address in zip(SERVICES, found, strict=True):
        assert address.startswith("127.0.0.1:")
        assert json.loads((mesh.data / "run" / f"{service}.json").read_text())["metrics"] == address
    assert f"lensmesh top --data {mesh.data}" in mesh.said()


def test_a_taken_metrics_port_ends_the_start_with_its_name(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = lensmesh(
            *("up", "--mock", "--free-ports", "--data", tmp_path / "data"), LENSMESH_ENCODER_METRICS_LISTEN=address
        )
    assert done.returncode == 1
    assert f"the encoder service cannot listen on {address}: the port is in use" in done.stderr
    assert "change LENSMESH_ENCODER_METRICS_LISTEN" in done.stderr
    assert "Traceback" not in done.stderr
