"""The REST face before a whole mesh of mock models: every example, and requests that nobody thought of."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from http_svc.openapi import openapi_document
from http_svc.rest.operations import OperationExample, RestOperation
from tests.http.rest.operations import all_operations
from tests.support.meshes import draw_images, mock_mesh

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "http.md"
EXAMPLES = [(operation, example) for operation in all_operations() for example in operation.examples]
SCHEMA = schemathesis.openapi.from_dict(openapi_document(all_operations(), {}))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@schemathesis.serializer("application/x-ndjson")
def one_line(_: Any, value: Any) -> bytes:
    """Return a body of one line."""
    return json.dumps(value).encode() + b"\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The door of a mesh."""
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--http") as mesh:
        yield mesh.addresses["page"].rstrip("/")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an image."""
    (path,) = draw_images(tmp_path_factory.mktemp("images"), 1)
    return path


def sent(client: httpx2.Client, operation: RestOperation, example: OperationExample, image: Path) -> httpx2.Response:
    """Send an example."""
    path = operation.path.format(**{name: quote(value, safe="") for name, value in example.path.items()})
    files: list[tuple[str, Any]] | None = [
        (name, ("image.png", image.read_bytes()) if text == "@image" else (None, text)) for name, text in example.parts
    ]
    return client.request(operation.method, path, params=example.query, json=example.json, files=files or None)


def test_every_example_of_the_document_is_answered_as_it_says(address: str, image: Path) -> None:
    """In the order of the document: each finds what those before it made."""
    with httpx2.Client(base_url=address, timeout=60) as client:
        for operation, example in EXAMPLES:
            answer = sent(client, operation, example, image)
            name = f"{operation.name}: {example.name}"
            assert answer.status_code == example.status, f"{name}: {answer.text}"
            if answer.headers.get("content-type") == "application/json":
                # What validates it looks at the request's bytes too.
                answer.request.read()
                SCHEMA[operation.path][operation.method].validate_response(answer)
        found = client.get("/v1/search", params={"q": "anything"}).json()["hits"]
        assert {"circle/1", "many/1", "many/2"} <= {hit["image"]["id"] for hit in found}
        thumbnail = client.get("/v1/images/circle%2F1/thumbnail", follow_redirects=True)
        assert thumbnail.headers["content-type"] == "image/webp"


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page, and what it shows of their outputs."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def shapes(text: str) -> list[Any]:
    """Return values of JSON, one behind the other, by their names and types; a text that is none as it is."""
    found, at = [], 0
    try:
        while at < len(text):
            value, at = json.JSONDecoder().raw_decode(text, at)
            found.append(shape(value))
            at += len(text[at:]) - len(text[at:].lstrip())
    except ValueError:
        return [text]
    # Images of one ingest are answered in any order.
    return sorted(found, key=str)


def shape(value: Any) -> Any:
    """Return a value with types in place of what differs from run to run."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in sorted(value.items())}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_commands_of_the_page(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = ["cat.png", "dog.png", "tree.png"]
    for path, name in zip(draw_images(tmp_path / "drawn", 3), names, strict=True):
        path.rename(tmp_path / name)
    (tmp_path / "page.html").write_text("<html>")
    found = commands(PAGE.read_text())
    assert len(found) > 20
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--http") as mesh:
        at = mesh.addresses["http"]
        for command, shown in found:
            sent = ["bash", "-c", command.replace("localhost:50054", at)]
            done = subprocess.run(sent, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
            assert shapes(done.stdout.strip()) == shapes(shown.strip()), command


@SCHEMA.parametrize()
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_requests_that_nobody_thought_of(case: schemathesis.Case[Any], address: str) -> None:
    case.call_and_validate(base_url=address, checks=CHECKS, timeout=60)
