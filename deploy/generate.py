"""Makes the files below deploy/ that follow from code: the configurations of every Envoy in Kubernetes.

python -m deploy.generate [--trust-domain DOMAIN] [--namespace NAMESPACE]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lensmesh_cli.sidecars.bootstrap import bootstrap
from lensmesh_cli.sidecars.model import CALLS, EGRESS, INBOUND, PORTS, Edge, Egress, Inbound, Place, Sidecar, Trust
from lensmesh_cli.sidecars.secrets import secret_files

COMPONENTS = Path(__file__).resolve().parent / "kubernetes" / "components"
ANYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"
ADMIN, METRICS, PUBLIC = 9901, 9902, 8443
CERTIFICATES, PUBLIC_CERTIFICATES, CONFIGURATION = "/var/run/lensmesh/tls", "/var/run/lensmesh/edge-tls", "/etc/envoy"

HEAD = "# Made by `make docs` from lensmesh_cli/sidecars/; edit that.\n"


def sidecar(service: str, trust: Trust) -> Sidecar:
    """The Envoy in the pod of one service. Its neighbours are found by the names of their headless services."""
    return Sidecar(
        name=service,
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        inbound=Inbound(
            service,
            listen=Place(ANYWHERE, PORTS[service] + INBOUND),
            to=Place(LOOPBACK, PORTS[service]),
            callers=trust.callers(service),
        ),
        egress=tuple(
            Egress(
                called,
                listen=Place(LOOPBACK, PORTS[called] + EGRESS),
                replicas=(Place(called, PORTS[called] + INBOUND),),
                identity=trust.id(called),
            )
            for called in CALLS[service]
        ),
        admin=Place(LOOPBACK, ADMIN),
        metrics=Place(ANYWHERE, METRICS),
    )


def edge(trust: Trust) -> Sidecar:
    """The Envoy that takes calls from outside. The routers have sidecars."""
    return Sidecar(
        name="edge",
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        edge=Edge(Place(ANYWHERE, PUBLIC), (Place("router", PORTS["router"] + INBOUND),), trust.id("router")),
        edge_certificates=PUBLIC_CERTIFICATES,
        admin=Place(LOOPBACK, ADMIN),
        metrics=Place(ANYWHERE, METRICS),
    )


def plain_edge() -> Sidecar:
    """The same where the routers have no sidecars and take plain text."""
    return Sidecar(
        name="edge",
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        edge=Edge(Place(ANYWHERE, PUBLIC), (Place("router", PORTS["router"]),), identity=""),
        edge_certificates=PUBLIC_CERTIFICATES,
        admin=Place(LOOPBACK, ADMIN),
        metrics=Place(ANYWHERE, METRICS),
    )


def files(trust: Trust) -> dict[Path, str]:
    """Every file's text, by its path below deploy/kubernetes/components/."""
    beside = {service: sidecar(service, trust) for service in PORTS}
    made: dict[Path, Any] = {
        Path("envoy-sidecar/envoy") / f"{service}.yaml": bootstrap(each) for service, each in beside.items()
    }
    # The same for every pod: what differs is the secret that is mounted.
    for name, tree in secret_files(beside["router"]).items():
        made[Path("envoy-sidecar/envoy") / f"{name}.yaml"] = tree
    made[Path("edge/envoy.yaml")] = bootstrap(edge(trust))
    made[Path("edge/envoy-plain.yaml")] = bootstrap(plain_edge())
    for name, tree in secret_files(edge(trust)).items():
        made[Path("edge") / f"{name}.yaml"] = tree
    return {path: HEAD + _text(tree) for path, tree in made.items()}


def _text(tree: Any) -> str:
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False, width=140)


class _Plain(yaml.SafeDumper):
    """Without anchors: people read these files, and Envoy's protobuf reader has no notion of them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trust-domain", default=Trust().domain, help="of the SPIFFE ids")
    parser.add_argument("--namespace", default=Trust().namespace, help="where the mesh runs")
    chosen = parser.parse_args(arguments)
    for path, text in files(Trust(chosen.trust_domain, chosen.namespace)).items():
        target = COMPONENTS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
