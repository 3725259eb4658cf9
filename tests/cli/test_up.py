"""A mesh under stress: crashes, Ctrl-C, a second mesh on the same folder, a supervisor that is killed."""

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lensmesh_cli import checks, parts
from lensmesh_cli.top.looks import LookDifference, endpoints_of, look
from lensmesh_client import IngestItem, SyncClient
from lensmesh_local.supervisor import MeshOptions, Supervisor
from tests.cli.in_process import lensmesh_here
from tests.support.meshes import Mesh, draw_images, environment, lensmesh, mock_mesh
from tests.support.waiting import wait_until

NAMES = ("database", "encoder", "caption", "search", "router", "http")


@pytest.fixture
def pids(mesh: Mesh) -> dict[str, int]:
    """Of every process of the shared mesh."""
    wait_until(lambda: all(mesh.pid(name) for name in NAMES), "every process has its ready file")
    return {name: mesh.pid(name) for name in NAMES}


def test_an_encoder_killed_during_an_ingest_of_500(mesh: Mesh, pids: dict[str, int], tmp_path: Path) -> None:
    paths = draw_images(tmp_path, 500, start=1_000)
    with SyncClient(mesh.target, timeout_s=120) as client:
        results = []
        for result in client.ingest_many((IngestItem(path) for path in paths), collection="killed"):
            results.append(result)
            if len(results) == 60:
                os.kill(pids["encoder"], signal.SIGKILL)
        assert sorted(result.index for result in results) == list(range(500))
        assert [result.error for result in results if not result.ok] == []
        assert len({result.id for result in results}) == 500
        wait_until(lambda: mesh.pid("encoder") not in {0, pids["encoder"]}, "the encoder is back")
        wait_until(lambda: client.status().serving, "the mesh serves again")
        encoder = next(service for service in client.status().services if service.kind == "encoder")
        assert encoder.address == mesh.addresses["encoder"]
        # Every one is stored, once.
        hits = client.search("anything", collection="killed", limit=1000, exact=True).hits
        assert {hit.id for hit in hits} == {result.id for result in results}
        assert len(hits) == 500
    assert "encoder was killed by SIGKILL; it is started again" in mesh.said()


def test_a_database_killed_comes_back(mesh: Mesh, pids: dict[str, int], tmp_path: Path) -> None:
    draw_images(tmp_path, 2, start=2_000)
    assert mesh.json("ingest", tmp_path, "--collection", "crash")["stored"] == 2
    server = psutil.Process(int((mesh.data / "postgres" / "postmaster.pid").read_text().split()[0]))
    server.kill()
    wait_until(lambda: mesh.pid("database") not in {0, pids["database"]}, "the database is back")
    with SyncClient(mesh.target, timeout_s=60) as client:
        wait_until(lambda: client.status().serving, "search serves again")
        assert len(client.search("anything", collection="crash").hits) == 2


def test_thumbnails_are_kept_in_the_data_folder(mesh: Mesh, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1, start=3_000)
    with SyncClient(mesh.target, timeout_s=60) as client:
        assert client.status().media.thumbnails
        client.ingest(path, collection="shown")
        [hit] = client.search("anything", collection="shown").hits
        shown = client.image(hit.content_digest)
    assert shown.media_type == "image/webp"
    kept = mesh.data / "media" / "thumbnails" / hit.content_digest[:2] / f"{hit.content_digest}.webp"
    wait_until(kept.exists, "the thumbnail is written")
    assert kept.read_bytes() == shown.content


@pytest.mark.parametrize(
    ("thumbnails", "said", "wanted"),
    [
        (True, None, {"MEDIA_URL": "DATA/media"}),
        (False, None, {}),
        (True, "s3://bucket", {}),
        (True, "", {}),
    ],
)
def test_the_environment_names_another_place_for_thumbnails(
    thumbnails: bool, said: str | None, wanted: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LENSMESH_ROUTER_MEDIA_URL", raising=False)
    if said is not None:
        monkeypatch.setenv("LENSMESH_ROUTER_MEDIA_URL", said)
    supervisor = Supervisor(MeshOptions(tmp_path, thumbnails=thumbnails), print)
    assert supervisor.media() == {name: value.replace("DATA", str(tmp_path)) for name, value in wanted.items()}


def test_a_second_mesh_on_the_same_folder_is_refused(mesh: Mesh) -> None:
    done = lensmesh("up", "--mock", "--free-ports", "--data", mesh.data)
    assert done.returncode == 1
    assert f"in use by the mesh of process {mesh.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_is_served_and_its_process_comes_back_where_it_was(mesh: Mesh, pids: dict[str, int]) -> None:
    page = mesh.addresses["page"]
    assert page == f"http://{mesh.addresses['http']}/"
    assert f"\npage  {page}\n" in mesh.said()
    with urllib.request.urlopen(page, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/html")
    assert asked(f"{page}healthz")["status"] == "ok"
    os.kill(pids["http"], signal.SIGKILL)
    wait_until(lambda: mesh.pid("http") not in {0, pids["http"]}, "it is started again")
    wait_until(lambda: "http serves again" in mesh.said(), "it serves again")
    methods = asked(f"{page}lensmesh.router.v1.RouterService/GetStatus", b"{}")
    assert {service["health"] for service in methods["services"]} == {"HEALTH_SERVING"}


def asked(address: str, body: bytes | None = None) -> dict[str, Any]:
    """The JSON of an answer."""
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def test_without_the_packages_of_the_page_the_mesh_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert parts.missing_for_http() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert parts.missing_for_http() == 'uvicorn not installed: pip install "lensmesh[http]"'
    assert checks.page(Path(), 0).grade is checks.Severity.WARN


def test_ctrl_c_drains_and_leaves_nothing_running(tmp_path: Path) -> None:
    with mock_mesh(tmp_path, "--http") as mesh:
        processes = [psutil.Process(mesh.pid(name)) for name in NAMES]
        postgres = int((mesh.data / "postgres" / "postmaster.pid").read_text().split()[0])
        os.killpg(mesh.process.pid, signal.SIGINT)
        assert mesh.process.wait(120) == 0
        assert "draining" in mesh.said()
        assert not (tmp_path / "ready.json").exists()
    assert not any(_runs(process.pid) for process in processes)
    assert not _runs(postgres)
    for name in ("encoder", "caption", "search", "router", "http"):
        assert "draining" in (mesh.data / "logs" / f"{name}.log").read_text()


def test_a_second_ctrl_c_forces(tmp_path: Path) -> None:
    with mock_mesh(tmp_path) as mesh:
        pids = [mesh.pid(name) for name in NAMES if name != "http"]
        # One that cannot drain.
        os.kill(mesh.pid("caption"), signal.SIGSTOP)
        os.killpg(mesh.process.pid, signal.SIGINT)
        wait_until(lambda: "once more to force" in mesh.said(), "it drains")
        os.killpg(mesh.process.pid, signal.SIGINT)
        assert mesh.process.wait(120) == 1
    assert not any(_runs(pid) for pid in pids)


def test_a_killed_supervisor_takes_all_with_it(tmp_path: Path) -> None:
    with mock_mesh(tmp_path) as mesh:
        pids = [mesh.pid(name) for name in NAMES if name != "http"]
        pids.append(int((mesh.data / "postgres" / "postmaster.pid").read_text().split()[0]))
        mesh.process.kill()
        wait_until(lambda: not any(_runs(pid) for pid in pids), "its children end")


def test_several_encoders(tmp_path: Path) -> None:
    with mock_mesh(tmp_path, "--encoders", "2") as mesh:
        draw_images(tmp_path / "images", 60)
        assert mesh.json("ingest", tmp_path / "images", "--collection", "shared")["stored"] == 60
        # One process each, and the Router gives work to both.
        looks = [one for one in asyncio.run(look(endpoints_of(mesh.data))) if one.component == "encoder"]
        assert len(looks) == 2
        assert all(LookDifference([(one, one)]).now("lensmesh_engine_batch_items_count") > 0 for one in looks)
        with SyncClient(mesh.target) as client:
            found = [one.address for one in client.status().services if one.kind == "encoder"]
            assert found == [mesh.addresses["encoder"], mesh.addresses["encoder-2"]]
            os.kill(mesh.pid("encoder-2"), signal.SIGKILL)
            assert len(client.search("anything", collection="shared").hits) == 10
        wait_until(lambda: "encoder-2 was killed by SIGKILL; it is started again" in mesh.said(), "it is said")


def test_sidecars_stand_before_one_encoder(tmp_path: Path) -> None:
    done = lensmesh_here("up", "--mock", "--sidecars", "--encoders", "2", "--data", tmp_path)
    assert done.code == 2
    assert "leave out --encoders" in done.err


def test_a_router_with_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with mock_mesh(
        tmp_path, LENSMESH_ROUTER_TLS_CERTIFICATE_FILE=str(certificate), LENSMESH_ROUTER_TLS_KEY_FILE=str(key)
    ) as mesh:
        assert mesh.run("status").returncode == 3
        assert mesh.json("status", "--ca-file", certificate)["serving"] is True


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "router.pem", folder / "router.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret


def test_a_model_nobody_knows_ends_it_with_the_reason(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "lensmesh_cli", "up", "--free-ports", "--data", str(tmp_path / "data"),
            "--model", "local-dir:/nowhere", "--caption-model", "mock",
        ],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/nowhere" in done.stderr
    assert "encoder.log" in done.stderr


def test_a_port_in_use_ends_it_with_the_reason(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # The captioner's, two above the router's.
        port = taken.getsockname()[1] - 2
        done = lensmesh_here("up", "--mock", "--port", str(port), "--data", tmp_path / "data")
    assert done.code == 1
    assert "the caption service cannot listen on" in done.err
    assert "the port is in use" in done.err
    # Found before anything was started: a model may take minutes to load.
    assert not list((tmp_path / "data" / "logs").iterdir())


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
