"""What autoscalers ask Prometheus, asked of a real one: its own evaluator, over figures made up for the purpose."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import files
from lensmesh_local.sidecars.model import Trust
from tests.kubernetes.manifests import SERVICES, Objects
from tests.kubernetes.rendering import COMBINATIONS, KUBERNETES, render
from tests.support.tools import need

METRIC = "lensmesh_engine_predicted_wait_seconds"
# Two Encoders, the first with two models; a Captioner; an Encoder of another namespace.
FIGURES = [
    {"series": f'{METRIC}{{namespace="lensmesh", pod="encoder-a", model="one"}}', "values": "2x5"},
    {"series": f'{METRIC}{{namespace="lensmesh", pod="encoder-a", model="two"}}', "values": "3x5"},
    {"series": f'{METRIC}{{namespace="lensmesh", pod="encoder-b", model="one"}}', "values": "0.5x5"},
    {"series": f'{METRIC}{{namespace="lensmesh", pod="caption-a", model="blip"}}', "values": "20x5"},
    {"series": f'{METRIC}{{namespace="other", pod="encoder-a", model="one"}}', "values": "100x5"},
]


def ask(expression: str, expected: list[dict[str, Any]], folder: Path) -> None:
    """Raises unless Prometheus answers `expression` so."""
    question = {"expr": expression, "eval_time": "2m", "exp_samples": expected}
    tests = {"rule_files": [], "tests": [{"interval": "1m", "input_series": FIGURES, "promql_expr_test": [question]}]}
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [str(need("promtool")), "test", "rules", str(path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def keda_query(service: str) -> str:
    """What KEDA asks for one service."""
    variant = next(one for one in COMBINATIONS if "autoscale-keda" in one.components)
    scaled = Objects(render(variant)).get("ScaledObject", service)
    (trigger,) = scaled["spec"]["triggers"]
    # Kustomize changes the one and not the other.
    assert f'namespace="{scaled["metadata"]["namespace"]}"' in trigger["metadata"]["query"]
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "AverageValue"
    return str(trigger["metadata"]["query"])


def test_keda_sums_over_the_pods_of_one_service(tmp_path: Path) -> None:
    """The worst model of each pod; KEDA divides by the number of pods."""
    ask(keda_query("encoder"), [{"labels": "", "value": 3.5}], tmp_path)
    ask(keda_query("caption"), [{"labels": "", "value": 20}], tmp_path)


def test_keda_asks_for_another_namespace_too() -> None:
    made = files(Trust(namespace="pictures"))
    for service in ("encoder", "caption"):
        text = made[Path("autoscale-keda") / f"{service}.yaml"]
        assert f'namespace="pictures", pod=~"{service}-.+"' in text
        assert 'lensmesh"' not in text


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape("got:")):
        ask(keda_query("encoder"), [{"labels": "", "value": 4}], tmp_path)


def test_the_adapter_gives_each_pod_its_worst_model(tmp_path: Path) -> None:
    """prometheus-adapter's template, filled in as it does for the pods of one Deployment."""
    (rule,) = yaml.safe_load((KUBERNETES / "components/autoscale/prometheus-adapter.yaml").read_text())["rules"]
    query = str(rule["metricsQuery"])
    for place, text in {
        "<<.Series>>": METRIC,
        "<<.LabelMatchers>>": 'namespace="lensmesh",pod=~"encoder-a|encoder-b"',
        "<<.GroupBy>>": "pod",
    }.items():
        assert place in query
        query = query.replace(place, text)
    ask(query, [{"labels": '{pod="encoder-a"}', "value": 3}, {"labels": '{pod="encoder-b"}', "value": 0.5}], tmp_path)


def test_both_autoscalers_want_the_same() -> None:
    hpa = next(one for one in COMBINATIONS if "autoscale" in one.components)
    keda = next(one for one in COMBINATIONS if "autoscale-keda" in one.components)
    for service in SERVICES:
        one = Objects(render(hpa)).get("HorizontalPodAutoscaler", service)["spec"]
        other = Objects(render(keda)).get("ScaledObject", service)["spec"]
        assert (one["minReplicas"], one["maxReplicas"]) == (other["minReplicaCount"], other["maxReplicaCount"])
        assert one["behavior"] == other["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        (metric,), (trigger,) = one["metrics"], other["triggers"]
        if metric["type"] == "Pods":
            assert metric["pods"]["metric"]["name"] == METRIC
            assert metric["pods"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
        else:
            assert str(metric["containerResource"]["target"]["averageUtilization"]) == trigger["metadata"]["value"]
            assert metric["containerResource"]["container"] == trigger["metadata"]["containerName"] == "service"
