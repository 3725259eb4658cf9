"""doctor looks before anything runs, and never faints."""

import json
import socket
from pathlib import Path

from lensmesh_cli import checks
from lensmesh_cli.checks import Finding, Grade
from tests.cli.meshes import lensmesh


def test_doctor_finds_a_machine_that_can_work(tmp_path: Path) -> None:
    done = lensmesh("doctor", "--data", tmp_path / "new", "--json")
    told = json.loads(done.stdout)
    found = {check["name"]: check for check in told["checks"]}
    assert set(found) == {"python", "torch", "devices", "models", "memory", "disk", "ports", "database", "envoy"}
    assert found["torch"]["grade"] == found["models"]["grade"] == found["database"]["grade"] == "ok", told
    assert all(check["fix"] for check in told["checks"] if check["grade"] != "ok")
    assert done.returncode == (0 if told["ok"] else 1)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = checks.ports(Path(), port)
    assert found.grade is Grade.WARN
    assert str(port) in found.found
    assert "--free-ports" in found.fix


def test_a_folder_that_cannot_hold_data(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert checks.disk(tmp_path, 0).grade is Grade.OK
    assert checks.disk(file / "below", 0).grade is Grade.FAIL


def test_a_check_that_breaks_is_a_finding() -> None:
    @checks._never_raises("strange")
    def strange(data: Path, port: int) -> Finding:
        raise RuntimeError("unheard of")

    found = strange(Path(), 0)
    assert (found.name, found.grade) == ("strange", Grade.FAIL)
    assert "unheard of" in found.found
