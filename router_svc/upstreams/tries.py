"""The tries of one call: whom it is given to next, and what becomes of it where nobody takes it."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from lensmesh_chassis.errors import DeadlineExceeded, LensmeshError
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.call_scope import CallScope
from router_svc.upstreams.errors import (
    STORE_REASONS,
    Hung,
    ReplicaLost,
    is_away,
    is_busy,
    is_misled,
    read_error,
    unavailable,
)
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.waiting import FIRST_PAUSE_S, pause

log = get_logger(__name__)

_SHUN_S = 2.0
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


@dataclass(frozen=True, slots=True)
class TryRules:
    """The way in which a pool has its calls tried: in which order, how often, and who tells why nobody takes one."""

    kind: Kind
    order: Callable[[Sequence[str]], list[Upstream]]
    draining: asyncio.Event
    rounds: int
    """Number of times that all targets are tried."""
    why: Callable[[Sequence[str]], Awaitable[str]] | None
    """Asks the services at targets why they do not serve; "" where none of them says."""


class Tries:
    """Choice of whom one call is given to next, and why nobody took it so far."""

    def __init__(self, rules: TryRules, targets: Sequence[str], scope: CallScope, *, loses_once: bool) -> None:
        self._rules = rules
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
                await pause(self._rules.draining, pause_s)
            self._rounds += 1
            self._left.extend(self._rules.order(self._targets))
        return self._left.popleft() if self._left else None

    def failed(self, upstream: Upstream, rpc_error: grpc.RpcError) -> None:
        """Note why an upstream did not do the work. Raises the error where nobody else is to be asked."""
        # Without its traceback, which would hold the call, and the call its channel.
        self.last_error = rpc_error.with_traceback(None)
        error = read_error(self._rules.kind, rpc_error, self._scope)
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
        return unavailable(self._rules.kind, self._targets, self._away, await self._ask_why())

    def _begins_a_round(self) -> bool:
        if self._rounds == 0:
            return True
        may_go_better = self._away is not None and self._busy is None and not self._last_round
        return may_go_better and self._rounds < self._rules.rounds and not self._rules.draining.is_set()

    async def _ask_why(self) -> str:
        """Ask the services why they do not serve, where only gRPC's own words tell, which name no cause."""
        if isinstance(self._away, ReplicaLost | Hung) or (self._away and self._away.reason in STORE_REASONS):
            return ""
        if self._rules.why is None:
            return ""
        try:
            async with asyncio.timeout(self._scope.seconds_left(_ASK_WHY_S)):
                return await self._rules.why(self._targets)
        except (TimeoutError, DeadlineExceeded):
            return ""

    def _shun(self, upstream: Upstream, error: LensmeshError, rpc_error: grpc.RpcError) -> None:
        now = time.monotonic()
        upstream.shunned_until = now + _SHUN_S
        if isinstance(error, ReplicaLost):
            upstream.losses.append(now)
        log.info(
            "upstream is away",
            kind=self._rules.kind.noun,
            target=upstream.target,
            reason=str(error.reason),
            code=rpc_error.code().name,
            details=rpc_error.details(),
        )
