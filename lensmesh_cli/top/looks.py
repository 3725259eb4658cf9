"""Readings of the metrics endpoints of a mesh, and what changed between two of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 3.0
SERVICES = ("router", "encoder", "caption", "search", "http")

Labels: TypeAlias = tuple[tuple[str, str], ...]
Samples: TypeAlias = Mapping[tuple[str, Labels], float]


@dataclass(frozen=True)
class Look:
    """The reading of one endpoint at one moment. `failure` says why the endpoint did not answer."""

    address: str
    component: str = ""
    at: float = 0.0
    samples: Samples | None = None
    failure: str = ""


def endpoints_of(data: Path) -> list[str]:
    """Return the metrics endpoints of the mesh of a data folder, from the ready files of its services."""
    found = []
    run = data / "run"
    # Further processes of one service have numbers.
    for file in (
        path for name in SERVICES for path in (run / f"{name}.json", *sorted(run.glob(f"{name}-[0-9]*.json")))
    ):
        try:
            ready = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if ready.get("metrics"):
            found.append(str(ready["metrics"]).replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:"))
    return found


async def look(addresses: Iterable[str]) -> list[Look]:
    """Read all endpoints at once. An endpoint that does not answer raises nothing."""
    return list(await asyncio.gather(*(asyncio.to_thread(_look, address) for address in addresses)))


def _look(address: str) -> Look:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT_S) as answer:
            text, at = answer.read().decode(), time.monotonic()
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except OSError as error:
        return Look(address, failure=str(getattr(error, "reason", error)))
    except (ValueError, http.client.HTTPException):
        return Look(address, failure="what answers there shows no metrics")
    component = next((dict(labels)["component"] for name, labels in samples if name == "lensmesh_build_info"), "")
    if not component:
        return Look(address, failure="what answers there is no service of lensmesh")
    return Look(address, component, at, samples)


class LookDifference:
    """The change between two looks at the same endpoints, summed over them."""

    def __init__(self, pairs: Sequence[tuple[Look, Look]]) -> None:
        self._rates: dict[tuple[str, Labels], float] = {}
        self._now: dict[tuple[str, Labels], float] = {}
        for before, after in pairs:
            seconds = max(after.at - before.at, 1e-9)
            old = before.samples or {}
            for key, value in (after.samples or {}).items():
                # A counter that fell began anew, with its process.
                grown = value - old.get(key, 0.0)
                rate = (value if grown < 0 else grown) / seconds
                self._rates[key] = self._rates.get(key, 0.0) + rate
                self._now[key] = self._now.get(key, 0.0) + value

    def rate(self, name: str, **labels: str) -> float:
        """Return the increase per second of all series of a counter with these labels."""
        return sum(value for _, value in self._matching(self._rates, name, labels))

    def now(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a gauge with these labels."""
        return sum(value for _, value in self._matching(self._now, name, labels))

    def values(self, name: str, label: str) -> list[str]:
        """Return the values of one label of a metric, sorted."""
        return sorted({dict(key)[label] for key, _ in self._matching(self._now, name, {}) if label in dict(key)})

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Return a quantile of a histogram, as Prometheus computes it. None: nothing was observed between the looks."""
        buckets: dict[float, float] = {}
        for key, value in self._matching(self._rates, f"{name}_bucket", labels):
            bound = float(dict(key)["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
        return quantile(share, sorted(buckets.items()))

    def mean(self, name: str, **labels: str) -> float | None:
        """Return the average of what a histogram observed between the looks. None: nothing was observed."""
        count = self.rate(f"{name}_count", **labels)
        return self.rate(f"{name}_sum", **labels) / count if count else None

    @staticmethod
    def _matching(
        samples: Mapping[tuple[str, Labels], float], name: str, labels: Mapping[str, str]
    ) -> Iterable[tuple[Labels, float]]:
        wanted = set(labels.items())
        return [(key, value) for (metric, key), value in samples.items() if metric == name and wanted <= set(key)]


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Compute a quantile from cumulative buckets (upper bound, count). It is linear within a bucket.

    The last bucket has the bound infinity.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
