"""What stands around a call is made once for each method, and costs nothing where it has nothing to do."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Begin, End, Interceptor, RpcMethod
from lensmesh_chassis.rpc.served import ServedMethods
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops
LARGEST = 1 << 20


class Witness:
    """Takes part in the calls of all methods but `Other`, and notes what it is asked and told."""

    def __init__(self, name: str, said: list[str], *, refuses: bool = False) -> None:
        self._name, self._said, self._refuses = name, said, refuses

    def around(self, method: RpcMethod) -> Begin | None:
        self._said.append(f"{self._name} around {method.name}")
        if method.name == "Other":
            return None

        def begin(_context: Any) -> End:
            self._said.append(f"{self._name} begins")
            if self._refuses:
                raise Unavailable(Reason.NOT_READY, "not now")
            return end

        def end(error: BaseException | None, code: grpc.StatusCode) -> None:
            self._said.append(f"{self._name} ends {code.name} {type(error).__name__}")

        return begin


async def echo(request: bytes, _context: Any) -> bytes:
    return request


@asynccontextmanager
async def serving(*interceptors: Interceptor) -> AsyncIterator[grpc.aio.Channel]:
    methods = ServedMethods(interceptors, MessageBudget(1 << 20, message_bytes=LARGEST), max_message_bytes=1 << 20)
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(echo) for name in ("Echo", "Other")}
    methods.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    server = grpc.aio.server(handlers=(methods,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [OWN_CONNECTIONS]) as channel:
            yield channel
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel, method: str) -> bytes:
    call: Any = channel.unary_unary(f"/test/{method}")
    answer: bytes = await call(b"word", timeout=30)
    return answer


async def test_interceptors_are_asked_once_for_each_method() -> None:
    said: list[str] = []
    async with serving(Witness("outer", said), Witness("inner", said)) as channel:
        for _ in range(3):
            assert await ask(channel, "Echo") == b"word"
            assert await ask(channel, "Other") == b"word"
    around = [line for line in said if "around" in line]
    assert around == [f"{name} around {method}" for method in ("Echo", "Other") for name in ("outer", "inner")]
    calls = [line for line in said if "around" not in line]
    assert calls == 3 * ["outer begins", "inner begins", "inner ends OK NoneType", "outer ends OK NoneType"]


async def test_a_refusal_is_told_to_those_outside_of_it_alone() -> None:
    said: list[str] = []
    async with serving(Witness("outer", said), Witness("gate", said, refuses=True), Witness("inner", said)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, "Echo")
        # Its caller may know before those that stand around the call.
        await until(lambda: len(said) >= 6, "the outer one is told")
    assert from_rpc_error(caught.value).reason is Reason.NOT_READY
    assert said[3:] == ["outer begins", "gate begins", "outer ends UNAVAILABLE Unavailable"]


async def test_small_messages_need_no_timer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, loop, timers = MessageBudget(1 << 20, message_bytes=LARGEST), asyncio.get_running_loop(), 0
    call_later = loop.call_later

    def counted(*arguments: Any, **named: Any) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_later(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "get_running_loop", lambda: _Counting(loop, counted))
        for _ in range(1000):
            assert await budget.receive("a", lambda: asyncio.sleep(0, "message")) == "message"
    assert timers < 100


class _Counting:
    """An event loop whose timers are counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call_later: Any) -> None:
        self._loop, self.call_later = loop, call_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_a_broken_off_call_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ServedMethods([], MessageBudget(1 << 20, message_bytes=LARGEST), max_message_bytes=1)
    log = logging.getLogger("grpc._cython.cygrpc")
    for error in (grpc.aio.InternalError("the call is over"), ValueError("a bug")):
        try:
            raise error
        except Exception:
            log.exception("it failed")
    assert [record.exc_info and type(record.exc_info[1]) for record in caplog.records] == [ValueError]
