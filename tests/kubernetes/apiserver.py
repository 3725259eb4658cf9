"""A real Kubernetes API server over a real etcd: what it takes, a cluster takes. No controllers, no nodes."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.tools import need

CRDS = Path(__file__).parents[2] / "deploy" / "tools" / "crds"
"""Pins the modules whose resource definitions are loaded."""
_FOLDERS = {
    "github.com/kedacore/keda/v2": ("config/crd/bases", ("keda.sh_scaledobjects",)),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_podmonitors", "monitoring.coreos.com_prometheusrules"),
    ),
    "github.com/cert-manager/cert-manager": (
        "deploy/crds",
        ("cert-manager.io_issuers", "cert-manager.io_certificates"),
    ),
}
_START_SECONDS = 300
_TOKEN = "for-this-test-alone"


@dataclass(frozen=True)
class Answer:
    """What kubectl said."""

    code: int
    out: str
    errors: str

    def json(self) -> Any:
        """Its output, read."""
        return json.loads(self.out)


class Cluster:
    """An API server and kubectl against it."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubectl = str(need("kubectl"))
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)}

    def kubectl(self, *arguments: str, objects: Sequence[Any] = (), check: bool = True) -> Answer:
        """Run kubectl; `objects` are its standard input. Raises where it fails, unless not to `check`."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}) if objects else None
        done = subprocess.run(
            [self._kubectl, *arguments], env=self._environment, input=text, capture_output=True, text=True, timeout=300
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return Answer(done.returncode, done.stdout, done.stderr)

    def define(self, files: Sequence[Path]) -> None:
        """Load custom resource definitions and wait until the server serves them."""
        names = [f"crd/{yaml.safe_load(path.read_text())['metadata']['name']}" for path in files]
        self.kubectl("apply", "--server-side", *(f"--filename={path}" for path in files))
        self.kubectl("wait", "--for=condition=Established", "--timeout=250s", *names)


def definitions() -> list[Path]:
    """Files of the custom resource definitions that manifests use, out of their owners' modules."""
    go = str(need("go"))
    pinned = dict(
        line.split()[:2]
        for line in (CRDS / "go.mod").read_text().split("require (")[1].split(")")[0].strip().splitlines()
    )
    assert pinned.keys() == _FOLDERS.keys()
    files = []
    for module, version in pinned.items():
        # In the folder of go.sum, so that Go compares what it gets with the hash there.
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{module}@{version}"],
            cwd=CRDS,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        below, names = _FOLDERS[module]
        files += [Path(json.loads(done.stdout)["Dir"]) / below / f"{name}.yaml" for name in names]
    return files


@contextlib.contextmanager
def api_server(folder: Path) -> Iterator[Cluster]:
    """Both processes on free ports of this machine, with their data in `folder`; stopped when left."""
    etcd, server = need("etcd"), need("kube-apiserver")
    (folder / "tokens.csv").write_text(f"{_TOKEN},tester,tester,system:masters\n")
    key = folder / "accounts.key"
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    with contextlib.ExitStack() as processes:
        storing, store = _store(processes, str(etcd), folder)
        port = _free_port()
        running = processes.enter_context(
            _process(
                folder / "apiserver.log",
                [
                    str(server),
                    f"--etcd-servers={store}",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={port}",
                    f"--cert-dir={folder / 'certificates'}",
                    f"--token-auth-file={folder / 'tokens.csv'}",
                    f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--service-cluster-ip-range=10.96.0.0/16",
                ],
            )
        )
        cluster = Cluster(_kubeconfig(folder, port))
        end = time.monotonic() + _START_SECONDS
        while cluster.kubectl("get", "--raw=/readyz", check=False).code:
            for process, log in ((storing, "etcd.log"), (running, "apiserver.log")):
                assert process.poll() is None, (folder / log).read_text()[-4000:]
            assert time.monotonic() < end, "the API server did not become ready"
            time.sleep(0.2)
        yield cluster


def _store(processes: contextlib.ExitStack, etcd: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """etcd and its address, when it is known to have got its port: between choosing and taking it, others may."""
    end = time.monotonic() + _START_SECONDS
    while True:
        port, log = _free_port(), folder / "etcd.log"
        address = f"http://127.0.0.1:{port}"
        command = [
            etcd,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={address}",
            f"--advertise-client-urls={address}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",
        ]
        with contextlib.ExitStack() as tried:
            running = tried.enter_context(_process(log, command))
            while running.poll() is None:
                # Its own word for it; a connection alone might be somebody else's who has the port.
                if "ready to serve client requests" in log.read_text():
                    processes.push(tried.pop_all())
                    return running, address
                assert time.monotonic() < end, f"etcd did not start: {log.read_text()[-4000:]}"
                time.sleep(0.05)
        assert "address already in use" in log.read_text(), log.read_text()[-4000:]


def _kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    server = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority": str(folder / "certificates/apiserver.crt"),
    }
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "test", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(tree))
    return path


@contextlib.contextmanager
def _process(log: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    output: IO[bytes]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
