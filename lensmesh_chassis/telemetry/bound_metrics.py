"""Metrics of a server's bounds: what they hold, and what they refuse."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.rpc.interceptors import InFlight


class BoundMetrics(Collector):
    """Collector that reads the bounds at each scrape."""

    def __init__(self, registry: CollectorRegistry, calls: InFlight, budget: MessageBudget) -> None:
        self._calls, self._budget = calls, budget
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "lensmesh_refused_calls",
            "Calls refused because the service held enough: calls, bytes of messages, or memory (calls that were slow "
            "to send or to take a message while it was short, or to take one while others waited).",
            labels=("bound",),
        )
        refused.add_metric(("calls",), self._calls.refused)
        refused.add_metric(("bytes",), self._budget.refused)
        refused.add_metric(("memory",), self._budget.given_up)
        yield refused
        yield GaugeMetricFamily(
            "lensmesh_message_bytes",
            "Bytes of messages that are worked on, or that callers have not taken yet.",
            value=self._budget.held,
        )
