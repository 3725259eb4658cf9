"""What a command says while the mesh lets it wait: the reason, from the first call on."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import abort
from tests.client.fake_router import FakeRouter
from tests.support.meshes import PATIENCE_S, draw_images, environment

# As the command does, but that it asks soon.
IMPATIENT = (
    "import sys, lensmesh_client.silence as silence; silence.NOTICE_S = silence.ASK_S / 2; "
    "from lensmesh_cli.main import run; sys.exit(run(sys.argv[1:]))"
)


class Waiting(FakeRouter):
    """A router whose store answers nothing until it is let."""

    def __init__(self) -> None:
        super().__init__(unwell="the disk of the database is full")
        self.well = asyncio.Event()

    async def GetCollection(self, request: search_pb2.GetCollectionRequest, context: Any) -> Any:
        await self.well.wait()
        await abort(context, NotFound(Reason.COLLECTION_NOT_FOUND, "there is none"))

    async def Search(self, request: router_pb2.SearchRequest, context: Any) -> router_pb2.SearchResponse:
        await self.well.wait()
        return router_pb2.SearchResponse()

    def search_service(self) -> grpc.GenericRpcHandler:
        """The one method that an ingest calls before its stream."""
        look = grpc.unary_unary_rpc_method_handler(
            self.GetCollection,
            search_pb2.GetCollectionRequest.FromString,
            search_pb2.GetCollectionResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("lensmesh.search.v1.SearchService", {"GetCollection": look})


@pytest.mark.parametrize("command", ["ingest", "search"])
async def test_the_first_call_tells_what_it_waits_for(tmp_path: Path, command: str) -> None:
    draw_images(tmp_path / "in", 1)
    rest = {"ingest": [str(tmp_path / "in"), "--collection", "c"], "search": ["words"]}[command]
    server, router = grpc.aio.server(), Waiting()
    router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
    server.add_generic_rpc_handlers((router.search_service(),))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, command, *rest),
        env=environment(LENSMESH_TARGET=target, XDG_STATE_HOME=str(tmp_path / "state")),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert process.stderr is not None
            told = (await process.stderr.readline()).decode()
            router.well.set()
            rest_told = (await process.stderr.read()).decode()
            assert await process.wait() == 0, told + rest_told
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await server.stop(None)
    assert told.startswith("waiting: no answer for ")
    assert told.endswith("search at 127.0.0.1:2: the disk of the database is full\n")
    # Said once, and counted, whatever the number of looks.
    assert "\nwaiting: " not in rest_told
