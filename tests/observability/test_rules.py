"""Rules that Prometheus takes, alerts that fire when they should and only then, and a runbook that knows each one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.observability.generate import HERE
from tests.support.exposed import SERVICES
from tests.support.tools import ROOT, need

RULES = sorted((HERE / "prometheus" / "rules").glob("*.yml"))
TESTS = sorted((HERE / "prometheus" / "tests").glob("*.yml"))
RUNBOOK = "docs/runbook.md"


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [need("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_scrape_configuration_are_valid() -> None:
    promtool("check", "rules", *RULES)
    promtool("check", "config", HERE / "prometheus" / "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_is_tested_both_ways() -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
    ]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fired == set(alerts())
    assert silent == set(alerts())


def test_every_alert_has_a_paragraph_in_the_runbook_and_no_paragraph_is_left_over() -> None:
    sections = re.split(r"^### ", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE)[1:]
    written = {section.splitlines()[0]: section for section in sections}
    assert set(written) == set(alerts())
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"
        assert f"*{alert['labels']['severity'].capitalize()}.*" in written[name]


@pytest.mark.parametrize("name", sorted(alerts()))
def test_alerts_say_how_urgent_they_are_and_what_is_wrong(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith(".")


def test_compose_is_scraped_service_by_service() -> None:
    config = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    found = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}
    assert set(found) == set(SERVICES)
    for job, place in found.items():
        assert place == {"names": [job], "type": "A", "port": 9464}
        assert job in services
