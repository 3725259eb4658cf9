"""Who gets a call, who gets it next, and how long it waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from lensmesh_chassis.errors import (
    DeadlineExceeded,
    InvalidInput,
    LensmeshError,
    Overloaded,
    Unavailable,
    UpstreamFault,
)
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope, Patience
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import UpstreamMethod
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.tries import Upstream
from tests.router.helpers import rpc_error


def bare(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """What a stub raises where nobody of the mesh said anything."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "text from within")


AWAY = bare(grpc.StatusCode.UNAVAILABLE)
BUSY = rpc_error(Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.05))
WRONG = rpc_error(InvalidInput(Reason.IMAGE_EMPTY, "empty", field="images[0]"))


# The contract of these services: a StringValue in, their name out.
WORK: UpstreamMethod[StringValue, Any] = UpstreamMethod("Work", StringValue, StringValue)
NOTHING = StringValue()


class Service:
    """A stub that raises what it is given, one by one, and then answers its name."""

    def __init__(self, name: str, *errors: grpc.RpcError) -> None:
        self.name = name
        self.errors = list(errors)
        self.calls = 0
        self.gate: asyncio.Event | None = None
        self.timeouts: list[float] = []

    async def Work(self, request: StringValue, timeout: float) -> str:  # noqa: ASYNC109 - as of a stub
        self.calls += 1
        self.timeouts.append(timeout)
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self.name


def fleet_of(*services: Service, draining: asyncio.Event | None = None) -> UpstreamPool:
    upstreams = [Upstream(service.name, service) for service in services]
    return UpstreamPool(Kind.ENCODER, upstreams, draining=draining or asyncio.Event(), call_s=60)


async def ask(pool: UpstreamPool, patience: Patience | None = None, deadline: float | None = None) -> str:
    answer: str = await pool.call_patiently(WORK, NOTHING, CallScope(deadline, patience or Patience()))
    return answer


async def test_equals_take_turns() -> None:
    a, b, c = Service("a"), Service("b"), Service("c")
    pool = fleet_of(a, b, c)
    for _ in range(9):
        await ask(pool)
    assert [service.calls for service in (a, b, c)] == [3, 3, 3]


async def test_one_that_answers_nobody_comes_last() -> None:
    a, b = Service("a"), Service("b")
    away = {"a"}
    upstreams = [Upstream(service.name, service) for service in (a, b)]
    pool = UpstreamPool(Kind.ENCODER, upstreams, draining=asyncio.Event(), call_s=60, unreachable=away.__contains__)
    assert [await ask(pool) for _ in range(4)] == ["b"] * 4
    # Last, and not never: what was found a moment ago may no longer hold.
    b.errors = [AWAY]
    assert await ask(pool) == "a"
    away.clear()
    b.gate = asyncio.Event()
    held = asyncio.create_task(ask(pool))
    await asyncio.sleep(0)
    assert await ask(pool) == "a"
    b.gate.set()
    await held


async def test_the_least_busy_gets_the_next() -> None:
    a, b = Service("a"), Service("b")
    a.gate = asyncio.Event()
    pool = fleet_of(a, b)
    held = [asyncio.create_task(ask(pool)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [await ask(pool) for _ in range(4)] == ["b"] * 4
    a.gate.set()
    assert "a" in await asyncio.gather(*held)


TORN = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", TORN)
async def test_another_does_a_lost_ones_work_and_the_lost_one_rests(code: grpc.StatusCode) -> None:
    a, b = Service("a", *[bare(code)] * 5), Service("b")
    pool = fleet_of(a, b)
    assert [await ask(pool) for _ in range(6)] == ["b"] * 6
    assert a.calls == 1


async def test_a_refusal_is_final() -> None:
    a, b = Service("a", WRONG), Service("b", WRONG)
    with pytest.raises(InvalidInput) as caught:
        await ask(fleet_of(a, b), Patience(away_s=10, busy_s=10))
    assert caught.value.violations[0].field == "images[0]"
    assert a.calls + b.calls == 1


async def test_all_lost_says_who_and_nothing_from_within() -> None:
    with pytest.raises(Unavailable) as caught:
        await ask(fleet_of(Service("one:1", AWAY), Service("two:2", AWAY)))
    assert caught.value.reason is Reason.ENCODER_UNAVAILABLE
    assert "one:1" in caught.value.message
    assert "two:2" in caught.value.message
    assert "text from within" not in caught.value.message
    assert caught.value.retry_after_s
    # For whoever looks for why, in a traceback or a log, it is there.
    assert caught.value.__cause__ is AWAY


async def test_busy_is_said_before_lost() -> None:
    with pytest.raises(Overloaded) as caught:
        await ask(fleet_of(Service("a", AWAY), Service("b", BUSY)))
    assert caught.value.retry_after_s == pytest.approx(0.05)


WAITS: dict[str, tuple[grpc.RpcError, Patience]] = {
    "away": (AWAY, Patience(away_s=30)),
    "busy": (BUSY, Patience(busy_s=30)),
}


@pytest.mark.parametrize("name", sorted(WAITS))
async def test_patience_outlasts_what_passes(name: str) -> None:
    error, patience = WAITS[name]
    service = Service("a", error, error, error)
    assert await ask(fleet_of(service), patience) == "a"
    assert service.calls == 4


@pytest.mark.parametrize("name", sorted(WAITS))
async def test_patience_for_one_is_none_for_the_other(name: str) -> None:
    error, patience = WAITS[name]
    other = Patience(away_s=patience.busy_s, busy_s=patience.away_s)
    service = Service("a", error)
    with pytest.raises(LensmeshError):
        await ask(fleet_of(service), other)
    assert service.calls == 1


async def test_only_the_first_to_notice_a_loss_waits_for_its_end() -> None:
    service = Service("a", *[AWAY] * 1000)
    pool = fleet_of(service)
    patience = Patience(away_s=0.3)
    with pytest.raises(Unavailable):
        await ask(pool, patience)
    assert service.calls > 1
    await asyncio.sleep(0.4)
    service.calls = 0
    with pytest.raises(Unavailable):
        await ask(pool, patience)
    assert service.calls == 1


async def test_draining_ends_a_wait_with_one_last_try() -> None:
    draining = asyncio.Event()
    service = Service("a", *[AWAY] * 1000)
    waiting = asyncio.create_task(ask(fleet_of(service, draining=draining), Patience(away_s=600)))
    await asyncio.sleep(0.05)
    before = service.calls
    draining.set()
    with pytest.raises(Unavailable):
        await waiting
    assert service.calls <= before + 1


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_deadline_is_passed_on_and_no_call_begins_after_it() -> None:
    service = Service("a")
    pool = fleet_of(service)
    await ask(pool, deadline=now() + 5)
    assert 0 < service.timeouts[0] <= 5
    await ask(pool)
    assert service.timeouts[1] == 60
    with pytest.raises(DeadlineExceeded):
        await ask(pool, deadline=now() - 1)
    assert service.calls == 2


LATE: dict[str, tuple[Callable[[], float | None], type[LensmeshError]]] = {
    "the caller's time is up": (lambda: now() + 0.01, DeadlineExceeded),
    "the service hangs": (lambda: now() + 100, Unavailable),
    "the service hangs, and the caller would wait for ever": (lambda: None, Unavailable),
}


@pytest.mark.parametrize("name", sorted(LATE))
async def test_whose_deadline_it_was(name: str) -> None:
    deadline, kind = LATE[name]
    with pytest.raises(kind):
        await ask(fleet_of(Service("a", bare(grpc.StatusCode.DEADLINE_EXCEEDED))), deadline=deadline())


async def test_a_reply_that_cannot_be_read_is_the_services_fault() -> None:
    """gRPC hands over None where a reply's bytes cannot be parsed."""

    async def pieces() -> AsyncIterator[str | None]:
        yield "first"
        yield None

    async def one_piece() -> AsyncIterator[None]:
        yield None

    service = Unreadable("a")
    pool = fleet_of(service)
    with pytest.raises(UpstreamFault, match="encoder cannot be read"):
        await pool.call(WORK, NOTHING)
    service.pieces = pieces()
    answers = pool.stream(PIECES, NOTHING, targets=pool.targets)
    assert await anext(answers) == "first"
    with pytest.raises(UpstreamFault, match="encoder cannot be read"):
        await anext(answers)
    service.pieces = one_piece()
    with pytest.raises(UpstreamFault, match="encoder cannot be read"):
        await anext(pool.stream(PIECES, NOTHING, targets=pool.targets))


PIECES: UpstreamMethod[StringValue, Any] = UpstreamMethod("Pieces", StringValue, StringValue)


class Unreadable(Service):
    """A stub whose replies cannot be parsed, but for pieces that it is given."""

    pieces: AsyncIterator[Any]

    async def Work(self, request: StringValue, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        return None

    def Pieces(self, request: StringValue, timeout: float) -> "Call":
        return Call(self.pieces)


class Call:
    """A streamed call that reads what it is given."""

    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._pieces

    def cancel(self) -> None:
        """Nothing is left to end."""


@pytest.mark.parametrize("reason", [Reason.STORE_UNAVAILABLE, Reason.STORE_READ_ONLY, Reason.STORE_FULL])
async def test_what_the_store_says_is_passed_on_as_it_is(reason: Reason) -> None:
    said = rpc_error(Unavailable(reason, "the disk is full, say", retry_after_s=1))
    with pytest.raises(Unavailable) as caught:
        await ask(fleet_of(Service("a", said), Service("b", AWAY, AWAY)))
    assert (caught.value.reason, caught.value.message) == (reason, "the disk is full, say")


NOT_SERVING = {
    "store: the database is not reachable": Reason.STORE_UNAVAILABLE,
    "loading the weights": Reason.ENCODER_UNAVAILABLE,
}


@pytest.mark.parametrize("why", NOT_SERVING)
async def test_one_that_answers_and_does_not_serve_is_asked_why(why: str) -> None:
    async def told(targets: Sequence[str]) -> str:
        assert list(targets) == ["a:1"]
        return why

    pool = UpstreamPool(
        Kind.ENCODER, [Upstream("a:1", Service("a:1", AWAY))], draining=asyncio.Event(), call_s=60, why=told
    )
    with pytest.raises(Unavailable) as caught:
        await ask(pool)
    assert caught.value.reason is NOT_SERVING[why]
    assert why in caught.value.message
    assert "answers at" not in caught.value.message


async def test_asking_why_takes_no_longer_than_the_caller_has() -> None:
    async def hangs(targets: Sequence[str]) -> str:
        await asyncio.sleep(600)
        return "too late"

    pool = UpstreamPool(
        Kind.ENCODER, [Upstream("a", Service("a", AWAY))], draining=asyncio.Event(), call_s=60, why=hangs
    )
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(ask(pool, deadline=now() + 0.2), 60)
    assert "too late" not in caught.value.message


async def test_success_elsewhere_does_not_make_a_wait_longer() -> None:
    lost, fine = Service("lost", *[AWAY] * 10_000), Service("fine")
    pool = fleet_of(lost, fine)

    def attempt() -> Awaitable[Any]:
        return pool.call(WORK, NOTHING, targets=["lost"])

    async def others() -> None:
        while True:
            await pool.call(WORK, NOTHING, targets=["fine"])
            await asyncio.sleep(0.01)

    busy = asyncio.create_task(others())
    with pytest.raises(Unavailable):
        await asyncio.wait_for(pool.patiently(attempt, CallScope(patience=Patience(away_s=0.4))), 60)
    busy.cancel()
