"""What a metrics endpoint shows, metric by metric."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

SERVICES = ("router", "encoder", "caption", "search", "http")
UNITS = {"seconds": "s", "bytes": "bytes", "items": "items", "fds": "descriptors"}


@dataclass(frozen=True)
class Shown:
    """One metric. `on`: the services that show it."""

    name: str
    type: str
    labels: frozenset[str]
    on: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """What its name says it counts in; seconds of CPU time are seconds too."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return UNITS.get(last, "")

    def row(self) -> str:
        """Its line in docs/metrics.md."""
        labels = ", ".join(f"`{label}`" for label in sorted(self.labels))
        on = "all" if self.on == SERVICES else ", ".join(self.on)
        return f"| `{self.name}` | {self.type} | {self.unit} | {labels} | {on} | {self.meaning} |"


def scrape(address: str, accept: str = "text/plain") -> str:
    """The endpoint's answer."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def shown(by_service: Mapping[str, str]) -> list[Shown]:
    """Every metric of some services, given what each one's endpoint answers."""
    found: dict[str, Shown] = {}
    for service, text in by_service.items():
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels if label != "le"}
            before = found.get(name, Shown(name, family.type, frozenset(), (), ""))
            found[name] = Shown(
                name, family.type, before.labels | labels, (*before.on, service), family.documentation.replace("|", "/")
            )
    return list(found.values())


def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name and labels of everything that one answer holds."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
