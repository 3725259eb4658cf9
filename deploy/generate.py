"""Generator of files below deploy/kubernetes/ that follow from others: Envoys' configurations, identities, alerts.

In KEDA's queries it writes only the namespace: Kustomize does not know that it is one.

python -m deploy.generate [--trust-domain DOMAIN] [--namespace NAMESPACE] [--origin ORIGIN]
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lensmesh_chassis.contract import HTTP_PORT
from lensmesh_chassis.contract import PORTS as GRPC_PORTS
from lensmesh_local.sidecars.bootstrap import bootstrap
from lensmesh_local.sidecars.model import (
    CALLERS_OF_FACES,
    CALLS,
    EGRESS,
    HTTP,
    INBOUND,
    Edge,
    Egress,
    HostPort,
    Inbound,
    Sidecar,
    Trust,
)
from lensmesh_local.sidecars.secrets import secret_files

_HERE = Path(__file__).resolve().parent
COMPONENTS = _HERE / "kubernetes" / "components"
RULES = _HERE / "observability" / "prometheus" / "rules"
PORTS = {**GRPC_PORTS, HTTP: HTTP_PORT}
ANYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"
ADMIN, METRICS, PUBLIC = 9901, 9902, 8443
CERTIFICATES, PUBLIC_CERTIFICATES, CONFIGURATION = "/var/run/lensmesh/tls", "/var/run/lensmesh/edge-tls", "/etc/envoy"

HEAD = "# Made by `make docs` from lensmesh_local/sidecars/; edit that.\n"
IDENTITIES_HEAD = """\
# Made by `make docs` from deploy/generate.py; edit that.
# One for each service and for the edge, and one for a client inside the cluster that speaks mutual TLS itself. Each
# lasts a day and is renewed after 16 hours: a stolen one is soon worthless, and cert-manager may be away for a night.
"""
ALERTS_HEAD = "# Made by `make docs` from deploy/observability/prometheus/rules/; edit those.\n"


def sidecar(service: str, trust: Trust) -> Sidecar:
    """Describe the Envoy in the pod of one service.

    Its neighbours are found by the names of their headless services.
    """
    return Sidecar(
        name=service,
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        inbound=Inbound(
            service,
            listen=HostPort(ANYWHERE, PORTS[service] + INBOUND),
            to=HostPort(LOOPBACK, PORTS[service]),
            callers=trust.callers(service),
        ),
        egress=tuple(
            Egress(
                called,
                listen=HostPort(LOOPBACK, PORTS[called] + EGRESS),
                replicas=(HostPort(called, PORTS[called] + INBOUND),),
                identity=trust.id(called),
            )
            for called in CALLS[service]
        ),
        admin=HostPort(LOOPBACK, ADMIN),
        metrics=HostPort(ANYWHERE, METRICS),
    )


def edge(trust: Trust, origins: tuple[str, ...] = ()) -> Sidecar:
    """Describe the Envoy that takes calls from outside. Routers and front doors have sidecars."""
    return Sidecar(
        name="edge",
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        edge=Edge(
            HostPort(ANYWHERE, PUBLIC),
            (HostPort("router", PORTS["router"] + INBOUND),),
            trust.id("router"),
            doors=(HostPort(HTTP, PORTS[HTTP] + INBOUND),),
            doors_identity=trust.id(HTTP),
            origins=origins,
        ),
        edge_certificates=PUBLIC_CERTIFICATES,
        admin=HostPort(LOOPBACK, ADMIN),
        metrics=HostPort(ANYWHERE, METRICS),
    )


def plain_edge(origins: tuple[str, ...] = ()) -> Sidecar:
    """Describe the Envoy that takes calls from outside, for services that have no sidecars and take plain text."""
    return Sidecar(
        name="edge",
        certificates=CERTIFICATES,
        configuration=CONFIGURATION,
        edge=Edge(
            HostPort(ANYWHERE, PUBLIC),
            (HostPort("router", PORTS["router"]),),
            identity="",
            doors=(HostPort(HTTP, PORTS[HTTP]),),
            origins=origins,
        ),
        edge_certificates=PUBLIC_CERTIFICATES,
        admin=HostPort(LOOPBACK, ADMIN),
        metrics=HostPort(ANYWHERE, METRICS),
    )


def files(trust: Trust, origins: tuple[str, ...] = ()) -> dict[Path, str]:
    """Return every file's text, by its path below deploy/kubernetes/components/."""
    beside = {service: sidecar(service, trust) for service in PORTS}
    made: dict[Path, Any] = {
        Path("envoy-sidecar/envoy") / f"{service}.yaml": bootstrap(each) for service, each in beside.items()
    }
    # The same for every pod: what differs is the secret that is mounted.
    for name, tree in secret_files(beside["router"]).items():
        made[Path("envoy-sidecar/envoy") / f"{name}.yaml"] = tree
    made[Path("edge/envoy.yaml")] = bootstrap(edge(trust, origins))
    made[Path("edge/envoy-plain.yaml")] = bootstrap(plain_edge(origins))
    for name, tree in secret_files(edge(trust)).items():
        made[Path("edge") / f"{name}.yaml"] = tree
    texts = {path: HEAD + _text(tree) for path, tree in made.items()}
    identities = "---\n".join(_text(identity(name, trust)) for name in (*PORTS, *CALLERS_OF_FACES))
    texts[Path("certificates/identities.yaml")] = IDENTITIES_HEAD + identities
    texts[Path("observability/rules.yaml")] = ALERTS_HEAD + _text(alerts())
    for service in ("encoder", "caption"):
        path = Path("autoscale-keda") / f"{service}.yaml"
        texts[path] = re.sub(r'(namespace=)"[^"]*"', rf'\1"{trust.namespace}"', (COMPONENTS / path).read_text())
    return texts


def identity(name: str, trust: Trust) -> dict[str, Any]:
    """Return cert-manager's order for the certificate of one service or client.

    The certificate is then in the Secret NAME-identity.
    """
    # Envoy looks at the id alone; a client that speaks mutual TLS itself checks the name that it called, too.
    host = f"{name}.{trust.namespace}"
    names = {"dnsNames": [name, host, f"{host}.svc", f"{host}.svc.cluster.local"]} if name in PORTS else {}
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": f"{name}-identity"},
        "spec": {
            "secretName": f"{name}-identity",
            "uris": [trust.id(name)],
            **names,
            "duration": "24h",
            "renewBefore": "8h",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth", "client auth"],
            "issuerRef": {"name": "mesh", "kind": "Issuer"},
        },
    }


def alerts() -> dict[str, Any]:
    """Return Prometheus' rules as the Prometheus operator takes them."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "lensmesh"},
        "spec": {"groups": groups},
    }


def _text(tree: Any) -> str:
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False, width=140)


class _Plain(yaml.SafeDumper):
    """YAML without anchors: people read these files, and Envoy's protobuf reader does not know them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trust-domain", default=Trust().domain, help="trust domain of the SPIFFE ids")
    parser.add_argument("--namespace", default=Trust().namespace, help="namespace that the mesh runs in")
    parser.add_argument(
        "--origin", action="append", default=[], help="origin whose pages may call the edge by gRPC-Web; repeatable"
    )
    chosen = parser.parse_args(arguments)
    for path, text in files(Trust(chosen.trust_domain, chosen.namespace), tuple(chosen.origin)).items():
        target = COMPONENTS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
