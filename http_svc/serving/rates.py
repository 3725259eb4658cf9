"""How many requests one client may make a second: a token bucket for each address."""

import time
from collections import OrderedDict

from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason

# Addresses that are remembered. One that is forgotten begins with a full bucket, as it would after some quiet seconds.
_MOST_CLIENTS = 10_000


class ClientRates:
    """Buckets that fill by `rate` tokens a second, up to `burst`; a request takes one. A rate of 0 limits nobody."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        # Address -> tokens, and when that was. The least recently seen comes first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Take a token of this address. Raises Overloaded with the time until there is one."""
        if not self._rate:
            return
        now = time.monotonic()
        tokens, seen = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - seen) * self._rate)
        if len(self._buckets) >= _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        self._buckets[client] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        if tokens < 1:
            raise Overloaded(
                Reason.OVERLOADED,
                f"this client makes more than {self._rate:g} requests a second (client_rate): wait before the next, "
                "or put many items into one request",
                retry_after_s=(1 - tokens) / self._rate,
                metadata={"limit": f"{self._rate:g}"},
            )
