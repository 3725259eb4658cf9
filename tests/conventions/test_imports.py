"""The arrows between the packages, and calls that a better way replaces everywhere."""

import ast
import subprocess
import sys

import pytest

from tests.conventions.packages import ALLOWED, OURS, ROOT, SERVICES, imports, modules


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_the_architecture_draws(package: str) -> None:
    found = list(modules(package))
    assert found, f"{package} has no modules"
    wrong = [
        f"{path} imports {name}"
        for path, tree in found
        for name in imports(tree)
        if (top := name.split(".")[0]) in OURS and top != package and top not in ALLOWED[package]
    ]
    assert not wrong


def test_inference_knows_no_grpc() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in modules("lensmesh_inference")
        for name in imports(tree)
        if name.split(".")[0] in {"grpc", "lensmesh"} or name.startswith("google.protobuf")
    ]
    assert not wrong


def test_settings_of_model_services_load_no_grpc() -> None:
    """Not by way of the chassis either."""
    code = "import sys, lensmesh_serving.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "lensmesh_chassis.images.fetch_settings" in loaded.split()
    assert not {"grpc", "google.protobuf", "prometheus_client"} & set(loaded.split())


def test_errors_know_no_grpc() -> None:
    for name in ("errors.py", "reasons.py"):
        tree = ast.parse((ROOT / "lensmesh_chassis" / name).read_text())
        assert not [module for module in imports(tree) if module.split(".")[0] in {"grpc", "google", "lensmesh"}]


@pytest.mark.parametrize("package", sorted(SERVICES))
def test_wiring_is_short(package: str) -> None:
    lines = (ROOT / package / "__main__.py").read_text().splitlines()
    assert len(lines) <= 40


# Each with the reason why nobody calls it here.
BANNED = {
    "set_code": "a status set beside the call leaves the trace's span OK: raise a domain error",
    "set_details": "as set_code",
    "abort_with_status": "leaves the trace's span OK: raise a domain error",
    "get_event_loop": "makes a loop where none runs: get_running_loop",
}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_banned_calls(package: str) -> None:
    found = [
        f"{path}:{node.lineno} {node.func.attr}: {BANNED[node.func.attr]}"
        for path, tree in modules(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BANNED
    ]
    assert not found


def test_nobody_owns_the_name_of_the_generated_code() -> None:
    """A regular package called lensmesh would hide gen/lensmesh."""
    assert not (ROOT / "lensmesh").exists()
    assert not list((ROOT / "gen").rglob("__init__.py"))
