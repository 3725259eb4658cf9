"""A real Prometheus over a mesh: started, asked, ended."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.meshes import Mesh
from tests.support.tools import ROOT, need
from tests.support.waiting import wait_until

RULES = ROOT / "deploy" / "observability" / "prometheus" / "rules"
SERVICES = ("router", "encoder", "caption", "search", "http")


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str
    log: Path

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one answer of its API."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            body = json.loads(answer.read())
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def firing(self) -> list[dict[str, str]]:
        """The labels of every alert that fires now."""
        return [alert["labels"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]


def metrics_of(mesh: Mesh, service: str) -> str:
    """ "host:port" of a service's metrics endpoint, as its ready file tells."""
    ready = json.loads((mesh.data / "run" / f"{service}.json").read_text())
    return str(ready["metrics"])


def impatient(rules: str) -> dict[str, Any]:
    """The rules with every `for:` set to 0 s, and nothing else changed: a test cannot wait for minutes."""
    content: dict[str, Any] = yaml.safe_load(rules)
    for group in content["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "0s"
    return content


@contextlib.contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Scrapes `targets` (job -> address) every second and evaluates the real rules, without patience."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_text(yaml.safe_dump(impatient(path.read_text())))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [path.name for path in RULES.glob("*.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = folder / "prometheus.log"
    command = [
        str(need("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: bool(_address(log)) or process.poll() is not None, "Prometheus listens")
        assert process.poll() is None, log.read_text()
        one = Prometheus(_address(log), log)
        wait_until(lambda: _ready(one), "Prometheus is ready")
        yield one
    finally:
        process.terminate()
        process.wait(60)


def _address(log: Path) -> str:
    found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', log.read_text())
    return found[1] if found else ""


def _ready(one: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"http://{one.address}/-/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
