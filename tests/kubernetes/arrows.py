"""Who may call whom, by network policies, and what the diagrams in the documentation show."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.kubernetes.manifests import Manifest, Objects
from tests.kubernetes.references import CLIENTS, matches, port_names

ROOT = Path(__file__).parents[2]
CLIENT, WORLD = "clients", "world"


class Arrow(NamedTuple):
    """One may open connections to the other."""

    source: str
    target: str
    port: int


def arrows(objects: Objects) -> tuple[set[Arrow], set[Arrow]]:
    """What pods may call, and by whom they may be called; by component, `clients`, `world`, or the namespace's name."""
    out: set[Arrow] = set()
    into: set[Arrow] = set()
    for policy in objects.of("NetworkPolicy"):
        spec = policy["spec"]
        # Names are for all, and not part of a diagram.
        if policy["metadata"]["name"] == "dns":
            continue
        here = list(_ends({"podSelector": spec["podSelector"]}, objects))
        for side, peers, found in (("egress", "to", out), ("ingress", "from", into)):
            for rule in spec.get(side, ()):
                ends = {end for peer in rule[peers] for end in _ends(peer, objects)}
                for port in rule["ports"]:
                    for one in here:
                        for end in ends:
                            pair = (one, end) if side == "egress" else (end, one)
                            found.add(Arrow(*pair, port["port"]))
    return out, into


def _ends(peer: Manifest, objects: Objects) -> Iterator[str]:
    if "ipBlock" in peer:
        yield WORLD
    elif "namespaceSelector" in peer:
        labels = peer["namespaceSelector"]["matchLabels"]
        yield CLIENT if labels == CLIENTS else labels["kubernetes.io/metadata.name"]
    elif peer["podSelector"].get("matchLabels") == CLIENTS:
        yield CLIENT
    else:
        yield from (pod.component for pod in objects.pods() if matches(peer["podSelector"], pod.labels))


def policies(objects: Objects) -> Iterator[str]:
    """All is denied that no arrow allows; both ends of an arrow agree; its port is one that its target opens."""
    kinds = {
        kind
        for one in objects.of("NetworkPolicy")
        if not one["spec"]["podSelector"]
        for kind in one["spec"]["policyTypes"]
    }
    if objects.of("NetworkPolicy") and kinds != {"Ingress", "Egress"}:
        yield "nothing denies by default"
    out, into = arrows(objects)
    inside = {pod.component for pod in objects.pods()}
    for arrow in out ^ into:
        if {arrow.source, arrow.target} <= inside:
            yield f"only one end allows {arrow.source} -> {arrow.target}:{arrow.port}"
    for arrow in out | into:
        if arrow.target in inside and arrow.port not in port_names(objects.pod(arrow.target)).values():
            yield f"{arrow.source} -> {arrow.target}:{arrow.port}: nobody listens there"


def drawn(page: Path) -> set[tuple[str, str]]:
    """The arrows of a page's first flowchart, by the names of its nodes."""
    chart = re.search(r"```mermaid\nflowchart.*?```", page.read_text(), re.DOTALL)
    assert chart, f"{page} has no flowchart"
    found = set()
    for line in chart.group().splitlines():
        nodes = [re.match(r"\s*(\w[\w-]*)", part) for part in re.split(r"-->|-\. .*? \.->|-- .*? -->|-\.->", line)]
        names = [node.group(1) for node in nodes if node]
        found |= set(itertools.pairwise(names))
    return found
