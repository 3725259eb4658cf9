"""Callers that do not read their answers: what they hold counts, others are answered, and they are ended for others."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lensmesh_chassis.channels import OWN_CONNECTIONS, server_options
from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.messages.peer_connection import end_connection
from lensmesh_chassis.messages.unread import AnswerRoom, AnswersOut, take_answer_room
from lensmesh_chassis.rpc.served import ServedMethods
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

MIB = 2**20
LARGE = 4 * MIB
# Room for one of them and gRPC's copy, and not for two.
ROOM = 4 * LARGE

Ask = Callable[[grpc.aio.Channel, str], Any]


class Served:
    """A server whose methods answer LARGE bytes: one message or a stream of them, or less."""

    def __init__(self, **changes: Any) -> None:
        self.used, self.made = 10, 0
        values: dict[str, Any] = {"message_bytes": LARGE, "answer_bytes": ROOM, "patience_s": 0.2, "unread_s": 1000.0}
        memory = {"memory_bytes": 100, "resident": lambda: self.used, "slow_s": 0.0}
        self.budget = MessageBudget(16 * LARGE, **(values | memory | changes))
        self.port = 0

    async def one(self, _request: bytes, _context: Any) -> bytes:
        return bytes(LARGE)

    async def many(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(LARGE)

    async def read(self, _request: bytes, _context: Any) -> bytes:
        """Tells how large its answer may be before it makes it."""
        await take_answer_room(1000)
        self.made += 1
        return bytes(LARGE)

    async def medium(self, _request: bytes, _context: Any) -> bytes:
        return bytes(LARGE // 32)

    async def small(self, _request: bytes, _context: Any) -> bytes:
        return b"small"

    def channel(self) -> grpc.aio.Channel:
        """One with a connection of its own that takes no more of an answer than it was asked for."""
        options = [
            OWN_CONNECTIONS,
            ("grpc.max_receive_message_length", -1),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 64 * 1024),
        ]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options)


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[Served, Callable[[], Awaitable[grpc.aio.Channel]]]]:
    """The server, and what opens a channel to it."""
    served = Served(**changes)
    methods = ServedMethods([], served.budget, max_message_bytes=LARGE)
    server = grpc.aio.server(handlers=(methods,), options=server_options(LARGE))
    handlers: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(served.one),
        "Many": grpc.unary_stream_rpc_method_handler(served.many),
        "Read": grpc.unary_unary_rpc_method_handler(served.read),
        "Medium": grpc.unary_unary_rpc_method_handler(served.medium),
        "Small": grpc.unary_unary_rpc_method_handler(served.small),
    }
    methods.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    served.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(until, lambda: served.budget.held == 0)
        stack.push_async_callback(server.stop, 0)

        async def channel() -> grpc.aio.Channel:
            return await stack.enter_async_context(served.channel())

        yield served, channel


def unread(channel: grpc.aio.Channel, method: str, timeout_s: float | None = None) -> Any:
    """A call whose answer is never asked for. On the wire a unary call is no other than this one."""
    ask: Any = channel.unary_stream(f"/test/{method}")
    return ask(b"", timeout=timeout_s)


async def read(channel: grpc.aio.Channel, method: str) -> bytes:
    ask: Any = channel.unary_unary(f"/test/{method}")
    answer: bytes = await ask(b"", timeout=30)
    return answer


@pytest.mark.parametrize("method", ["One", "Many"])
async def test_what_nobody_reads_is_counted_until_it_is_over(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Memory is short, and the write cannot be taken back: its bytes are free when its connection has ended."""
    async with serving() as (served, channel):
        stuck = unread(await channel(), method)
        await until(lambda: served.budget.held == LARGE)
        served.used = 95
        assert await stuck.code() is grpc.StatusCode.UNAVAILABLE, "told at once, not at its deadline"
        await until(lambda: served.budget.held == 0)
        assert served.budget.given_up == 1
        served.used = 10
        assert await read(await channel(), "One") == bytes(LARGE)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("method", ["One", "Many"])
async def test_answers_beyond_the_room_are_refused(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (served, channel):
        first = unread(await channel(), method)
        await until(lambda: served.budget.held == LARGE)
        refused = [unread(await channel(), method) for _ in range(6)]
        for call in refused:
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-status-details-bin" in dict(await call.trailing_metadata())
        assert served.budget.held == LARGE
        assert served.budget.refused == 6
        assert await read(await channel(), "Small") == b"small"
        assert len(await read(await channel(), "Medium")) == LARGE // 32
        assert not first.done()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_tells_its_size_is_refused_before_it_is_made() -> None:
    async with serving() as (served, channel):
        unread(await channel(), "Read")
        await until(lambda: served.budget.held == LARGE)
        with pytest.raises(grpc.aio.AioRpcError):
            await read(await channel(), "Read")
        assert served.made == 1


async def test_who_does_not_read_goes_when_others_wait() -> None:
    async with serving(patience_s=30.0, unread_s=0.0) as (served, channel):
        stuck = unread(await channel(), "One")
        await until(lambda: served.budget.held == LARGE)
        assert await read(await channel(), "One") == bytes(LARGE)
        assert await stuck.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_ends_meanwhile_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Its deadline passes, or its caller leaves."""
    async with serving() as (served, channel):
        late = unread(await channel(), "One", timeout_s=0.5)
        assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: served.budget.held == 0)
        left = unread(await channel(), "One")
        await until(lambda: served.budget.held == LARGE)
        left.cancel()
        await until(lambda: served.budget.held == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_write_that_is_left_behind_may_fail_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    answers, broken = AnswersOut(MIB, patience_s=1.0), asyncio.Event()

    async def write() -> None:
        await broken.wait()
        raise ConnectionError("the caller is gone")

    call = asyncio.create_task(answers.send(AnswerRoom(), 1000, write, lambda: None))
    await until(lambda: answers.held == 1000)
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait((call,))
    assert call.cancelled()
    assert answers.held == 1000
    broken.set()
    await until(lambda: answers.held == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_a_write_fails_with_is_told_to_its_call() -> None:
    async def write() -> None:
        raise ConnectionError("the caller is gone")

    answers = AnswersOut(MIB, patience_s=1.0)
    with pytest.raises(ConnectionError):
        await answers.send(AnswerRoom(), 1000, write, lambda: None)
    assert answers.held == 0


def test_only_connections_with_a_name_are_ended() -> None:
    assert not end_connection("unix:")
    assert not end_connection("ipv4:192.0.2.1:9")
    assert not end_connection("ipv6:%5B2001:db8::1%5D:9")


def test_the_connection_of_a_peer_is_ended_and_no_other() -> None:
    """Nothing that was looked at on the way stays open."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:

        def connected() -> socket.socket:
            one = stack.enter_context(socket.create_connection(server.getsockname(), timeout=10))
            stack.enter_context(server.accept()[0])
            return one

        one, other = connected(), connected()
        before = {entry.name for entry in Path("/dev/fd").iterdir()}
        assert end_connection(f"ipv4:127.0.0.1:{one.getsockname()[1]}")
        assert {entry.name for entry in Path("/dev/fd").iterdir()} == before
        assert one.recv(1) == b""
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
