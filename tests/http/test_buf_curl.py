"""Another client of the Connect protocol: buf curl, as its makers wrote it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis import contract
from lensmesh_chassis.errors import NotFound, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door

BUF = Path(sys.executable).parent / "buf"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contracts and all that they import, as descriptors."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in found:
            return
        found[file.name] = copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        for imported in file.dependencies:
            add(imported)

    for service in contract.services():
        add(service.file)
    path = tmp_path_factory.mktemp("schema") / "contracts.binpb"
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString())
    return path


async def curl(schema: Path, door: Door, method: str, request: dict[str, Any]) -> tuple[list[Any], Any]:
    """Call a method. Returns the answers, and the error where there is one."""
    url = f"http://{door.server.address}/lensmesh.{method}"
    arguments: list[str | Path] = ["curl", "--schema", schema, "--protocol", "connect", "--data", json.dumps(request)]
    process = await asyncio.create_subprocess_exec(
        BUF, *arguments, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, wrong = await process.communicate()
    decoder, answers, rest = json.JSONDecoder(), [], said.decode().strip()
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    return answers, json.loads(wrong) if wrong else None


async def test_unary_calls_and_their_errors(door: Door, schema: Path) -> None:
    door.router.answers["Search"] = router_pb2.SearchResponse(hits=[search_pb2.Hit(item=search_pb2.Item(id="cat"))])
    answers, error = await curl(
        schema, door, "router.v1.RouterService/Search", {"queries": [{"text": "a cat"}], "limit": 3}
    )
    assert (answers, error) == ([{"hits": [{"item": {"id": "cat"}}]}], None)
    assert door.router.requests["Search"][0].queries[0].text == "a cat"

    door.router.answers["Search"] = NotFound(Reason.COLLECTION_NOT_FOUND, "no such collection")
    answers, error = await curl(schema, door, "router.v1.RouterService/Search", {"queries": [{"text": "a cat"}]})
    assert answers == []
    assert (error["code"], error["message"]) == ("not_found", "no such collection")
    assert error["details"][0]["type"] == "google.rpc.ErrorInfo"


async def test_streams_and_how_they_end(door: Door, schema: Path) -> None:
    jobs = [search_pb2.WatchJobResponse(job=search_pb2.Job(id="one", done_count=count)) for count in (1, 2)]
    door.router.answers["WatchJob"] = jobs
    answers, error = await curl(schema, door, "search.v1.SearchService/WatchJob", {"id": "one"})
    assert ([answer["job"]["doneCount"] for answer in answers], error) == (["1", "2"], None)

    door.router.answers["WatchJob"] = [*jobs, Unavailable(Reason.DRAINING, "draining", retry_after_s=1)]
    answers, error = await curl(schema, door, "search.v1.SearchService/WatchJob", {"id": "one"})
    assert (len(answers), error["code"], error["message"]) == (2, "unavailable", "draining")
