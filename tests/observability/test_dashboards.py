"""Dashboards are what their code says, and every panel of each shows data of a mesh at work."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.observability.generate import HERE, files
from tests.observability.prometheus import Prometheus
from tests.support.waiting import wait_until

DASHBOARDS = sorted((HERE / "grafana" / "dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}


def panels(path: Path) -> list[dict[str, Any]]:
    """All panels of a dashboard, rows left out."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def queries() -> list[Any]:
    return [
        pytest.param(query["expr"], id=f"{path.stem}: {panel['title']} {query['refId']}")
        for path in DASHBOARDS
        for panel in panels(path)
        for query in panel["targets"]
    ]


def filled(expr: str) -> str:
    """A query with a choice for each variable."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_files_are_what_the_code_makes(path: Path) -> None:
    assert path.read_text() == files()[path], "run `make docs`"


def test_no_file_is_left_of_a_dashboard_that_is_gone() -> None:
    assert set(DASHBOARDS) == {path for path in files() if path.suffix == ".json"}


@pytest.mark.parametrize("expr", queries())
def test_every_query_answers_with_data(watched: Prometheus, expr: str) -> None:
    query = filled(expr)

    def answers() -> bool:
        return any(math.isfinite(float(series["value"][1])) for series in watched.query(query))

    wait_until(answers, f"data for {query}")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_can_be_told_apart_and_say_what_they_show(path: Path) -> None:
    found = panels(path)
    assert " null" not in path.read_text(), "Grafana may not survive an option without a value"
    assert len({panel["id"] for panel in found}) == len(found)
    assert len({panel["title"] for panel in found}) == len(found)
    for panel in found:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [query["refId"] for query in panel["targets"]]
        assert letters == sorted(set(letters))


def test_dashboards_ask_for_metrics_that_are_documented() -> None:
    page = (HERE.parents[1] / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    rules = yaml.safe_load((HERE / "prometheus" / "rules" / "slo.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    text = "\n".join(path.read_text() for path in [*DASHBOARDS, *(HERE / "prometheus" / "rules").glob("*.yml")])
    asked = set(re.findall(r"\b(?:lensmesh|grpc_server|grpc_client|process)_\w+", text))
    without_suffix = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert without_suffix <= documented | {"grpc_service", "grpc_method"}
    assert set(re.findall(r"lensmesh:\w+:\w+", text)) <= recorded


def test_a_dot_on_a_chart_leads_to_its_trace() -> None:
    path = HERE / "grafana" / "provisioning" / "datasources" / "lensmesh.yml"
    sources = {source["uid"]: source for source in yaml.safe_load(path.read_text())["datasources"]}
    [leads] = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert leads["name"] == "trace_id"
    assert sources[leads["datasourceUid"]]["type"] == "jaeger"
    text = "\n".join(path.read_text() for path in DASHBOARDS)
    assert '"exemplar": true' in text
