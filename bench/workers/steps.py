"""The steps that calls are made of: one request to one service, one echo, or one statement.

A step is described by JSON: {"step": "echo", "address": ...}. A way is a list of steps, one after another.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias
from urllib.parse import urlencode

import grpc
import numpy as np
from numpy.typing import NDArray

from bench.bare import http_echo
from bench.bare.echo import PATH
from bench.bare.statements import HITS, Statements, connect
from bench.workers.http import HttpConnection
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT
from lensmesh_cli.load import supply

Described: TypeAlias = Mapping[str, Any]
Step: TypeAlias = Callable[[], Awaitable[None]]

ECHOED = b"a question of ordinary length, such as a person types into a box"
PATIENCE_S = 60.0


class Steps:
    """Maker of steps. What they need is opened in `stack`."""

    def __init__(self, stack: AsyncExitStack, salt: int) -> None:
        self._stack = stack
        self._texts = supply.texts(salt)
        self._random = np.random.default_rng(salt)

    async def way(self, steps: Sequence[Described]) -> Step:
        """Make one call of all these steps."""
        made = [await getattr(self, f"_{step['step']}")(step) for step in steps]

        async def call() -> None:
            for one in made:
                await one()

        return call

    async def _channel(self, address: str) -> grpc.aio.Channel:
        # A bare one: what a client of ours adds is not what is measured here.
        return await self._stack.enter_async_context(grpc.aio.insecure_channel(address, [DIRECT]))

    async def _echo(self, asked: Described) -> Step:
        channel = await self._channel(asked["address"])
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)

        async def call() -> None:
            await echo(ECHOED, timeout=PATIENCE_S)

        return call

    async def _info(self, asked: Described) -> Step:
        stub = encoder_pb2_grpc.EncoderServiceStub(await self._channel(asked["address"]))

        async def call() -> None:
            await stub.GetInfo(encoder_pb2.GetInfoRequest(), timeout=PATIENCE_S)

        return call

    async def _text(self, asked: Described) -> Step:
        stub = encoder_pb2_grpc.EncoderServiceStub(await self._channel(asked["address"]))

        async def call() -> None:
            request = encoder_pb2.EncodeTextsRequest(texts=[next(self._texts)])
            answer = await stub.EncodeTexts(request, timeout=PATIENCE_S)
            if answer.results[0].HasField("error"):
                raise ValueError(answer.results[0].error.message)

        return call

    async def _search(self, asked: Described) -> Step:
        stub = search_pb2_grpc.SearchServiceStub(await self._channel(asked["address"]))

        async def call() -> None:
            vector = self._vector(asked["dimension"])
            embedding = common_pb2.Embedding(
                space_id=asked["space"],
                data_type=common_pb2.DATA_TYPE_FLOAT32,
                dimension=vector.size,
                data=vector.tobytes(),
            )
            request = search_pb2.SearchRequest(
                collection=asked["collection"], legs=[search_pb2.SearchLeg(embedding=embedding)], limit=HITS
            )
            _check((await stub.Search(request, timeout=PATIENCE_S)).hits)

        return call

    async def _items(self, asked: Described) -> Step:
        stub = search_pb2_grpc.SearchServiceStub(await self._channel(asked["address"]))
        ids = itertools.cycle(asked["ids"])

        async def call() -> None:
            request = search_pb2.GetItemsRequest(collection=asked["collection"], ids=[next(ids)])
            answer = await stub.GetItems(request, timeout=PATIENCE_S)
            if answer.missing_ids:
                raise ValueError(f"there is no item {answer.missing_ids[0]!r}")

        return call

    async def _routed(self, asked: Described) -> Step:
        stub = router_pb2_grpc.RouterServiceStub(await self._channel(asked["address"]))

        async def call() -> None:
            request = router_pb2.SearchRequest(
                collection=asked["collection"], queries=[router_pb2.Query(text=next(self._texts))], limit=HITS
            )
            _check((await stub.Search(request, timeout=PATIENCE_S)).hits)

        return call

    async def _http_echo(self, asked: Described) -> Step:
        connection = await HttpConnection.open(asked["address"], self._stack)
        body = json.dumps({"q": ECHOED.decode()}).encode()

        async def call() -> None:
            await connection.ask("POST", http_echo.PATH, body)

        return call

    async def _http_search(self, asked: Described) -> Step:
        connection = await HttpConnection.open(asked["address"], self._stack)

        async def call() -> None:
            query = urlencode({"q": next(self._texts), "collection": asked["collection"], "limit": HITS})
            answer = json.loads(await connection.ask("GET", f"/v1/search?{query}"))
            if len(answer["hits"]) != HITS:
                raise ValueError(f"{len(answer['hits'])} hits, not {HITS}")

        return call

    async def _nearest(self, asked: Described) -> Step:
        statements = await self._statements(asked)

        async def call() -> None:
            await statements.nearest(self._vector(asked["dimension"]))

        return call

    async def _select(self, asked: Described) -> Step:
        statements = await self._statements(asked)
        ids = itertools.cycle(asked["ids"])

        async def call() -> None:
            await statements.item(next(ids))

        return call

    async def _statements(self, asked: Described) -> Statements:
        connection = await connect(asked["uri"])
        self._stack.push_async_callback(connection.close)
        return await Statements.prepare(connection, asked["collection"])

    def _vector(self, dimension: int) -> NDArray[np.float32]:
        return self._random.standard_normal(dimension, np.float32)


def _check(hits: Sequence[search_pb2.Hit]) -> None:
    if len(hits) != HITS:
        raise ValueError(f"{len(hits)} hits, not {HITS}")
