"""Gives calls to the services of one kind: to the least busy, to another where one is lost, and later where all are."""

import asyncio
import functools
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc

from lensmesh_chassis.errors import LensmeshError
from router_svc.call_scope import NO_LIMIT, CallScope
from router_svc.upstreams.errors import (
    ReplicaLost,
    is_away,
    read_error,
    readable,
    unavailable,
)
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import A, Q, UpstreamMethod
from router_svc.upstreams.tries import Tries, TryRules, Upstream
from router_svc.upstreams.waiting import Absence, Waiting

R = TypeVar("R")

# Of a stream that ends without a piece.
_END: Any = object()
# All calls that one process takes with it are seen as lost within this time.
SETTLE_S = 0.25


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
        self._rules = TryRules(kind, self.order, draining, tries, why)
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

    def _begin(self, targets: Sequence[str] | None, scope: CallScope, *, loses_once: bool) -> Tries:
        chosen = self.targets if targets is None else targets
        if not chosen:
            raise unavailable(self.kind, ())
        return Tries(self._rules, chosen, scope, loses_once=loses_once)
