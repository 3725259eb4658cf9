"""The OpenAPI document, and the page that shows it."""

import json
import re
from typing import Any

import pytest

from http_svc.rest.operations import RestOperation
from lensmesh_chassis import contract
from tests.http.conftest import Door
from tests.http.rest.operations import all_operations


async def document(door: Door) -> dict[str, Any]:
    """Return the document."""
    answer = await door.client.get("/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    shown: dict[str, Any] = answer.json()
    return shown


def refs(value: Any) -> set[str]:
    """Return what a document refers to."""
    if isinstance(value, list):
        return set().union(*map(refs, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(refs, value.values()))


async def test_the_document_has_every_operation_and_every_rpc(door: Door) -> None:
    shown = await document(door)
    assert shown["openapi"] == "3.1.0"
    ids = [each["operationId"] for path in shown["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))
    for each in all_operations():
        assert shown["paths"][each.path][each.method.lower()]["operationId"] == each.name
    for service in contract.services():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            assert (path in shown["paths"]) is not method.client_streaming
    assert {"/lensmesh.router.v1.RouterService/Search", "/lensmesh.search.v1.SearchService/WatchJob"} <= set(
        shown["paths"]
    )


async def test_everything_that_is_referred_to_is_there(door: Door) -> None:
    shown = await document(door)
    names = {name.rpartition("/")[2] for name in refs(shown)}
    assert names
    assert names == set(shown["components"]["schemas"])


@pytest.mark.parametrize("operation", all_operations(), ids=lambda each: each.name)
def test_every_operation_has_an_example(operation: RestOperation) -> None:
    assert operation.examples
    assert operation.examples[0].status in operation.answers
    assert set(operation.path_parameters) == set(re.findall(r"\{(\w+)\}", operation.path))
    for example in operation.examples:
        assert set(example.path) == set(operation.path_parameters)


async def test_the_document_is_asked_for_once(door: Door) -> None:
    first = await door.client.get("/v1/openapi.json")
    again = await door.client.get("/v1/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


async def test_the_page_runs_nothing_but_its_own_files(door: Door) -> None:
    page = await door.client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script>|<style|\son\w+=|https?://", page.text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        found = await door.client.get("/" + address)
        assert found.status_code == 200, address
    script = (await door.client.get("/docs/start.js")).text
    assert "validatorUrl: null" in script
    for name in ("swagger-ui.js", "..%2F__init__.py", "index.html", "%2e%2e/flask_swagger_ui.py"):
        assert (await door.client.get(f"/docs/{name}")).status_code == 404


async def test_the_document_is_json_for_programs(door: Door) -> None:
    shown = await document(door)
    query = {each["name"]: each for each in shown["paths"]["/v1/search"]["get"]["parameters"]}
    assert query["not"]["schema"]["items"] == {"type": "string"}
    assert query["group_by"]["explode"] is False
    form = shown["paths"]["/v1/images"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert json.dumps(shown).count('"title"') == 1
