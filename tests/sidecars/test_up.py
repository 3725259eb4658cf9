"""`lensmesh up --sidecars` as its user meets it: certificates, refusals, crashes, ports."""

import contextlib
import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_client import LensmeshError, SyncClient
from lensmesh_local.process import StartError
from lensmesh_local.sidecars.local import LocalSidecars
from lensmesh_local.supervisor import PORT_OFFSETS
from tests.support.meshes import Mesh, draw_images, lensmesh, mock_mesh
from tests.support.waiting import wait_until

ENVOYS = ("encoder-envoy", "caption-envoy", "search-envoy", "router-envoy")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--sidecars", "--http") as mesh:
        yield mesh


def shows(mesh: Mesh, name: str) -> ChannelSecurity:
    """A caller with the certificate of that identity, as the mesh made it."""
    folder = mesh.data / "tls" / name
    return ChannelSecurity(f"{folder}/ca.crt", f"{folder}/tls.crt", f"{folder}/tls.key")


def as_told(mesh: Mesh) -> dict[str, str]:
    """The environment that `up` tells its user to set."""
    told = next(line for line in mesh.said().splitlines() if "export LENSMESH_TARGET" in line)
    return dict(pair.split("=", 1) for pair in told.split()[1:])


def test_images_pass_with_the_clients_certificate(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path, 50)
    environment = as_told(mesh)
    done = lensmesh("ingest", tmp_path, "--collection", "sidecars", "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert '"stored": 50' in done.stdout
    assert lensmesh("status", **environment).returncode == 0
    with SyncClient(mesh.target, security=shows(mesh, "client"), timeout_s=120) as client:
        assert len(client.search("anything", collection="sidecars", limit=100).hits) == 50
        # The router knows its neighbours by its Envoy's addresses: nothing goes past it.
        behind = {service.kind: service.address for service in client.status().services}
        assert not set(behind.values()) & set(mesh.addresses.values())


def test_the_front_door_calls_the_router_by_the_clients_certificate(mesh: Mesh) -> None:
    with urllib.request.urlopen(f"{mesh.addresses['page']}healthz", timeout=30) as answer:
        assert json.load(answer)["status"] == "ok"


@pytest.mark.parametrize("service", ["router", "encoder", "caption", "search"])
def test_nobody_gets_in_without_the_right_certificate(mesh: Mesh, service: str) -> None:
    address = mesh.addresses[service]
    allowed = {"router": "client"}.get(service, "router")
    strangers = {"router", "encoder", "caption", "search", "client"} - {allowed}
    trusted = shows(mesh, "client").ca_file
    for security in (None, ChannelSecurity(trusted), *(shows(mesh, name) for name in sorted(strangers))):
        with SyncClient(address, security=security, timeout_s=60) as client:
            with pytest.raises(LensmeshError) as caught:
                client.status()
            assert "no lensmesh router answers" in caught.value.message
            assert "It may refuse" in caught.value.message or "give" in caught.value.message
    if service == "router":
        with SyncClient(address, security=shows(mesh, allowed), timeout_s=60) as client:
            assert client.status().serving


def test_an_envoy_that_is_killed_comes_back_where_it_was(mesh: Mesh) -> None:
    pid = mesh.pid("encoder-envoy")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mesh.pid("encoder-envoy") not in {0, pid}, "it is started again")
    with SyncClient(mesh.target, security=shows(mesh, "client"), timeout_s=120) as client:
        wait_until(lambda: client.status().serving, "the mesh serves again")
        client.embed(texts=["a circle"])


def test_keys_are_for_their_owner_alone(mesh: Mesh) -> None:
    for name in ("router", "client"):
        key = mesh.data / "tls" / name / "tls.key"
        assert key.resolve().stat().st_mode & 0o077 == 0


def test_a_killed_supervisor_takes_the_envoys_with_it(tmp_path: Path) -> None:
    with mock_mesh(tmp_path, "--sidecars") as mesh:
        pids = [mesh.pid(name) for name in ENVOYS]
        assert all(psutil.Process(pid).name() == "envoy" for pid in pids)
        mesh.process.kill()
        wait_until(lambda: not any(_runs(pid) for pid in pids), "the Envoys end")


def three_ports(held: contextlib.ExitStack) -> tuple[int, list[socket.socket]]:
    """A base, and sockets bound where the first three Envoys of a mesh there would take calls."""
    while True:
        with contextlib.ExitStack() as tried, contextlib.suppress(OSError, OverflowError):
            bound = [tried.enter_context(socket.socket()) for _ in range(3)]
            bound[0].bind(("127.0.0.1", 0))
            first = bound[0].getsockname()[1]
            for number, each in enumerate(bound[1:], 1):
                each.bind(("127.0.0.1", first + number))
            # The services' own ports are tried before those of their Envoys.
            for number in range(4):
                with socket.socket() as own:
                    own.bind(("127.0.0.1", first - 1000 + number))
            held.push(tried.pop_all())
            return first - 1000, bound


def test_an_envoys_port_in_use_ends_it_with_the_reason(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        port, (router, encoder, caption) = three_ports(held)
        caption.listen()
        # The mesh takes these two before it comes to the captioner's Envoy.
        router.close()
        encoder.close()
        done = lensmesh("up", "--mock", "--sidecars", "--port", str(port), "--data", tmp_path / "data")
    assert done.returncode == 1
    assert f"127.0.0.1:{port + 1002}: the port is in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_tls_of_a_service_and_sidecars_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_ROUTER_TLS_CERTIFICATE_FILE", "x")
    with pytest.raises(StartError, match="unset LENSMESH_ROUTER_TLS_CERTIFICATE_FILE"):
        LocalSidecars(tmp_path, PORT_OFFSETS, "127.0.0.1").prepare()


def test_ports_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    done = lensmesh("up", "--mock", "--sidecars", "--port", "65000", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "--port" in done.stderr


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
