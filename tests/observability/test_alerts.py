"""The real rules in a real Prometheus: quiet over a mesh that works, and raised when an Encoder is killed."""

import contextlib
import os
import signal

from tests.observability.prometheus import RULES, Prometheus, impatient
from tests.support.meshes import Mesh
from tests.support.waiting import wait_until

DOWN = {"alertname": "LensmeshServiceDown", "job": "encoder"}


def raised(watched: Prometheus) -> bool:
    return any(alert.items() >= DOWN.items() for alert in watched.firing())


def test_a_killed_encoder_raises_its_alert_and_its_return_ends_it(mesh: Mesh, watched: Prometheus) -> None:
    wait_until(lambda: bool(watched.query('up{job="encoder"} == 1')), "the Encoder is scraped")
    wait_until(lambda: not raised(watched), "no alert while it lives")
    seen = 0

    def killed_until_noticed() -> bool:
        # Its supervisor starts it again, each time later: in the end a scrape falls between.
        nonlocal seen
        pid = mesh.pid("encoder")
        if pid and pid != seen:
            seen = pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return raised(watched)

    wait_until(killed_until_noticed, "the alert is raised")
    wait_until(lambda: not raised(watched), "the alert ends")
    wait_until(lambda: bool(watched.query('lensmesh_health_serving{job="encoder"} == 1')), "the Encoder serves again")
    restarts = watched.query('lensmesh_restarts_total{job="encoder"}')
    assert float(restarts[0]["value"][1]) >= 1


def test_the_rules_of_this_test_differ_in_their_patience_only() -> None:
    for path in RULES.glob("*.yml"):
        rules = [rule for group in impatient(path.read_text())["groups"] for rule in group["rules"]]
        assert all(rule["for"] == "0s" for rule in rules if "alert" in rule)
        text = " ".join(path.read_text().split())
        for rule in rules:
            assert " ".join(rule["expr"].split()) in text
