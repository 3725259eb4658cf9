"""Gives calls to the services of one kind: to the least busy, to another where one is lost, and later where all are."""

import asyncio
import functools
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from lensmesh_chassis.errors import DeadlineExceeded, LensmeshError
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.call_scope import NO_LIMIT, CallScope
from router_svc.upstreams.errors import (
    STORE_REASONS,
    Hung,
    ReplicaLost,
    is_away,
    is_busy,
    is_misled,
    read_error,
    readable,
    unavailable,
)
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import A, Q, UpstreamMethod
from router_svc.upstreams.waiting import FIRST_PAUSE_S, Absence, Waiting, pause

log = get_logger(__name__)
R = TypeVar("R")

# Of a stream that ends without a piece.
_END: Any = object()
# All calls that one process takes with it are seen as lost within this time.
SETTLE_S = 0.25
SHUN_S = 2.0
_ASK_WHY_S = 2.0


@dataclass(slots=True)
class Upstream:
    """A target: a channel that balances over its replicas, and the calls that are with it."""

    target: str
    stub: Any
    in_flight: int = 0
    """Items that are with it now."""
    shunned_until: float = float("-inf")
    """Time of time.monotonic() before which others are tried first, because it was away a moment ago."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=256))
    """Times the replica ended under a call, by time.monotonic(): the clock of uvloop tells two that follow as one."""


class _Tries:
    """Choice of whom one call is given to next, and why nobody took it so far."""

    def __init__(self, pool: "UpstreamPool", targets: Sequence[str], scope: CallScope, *, loses_once: bool) -> None:
        self._pool = pool
        self._targets = targets
        self._scope = scope
        self._loses_once = loses_once
        self._rounds = 0
        self._left: deque[Upstream] = deque()
        """Of this round."""
        self._busy: LensmeshError | None = None
        self._away: LensmeshError | None = None
        self._misled: LensmeshError | None = None
        self.last_error: grpc.RpcError | None = None
        """gRPC's own error of the last try: the cause of what the caller is told."""
        self._last_round = False

    async def next(self) -> Upstream | None:
        """Return whom to ask next, None where nobody is left to ask. Pauses between one round and the next."""
        if not self._left and self._begins_a_round():
            if self._rounds:
                pause_s = FIRST_PAUSE_S * 2 ** (self._rounds - 1) * random.uniform(0.8, 1.2)
                await pause(self._pool.draining, pause_s)
            self._rounds += 1
            self._left.extend(self._pool.order(self._targets))
        return self._left.popleft() if self._left else None

    def failed(self, upstream: Upstream, rpc_error: grpc.RpcError) -> None:
        """Note why an upstream did not do the work. Raises the error where nobody else is to be asked."""
        # Without its traceback, which would hold the call, and the call its channel.
        self.last_error = rpc_error.with_traceback(None)
        error = read_error(self._pool.kind, rpc_error, self._scope)
        if is_busy(error):
            self._busy = error
        elif is_away(error):
            # What the store said of itself tells more than that another replica is gone.
            if self._away is None or self._away.reason not in STORE_REASONS:
                self._away = error
            # Who let a call wait until it was given up, or ended under it, is not asked again at once.
            self._last_round = self._last_round or isinstance(error, ReplicaLost | Hung)
            self._shun(upstream, error, rpc_error)
        elif is_misled(error):
            self._misled = error
        else:
            raise error from rpc_error
        if isinstance(error, ReplicaLost) and self._loses_once:
            raise error from rpc_error

    async def outcome(self) -> LensmeshError:
        """Return what to tell the caller of, where nobody took the call."""
        if self._busy is not None:
            return self._busy
        if self._away is None and self._misled is not None:
            return self._misled
        return unavailable(self._pool.kind, self._targets, self._away, await self._ask_why())

    def _begins_a_round(self) -> bool:
        if self._rounds == 0:
            return True
        may_go_better = self._away is not None and self._busy is None and not self._last_round
        return may_go_better and self._rounds < self._pool.tries and not self._pool.draining.is_set()

    async def _ask_why(self) -> str:
        """Ask the services why they do not serve, where only gRPC's own words tell, which name no cause."""
        if isinstance(self._away, ReplicaLost | Hung) or (self._away and self._away.reason in STORE_REASONS):
            return ""
        if self._pool.why is None:
            return ""
        try:
            async with asyncio.timeout(self._scope.seconds_left(_ASK_WHY_S)):
                return await self._pool.why(self._targets)
        except (TimeoutError, DeadlineExceeded):
            return ""

    def _shun(self, upstream: Upstream, error: LensmeshError, rpc_error: grpc.RpcError) -> None:
        now = time.monotonic()
        upstream.shunned_until = now + SHUN_S
        if isinstance(error, ReplicaLost):
            upstream.losses.append(now)
        log.info(
            "upstream is away",
            kind=self._pool.kind.noun,
            target=upstream.target,
            reason=str(error.reason),
            code=rpc_error.code().name,
            details=rpc_error.details(),
        )


class UpstreamPool:
    """All targets of one kind of service."""

    def __init__(
        self,
        kind: Kind,
        upstreams: Sequence[Upstream],
        *,
        draining: asyncio.Event,
        call_s: float,
        unreachable: Callable[[str], bool] | None = None,
        tries: int = 1,
        why: Callable[[Sequence[str]], Awaitable[str]] | None = None,
    ) -> None:
        """Give calls to `upstreams`, which are tried `tries` times where the channels do not try their replicas again.

        `unreachable` tells of a target whether nobody there answered when last asked. `why` asks the services at
        targets why they do not serve; "" where none of them says.
        """
        self.kind = kind
        self.draining = draining
        self.tries = tries
        self.why = why
        self._upstreams = {upstream.target: upstream for upstream in upstreams}
        self._unreachable = unreachable
        self._call_s = call_s
        self._turn = 0
        self._absence = Absence()

    @property
    def targets(self) -> tuple[str, ...]:
        """Every configured target, in order."""
        return tuple(self._upstreams)

    async def call(
        self,
        method: UpstreamMethod[Q, A],
        request: Q | bytes,
        scope: CallScope = NO_LIMIT,
        *,
        targets: Sequence[str] | None = None,
        weight: int = 1,
        loses_once: bool = False,
    ) -> A:
        """Return the answer of the first of `targets`, or of all, that does the work.

        `request` may be serialized already. `weight`: how many items it has. `loses_once`: where a replica ends in the
        middle of it, raise ReplicaLost instead of giving the same work to another one, which it may end likewise.

        Raises what the service said if it refused the work itself, DeadlineExceeded, Overloaded where all that could
        have too much to do, and otherwise Unavailable with the kind's reason.
        """
        tries = self._begin(targets, scope, loses_once=loses_once)
        while (upstream := await tries.next()) is not None:
            upstream.in_flight += weight
            try:
                send = getattr(upstream.stub, method.name)
                answer: A = readable(self.kind, await send(request, timeout=scope.seconds_left(self._call_s)))
            except grpc.RpcError as rpc_error:
                tries.failed(upstream, rpc_error)
            else:
                self._absence.end()
                return answer
            finally:
                upstream.in_flight -= weight
        raise await tries.outcome() from tries.last_error

    async def call_patiently(self, method: UpstreamMethod[Q, A], request: Q, scope: CallScope = NO_LIMIT) -> A:
        """Return the answer of any target, as `call`, tried again as long as `patiently` does."""
        waiting = self.waiting(scope)
        while True:
            try:
                return await self.call(method, request, scope)
            except LensmeshError as error:
                if not await waiting.after(error):
                    raise

    async def patiently(self, attempt: Callable[[], Awaitable[R]], scope: CallScope) -> R:
        """Return what `attempt` returns, tried again while nobody can take the work now and patience lasts."""
        waiting = self.waiting(scope)
        while True:
            try:
                return await attempt()
            except LensmeshError as error:
                if not await waiting.after(error):
                    raise

    def waiting(self, scope: CallScope) -> Waiting:
        """Begin the waits of one piece of work."""
        return Waiting(scope, self._absence, self.draining, comes_back=bool(self._upstreams))

    async def stream(
        self,
        method: UpstreamMethod[Q, A],
        request: Q,
        scope: CallScope = NO_LIMIT,
        *,
        targets: Sequence[str],
        loses_once: bool = False,
        longest_s: float | None = None,
    ) -> AsyncGenerator[A, None]:
        """Yield the pieces of a streamed answer, from the first of `targets` that sends one. Errors as of `call`.

        It may last for `longest_s`, as long as any call where that is None, and at most until the caller's deadline.
        """
        most_s = self._call_s if longest_s is None else longest_s
        tries = self._begin(targets, scope, loses_once=loses_once)
        while (upstream := await tries.next()) is not None:
            left_s = scope.seconds_left(most_s)
            call = getattr(upstream.stub, method.name)(request, timeout=None if math.isinf(left_s) else left_s)
            try:
                pieces = aiter(call)
                upstream.in_flight += 1
                try:
                    piece = readable(self.kind, await anext(pieces, _END))
                except grpc.RpcError as rpc_error:
                    tries.failed(upstream, rpc_error)
                    continue
                finally:
                    upstream.in_flight -= 1
                self._absence.end()
                while piece is not _END:
                    yield piece
                    piece = readable(self.kind, await anext(pieces, _END))
                return
            except grpc.RpcError as rpc_error:
                error = read_error(self.kind, rpc_error, scope)
                if isinstance(error, ReplicaLost) and loses_once:
                    raise error from rpc_error
                raise (unavailable(self.kind, targets, error) if is_away(error) else error) from rpc_error
            finally:
                # gRPC does not notice by itself that nobody reads any longer.
                call.cancel()
        raise await tries.outcome() from tries.last_error

    async def lost_others(self, since: float | None) -> bool:
        """Tell whether, beside the call that was lost just now, others were lost since then; None: now.

        Waits until all calls that a replica took with it are known.
        """
        begin = time.monotonic() - SETTLE_S if since is None else since
        await asyncio.sleep(SETTLE_S)
        return sum(at >= begin for upstream in self._upstreams.values() for at in upstream.losses) > 1

    def order(self, targets: Sequence[str]) -> list[Upstream]:
        """Return the targets by how little they have to do, those that were just away last; equal ones take turns.

        A process that hangs keeps its connections, and each call to it would wait until the keepalive ends them.
        """
        if len(targets) == 1:
            return [self._upstreams[targets[0]]]
        self._turn += 1
        now = time.monotonic()
        upstreams = [self._upstreams[target] for target in targets]
        start = self._turn % max(1, len(upstreams))
        return sorted(upstreams[start:] + upstreams[:start], key=functools.partial(self._rank, now))

    def _rank(self, now: float, upstream: Upstream) -> tuple[bool, int]:
        is_away = self._unreachable is not None and self._unreachable(upstream.target)
        return upstream.shunned_until > now or is_away, upstream.in_flight

    def _begin(self, targets: Sequence[str] | None, scope: CallScope, *, loses_once: bool) -> _Tries:
        chosen = self.targets if targets is None else targets
        if not chosen:
            raise unavailable(self.kind, ())
        return _Tries(self, chosen, scope, loses_once=loses_once)
