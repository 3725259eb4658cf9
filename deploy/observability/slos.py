"""Service level objectives: what lensmesh promises its callers, and alerts that tell when a promise is broken too fast.

The alerts have several windows and burn rates, as in the Site Reliability Workbook, chapter 5. A long window says that
it matters, a short one that it still goes on. Burn rate 1 uses up exactly the budget of 30 days.
"""

from dataclasses import dataclass
from typing import Any

import yaml

FAULTS = "UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNAVAILABLE|DATA_LOSS"
"""Codes that are not the caller's doing."""
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Slo:
    """A promise: of all `total` at most the share `budget` is bad. Both expressions hold {window}."""

    name: str
    title: str
    promise: str
    budget: float
    bad: str
    total: str


@dataclass(frozen=True)
class Burn:
    """A burn rate that raises an alert where the budget goes faster, over both a long and a short window."""

    rate: float
    long: str
    short: str


_CALLS = 'job="router",grpc_service=~"lensmesh[.].*"'
_SEARCHES = 'job="router",grpc_method="Search"'
_DURABLE = 'outcome=~"created|updated|unchanged|failed"'

SLOS = (
    Slo(
        "availability",
        "Availability",
        "999 of 1,000 calls of the Router end without a fault of ours",
        0.001,
        f'sum(rate(grpc_server_handled_total{{{_CALLS},grpc_code=~"{FAULTS}"}}[{{window}}]))',
        f"sum(rate(grpc_server_handled_total{{{_CALLS}}}[{{window}}]))",
    ),
    Slo(
        "search-latency",
        "SearchLatency",
        "99 of 100 searches are answered within half a second",
        0.01,
        f"sum(rate(grpc_server_handling_seconds_count{{{_SEARCHES}}}[{{window}}]))"
        f' - sum(rate(grpc_server_handling_seconds_bucket{{{_SEARCHES},le="0.5"}}[{{window}}]))',
        f"sum(rate(grpc_server_handling_seconds_count{{{_SEARCHES}}}[{{window}}]))",
    ),
    Slo(
        "ingest",
        "Ingest",
        "999 of 1,000 images that can be ingested become durable",
        0.001,
        'sum(rate(lensmesh_ingest_items_total{outcome="failed"}[{window}]))',
        f"sum(rate(lensmesh_ingest_items_total{{{_DURABLE}}}[{{window}}]))",
    ),
)
# 2 % of the budget in an hour, 5 % in six: somebody should look now. 10 % in three days: within the week.
FAST = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
SLOW = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))

HEAD = """# Made by `make docs` from deploy/observability/slos.py; edit that.
#
# For each promise: the share of bad events over several windows, and two alerts on how fast that uses up the budget
# of 30 days. Fast pages, slow makes a ticket.
"""


def rules() -> str:
    """Return the rules file's text."""
    groups = [{"name": f"lensmesh-slo-{slo.name}", "rules": [*_records(slo), *_alerts(slo)]} for slo in SLOS]
    return HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def _records(slo: Slo) -> list[dict[str, Any]]:
    labels = {"slo": slo.name}
    # A counter that has never counted is not there yet: no bad event is 0, not nothing.
    records = [
        {
            "record": f"lensmesh:slo_errors:ratio_rate{window}",
            "expr": _ratio(slo, window),
            "labels": labels,
        }
        for window in WINDOWS
    ]
    return [*records, {"record": "lensmesh:slo_budget:ratio", "expr": f"vector({slo.budget:g})", "labels": labels}]


def _ratio(slo: Slo, window: str) -> str:
    bad, total = slo.bad.replace("{window}", window), slo.total.replace("{window}", window)
    return f"({bad} or 0 * {total}) / ({total} > 0)"


def _alerts(slo: Slo) -> list[dict[str, Any]]:
    return [
        _alert(slo, "BurnsFast", FAST, "page", "2m", "within hours"),
        _alert(slo, "BurnsSlowly", SLOW, "ticket", "15m", "before its 30 days are over"),
    ]


def _alert(slo: Slo, suffix: str, burns: tuple[Burn, ...], severity: str, wait: str, when: str) -> dict[str, Any]:
    name = f"Lensmesh{slo.title}{suffix}"

    def over(burn: Burn, window: str) -> str:
        return f'lensmesh:slo_errors:ratio_rate{window}{{slo="{slo.name}"}} > {burn.rate:g} * {slo.budget:g}'

    conditions = [f"({over(burn, burn.long)} and {over(burn, burn.short)})" for burn in burns]
    return {
        "alert": name,
        "expr": " or ".join(conditions),
        "for": wait,
        "labels": {"severity": severity, "slo": slo.name},
        "annotations": {
            "summary": f"The error budget of {slo.name} is used up {when}",
            "description": f"Promised: {slo.promise}. Now {{{{ $value | humanizePercentage }}}} do not.",
            "runbook_url": f"docs/runbook.md#{name.lower()}",
        },
    }
