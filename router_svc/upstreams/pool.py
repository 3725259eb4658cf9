"""Gives calls to the services of one kind: to the least busy, to another where one is lost, and later where all are."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc

from lensmesh_chassis.errors import DeadlineExceeded, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.upstreams.errors import (
    STORE_REASONS,
    Hung,
    ReplicaLost,
    is_away,
    is_broken,
    is_busy,
    is_lost,
    is_misled,
    readable,
    unavailable,
)
from router_svc.upstreams.kinds import Kind

log = get_logger(__name__)
S = TypeVar("S")
R = TypeVar("R")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
SHUN_S = 2.0
# Of a stream that ends without a piece.
_END = object()
# All calls that one process takes with it are seen as lost within this time.
SETTLE_S = 0.25
_ASK_WHY_S = 2.0
# A loss that nobody met for so long is over: the next one is another.
_FORGET_S = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one piece of work may wait for somebody to take it."""

    away_s: float = 0.0
    """While every service that could is gone, from when the last of them went away: only the first to notice waits."""
    busy_s: float = 0.0
    """While every service that could has too much to do."""


@dataclass(slots=True)
class Upstream(Generic[S]):
    """One target: a channel that balances over its replicas, and the calls that are with it."""

    target: str
    stub: S
    in_flight: int = 0
    shunned_until: float = float("-inf")
    """Loop time before which others are tried first, because it was away a moment ago."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=256))
    """Loop times of calls whose replica ended under them."""

    @contextlib.contextmanager
    def holding(self, weight: int) -> Iterator[None]:
        """Counts `weight` items as given to this target."""
        self.in_flight += weight
        try:
            yield
        finally:
            self.in_flight -= weight


class _Failed:
    """Why nobody took a call so far."""

    def __init__(self) -> None:
        self.busy: LensmeshError | None = None
        self.away: LensmeshError | None = None
        self.misled: LensmeshError | None = None
        self._last_try = False

    def take(self, error: LensmeshError) -> bool:
        """Note an error; False where the service refused the work itself."""
        if is_busy(error):
            self.busy = error
        elif is_away(error):
            # What the store said of itself tells more than that another replica is gone.
            if self.away is None or self.away.reason not in STORE_REASONS:
                self.away = error
            # Who let a call wait until it was given up, or ended under it, is not asked again at once.
            self._last_try = self._last_try or isinstance(error, ReplicaLost | Hung)
        elif is_misled(error):
            self.misled = error
        else:
            return False
        return True

    @property
    def unexplained(self) -> bool:
        """Whether only gRPC's own words tell why nobody took the call."""
        if self.busy is not None or (self.away is None and self.misled is not None):
            return False
        known = isinstance(self.away, ReplicaLost | Hung) or (self.away and self.away.reason in STORE_REASONS)
        return not known

    def outcome(self, kind: Kind, targets: Sequence[str], why: str) -> LensmeshError:
        if self.busy is not None:
            return self.busy
        if self.away is not None or self.misled is None:
            return unavailable(kind, targets, self.away, why)
        return self.misled

    @property
    def again(self) -> bool:
        """Whether the same may go better in a moment."""
        return self.away is not None and self.busy is None and not self._last_try


class UpstreamPool(Generic[S]):
    """All targets of one kind of service."""

    def __init__(
        self,
        kind: Kind,
        upstreams: Sequence[Upstream[S]],
        *,
        draining: asyncio.Event,
        call_s: float,
        unreachable: Callable[[str], bool] = lambda _: False,
        tries: int = 1,
        why: Callable[[Sequence[str]], Awaitable[str]] | None = None,
    ) -> None:
        """`unreachable` tells of a target whether nobody there answered when last asked. `tries`: how often all targets
        are tried, where the channels do not try their replicas by themselves.

        `why` asks the services at targets why they do not serve; "" where none of them says.
        """
        self._tries = tries
        self.kind = kind
        self._unreachable = unreachable
        self._upstreams = {upstream.target: upstream for upstream in upstreams}
        self._draining = draining
        self._call_s = call_s
        self._turn = 0
        self._lost_at: float | None = None
        self._lost_seen_at = float("-inf")
        self._why = why

    @property
    def targets(self) -> tuple[str, ...]:
        """Every configured target, in order."""
        return tuple(self._upstreams)

    async def call(
        self,
        send: Callable[[S, float], Awaitable[R]],
        targets: Sequence[str],
        *,
        deadline: float | None = None,
        weight: int = 1,
        loses_once: bool = False,
    ) -> R:
        """The answer of the first of `targets` that does the work.

        `loses_once`: where a replica ends in the middle of it, raise ReplicaLost instead of giving the same work to
        another one, which it may end likewise.

        `send(stub, timeout_s)` makes the call; `deadline` is the caller's, in loop time. Raises what the service said
        if it refused the work itself, DeadlineExceeded, Overloaded where all that could have too much to do, and
        otherwise Unavailable with the kind's reason.
        """
        failed = _Failed()
        for number in range(self._tries):
            if number:
                await self._rest(number)
            for upstream in self._order(targets):
                try:
                    with upstream.holding(weight):
                        answer = readable(self.kind, await send(upstream.stub, self._timeout(deadline)))
                except grpc.RpcError as rpc_error:
                    error = self._read(rpc_error, deadline)
                    if not failed.take(error):
                        raise error from rpc_error
                    if is_away(error):
                        self._shun(upstream, error)
                    if isinstance(error, ReplicaLost) and loses_once:
                        raise error from rpc_error
                else:
                    self._lost_at = None
                    return answer
            if not failed.again or self._draining.is_set():
                break
        why = await self._ask_why(targets, deadline) if failed.unexplained else ""
        raise failed.outcome(self.kind, targets, why)

    async def lost_others(self, since: float | None) -> bool:
        """Tell whether, beside the call that was lost just now, others were lost since then, in loop time; None: now.

        Waits until all calls that a replica took with it are known.
        """
        begin = asyncio.get_running_loop().time() - SETTLE_S if since is None else since
        await asyncio.sleep(SETTLE_S)
        return sum(at >= begin for upstream in self._upstreams.values() for at in upstream.losses) > 1

    def _shun(self, upstream: Upstream[S], error: LensmeshError) -> None:
        now = asyncio.get_running_loop().time()
        upstream.shunned_until = now + SHUN_S
        if isinstance(error, ReplicaLost):
            upstream.losses.append(now)
        log.info("upstream is away", kind=self.kind.noun, target=upstream.target, reason=str(error.reason))

    async def _rest(self, number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PAUSE_S * 2 ** (number - 1) * random.uniform(0.8, 1.2)):
                await self._draining.wait()

    async def _ask_why(self, targets: Sequence[str], deadline: float | None) -> str:
        """What the services say of themselves. gRPC's own words for a service that does not serve name no cause."""
        if self._why is None:
            return ""
        try:
            async with asyncio.timeout(min(_ASK_WHY_S, self._timeout(deadline))):
                return await self._why(targets)
        except (TimeoutError, DeadlineExceeded):
            return ""

    async def stream(
        self,
        open_stream: Callable[[S, float], AsyncIterable[R]],
        targets: Sequence[str],
        *,
        deadline: float | None = None,
        loses_once: bool = False,
    ) -> AsyncGenerator[R, None]:
        """The pieces of a streamed answer, from the first of `targets` that sends one. Errors as of `call`."""
        pieces: AsyncIterator[R]
        call: Any = None

        async def begin(stub: S, timeout_s: float) -> Any:
            nonlocal pieces, call
            call = open_stream(stub, timeout_s)
            pieces = aiter(call)
            return await anext(pieces, _END)

        try:
            first = await self.call(begin, targets, deadline=deadline, loses_once=loses_once)
            if first is _END:
                return
            yield first
            async for piece in pieces:
                yield readable(self.kind, piece)
        except grpc.RpcError as rpc_error:
            error = self._read(rpc_error, deadline)
            if isinstance(error, ReplicaLost) and loses_once:
                raise error from rpc_error
            raise (unavailable(self.kind, targets, error) if is_away(error) else error) from rpc_error
        finally:
            # gRPC does not notice by itself that nobody reads any longer.
            if call is not None:
                call.cancel()

    async def patiently(
        self, attempt: Callable[[], Awaitable[R]], patience: Patience, *, deadline: float | None = None
    ) -> R:
        """What `attempt` returns, tried again while it raises that nobody can take the work now and patience lasts.

        While the router drains nothing waits: the try that follows is the last.
        """
        loop = asyncio.get_running_loop()
        started, pause = loop.time(), FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except LensmeshError as error:
                now = loop.time()
                if is_busy(error):
                    give_up, wait = started + patience.busy_s, error.retry_after_s or pause
                elif is_away(error) and self._upstreams:
                    if self._lost_at is None or now - self._lost_seen_at > _FORGET_S:
                        self._lost_at = now
                    self._lost_seen_at = now
                    # Never later than from its own start: others may succeed meanwhile with other models.
                    give_up, wait = min(started, self._lost_at) + patience.away_s, pause
                else:
                    raise
                wait = min(wait, LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)
                if self._draining.is_set() or now + wait > min(give_up, deadline or give_up):
                    raise
            pause = min(2 * pause, LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._draining.wait()

    def _order(self, targets: Sequence[str]) -> list[Upstream[S]]:
        """The targets by how little they have to do, those that were just away last; equal ones take turns.

        A process that hangs keeps its connections, and each call to it would wait until the keepalive ends them.
        """
        self._turn += 1
        now = asyncio.get_running_loop().time()
        upstreams = [self._upstreams[target] for target in targets]
        start = self._turn % max(1, len(upstreams))

        def rank(upstream: Upstream[S]) -> tuple[bool, int]:
            return upstream.shunned_until > now or self._unreachable(upstream.target), upstream.in_flight

        return sorted(upstreams[start:] + upstreams[:start], key=rank)

    def _timeout(self, deadline: float | None) -> float:
        if deadline is None:
            return self._call_s
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "the call's deadline passed before its work was done")
        return min(self._call_s, left)

    def _read(self, rpc_error: grpc.RpcError, deadline: float | None) -> LensmeshError:
        if is_lost(rpc_error):
            return ReplicaLost(
                self.kind.unavailable, f"the {self.kind.noun} ended in the middle of its work", retry_after_s=1.0
            )
        if is_broken(rpc_error):
            return Unavailable(
                self.kind.unavailable, f"the connection to the {self.kind.noun} broke", retry_after_s=1.0
            )
        error = from_rpc_error(rpc_error)
        if isinstance(error, DeadlineExceeded) and (
            deadline is None or asyncio.get_running_loop().time() < deadline - 0.05
        ):
            # The caller has time left: it is the service that hangs.
            return Hung(self.kind.unavailable, f"the {self.kind.noun} did not answer in time", retry_after_s=1.0)
        return error
