"""What anybody sees first: help, versions, exit codes, messages without stack traces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lensmesh_cli.main import app
from tests.support.meshes import Mesh, draw_images, environment, lensmesh

COMMANDS = ("up", "demo", "doctor", "ingest", "search", "match", "embed", "caption", "status", "version")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: lensmesh {command}" in shown.output
    if command != "version":
        assert "Exit codes: 0 done" in shown.output


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert all(f" {command} " in shown.output for command in COMMANDS)


def test_starting_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'grpc', 'numpy', 'PIL'}"
    code = f"import sys, lensmesh_cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (("ingest", "{images}", "--collection", "light"), {"numpy", "PIL", "prometheus_client"}),
        (("search", "a circle", "--collection", "light"), {"numpy", "PIL", "prometheus_client"}),
        (("status",), {"numpy", "PIL", "prometheus_client"}),
        (("top", "--once", "--data", "{data}"), {"numpy", "PIL", "grpc"}),
    ],
)
def test_a_command_imports_only_what_it_needs(
    mesh: Mesh, tmp_path: Path, arguments: tuple[str, ...], heavy: set[str]
) -> None:
    """Imports are most of the time from a command's start to its first call."""
    never = {"torch", "transformers", "open_clip", "pydantic_settings", "psutil", "asyncpg"}
    never |= {"opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation", "rich.markdown"}
    places = {"images": draw_images(tmp_path / "in", 1, start=900)[0].parent, "data": mesh.data}
    words = [word.format_map(places) for word in arguments]
    code = (
        "import sys; from lensmesh_cli.main import run; code = run(sys.argv[1:]); "
        "print('loaded', *sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(LENSMESH_TARGET=mesh.target, XDG_STATE_HOME=str(tmp_path / "state")),
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1].split()
    assert loaded[0] == "loaded"
    assert (never | heavy) & set(loaded) == set()


def test_version() -> None:
    shown = CliRunner().invoke(app, ["version", "--json"])
    assert set(json.loads(shown.output)) == {"lensmesh", "python", "grpcio"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("serch",),
        ("search",),
        ("search", "--not", "a"),
        ("search", "a", "--weight", "text=2"),
        ("search", "a", "--not", "b", "--weight", "2"),
        ("search", "a", "--not", "b", "--weight", "image=2"),
        ("search", "a", "--not", "b", "--weight", "text=nan"),
        ("search", "a", "--not", "b", "--weight", "text=0"),
        ("search", "a", "--not", "b", "--weight", "text=-2"),
        ("search", "a", "--not", "b", "--weight", "text=2", "--weight", "text=3"),
        ("search", *(word for number in range(9) for word in ("--text", str(number)))),
        ("search", "a", "--words-in", "title"),
        ("search", "--words", "a", "--space", "image"),
        ("search", "a", "--group-size", "2"),
        ("search", "a", *(word for field in "abcde" for word in ("--group-by", field))),
        ("search", "a", "--group-by", "b", "--group-by", "b"),
        ("search", "a", "--group-by", "b", "--group-size", "0"),
        ("search", "a", "--group-by", "b", "--group-size", "101"),
        ("search", "a", "--diversity", "nan"),
        ("search", "a", "--diversity", "1.5"),
        ("search", "a", "--like", "b", "--fusion", "best"),
        ("search", "a", "--like", "b", "--fusion", "weighted", "--rrf-k", "5"),
        ("search", "a", "--filter", "nonsense"),
        ("search", "a", "--certificate-file", "x.pem"),
        ("search", "a", "--ca-file", "/nowhere/ca.pem"),
        ("ingest", "/nowhere/at/all"),
        ("ingest", "/tmp", "--captions", "perhaps"),
        ("embed", "/tmp", "-o", "vectors.txt"),
        ("caption", "/nowhere.jpg"),
        ("search", "a", "--filter", "artist=caf\udce9"),
        ("search", "a", "--timeout", "nan"),
        ("ingest", "/tmp", "--file-timeout", "inf"),
        ("smoke", "--wait", "nan"),
        ("top", "--interval", "nan"),
        ("bench", "--warm", "inf"),
        ("stats", "--values", "a", "--time-zone", "UTC"),
        ("jobs", "--state", "done"),
        ("jobs", "--collection", "a", "watch", "one"),
        ("jobs", "watch"),
        ("jobs", "delete"),
        ("jobs", "delete", "--filter", "nonsense"),
        ("jobs", "rebuild", "--m", "101"),
        ("up", "--mock", "--model", "shapes"),
        ("demo", "--count", "0"),
    ],
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.output
    assert done.stderr.strip()
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [("search", "a"), ("status", "--json")])
def test_no_mesh_is_code_3_and_says_how_to_start_one(arguments: tuple[str, ...]) -> None:
    done = lensmesh(*arguments, "--target", "127.0.0.1:1")
    assert done.returncode == 3
    assert "lensmesh up" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
