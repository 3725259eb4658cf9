"""doctor looks before anything runs, and never faints."""

import json
import socket
from pathlib import Path

import pytest

from lensmesh_cli import checks
from lensmesh_cli.checks import Finding, Severity
from tests.support.meshes import lensmesh


def test_doctor_finds_a_machine_that_can_work(tmp_path: Path) -> None:
    done = lensmesh("doctor", "--data", tmp_path / "new", "--json")
    told = json.loads(done.stdout)
    found = {check["name"]: check for check in told["checks"]}
    assert set(found) == {
        "python",
        "torch",
        "devices",
        "models",
        "memory",
        "disk",
        "ports",
        "database",
        "page",
        "envoy",
    }
    assert found["torch"]["grade"] == found["models"]["grade"] == found["database"]["grade"] == "ok", told
    assert all(check["fix"] for check in told["checks"] if check["grade"] != "ok")
    assert done.returncode == (0 if told["ok"] else 1)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = checks.ports(Path(), port)
    assert found.grade is Severity.WARN
    assert str(port) in found.found
    assert "--free-ports" in found.fix


def test_a_folder_that_cannot_hold_data(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert checks.disk(tmp_path, 0).grade is Severity.OK
    assert checks.disk(file / "below", 0).grade is Severity.FAIL


@pytest.mark.parametrize("scheme", ["postgresql", "qdrant", "qdrants"])
def test_a_store_of_ones_own_is_asked(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", f"{scheme}://:very-secret@127.0.0.1:{port}/x")
        assert checks.database(Path(), 0) == Finding("database", Severity.OK, f"{scheme}, of your own")
    found = checks.database(Path(), 0)
    assert found.grade is Severity.FAIL
    assert f"127.0.0.1:{port}" in found.found
    assert "very-secret" not in found.found + found.fix


def test_stores_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", f"qdrant+local:{tmp_path / 'new' / 'folder'}")
    assert checks.database(Path(), 0).grade is Severity.OK
    for url in ("mysql://:very-secret@host", f"qdrant+local:{file}", "qdrant://:very-secret@host:port"):
        monkeypatch.setenv("LENSMESH_SEARCH_STORE_URL", url)
        found = checks.database(Path(), 0)
        assert (found.grade, bool(found.fix)) == (Severity.FAIL, True)
        assert "very-secret" not in found.found + found.fix


def test_up_names_the_stores_it_knows() -> None:
    done = lensmesh("up", "--mock", "--store-url", "mysql://:very-secret@host/x")
    assert done.returncode == 1
    assert "qdrant+local:FOLDER" in done.stderr
    assert "very-secret" not in done.stderr


def test_a_check_that_breaks_is_a_finding() -> None:
    @checks._never_raises("strange")
    def strange(data: Path, port: int) -> Finding:
        raise RuntimeError("unheard of")

    found = strange(Path(), 0)
    assert (found.name, found.grade) == ("strange", Severity.FAIL)
    assert "unheard of" in found.found
