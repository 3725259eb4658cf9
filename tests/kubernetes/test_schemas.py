"""Every object has the shape that Kubernetes documents, to the letter: an unknown field fails."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.kubernetes.manifests import Objects
from tests.kubernetes.rendering import FOLDERS, Variant, render, with_secrets
from tests.kubernetes.schemas import CUSTOM, VERSION

ROOT = Path(__file__).parents[2]


def test_schemas(objects: Objects) -> None:
    for one in objects.all:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("variant", FOLDERS, ids=lambda variant: variant.name)
def test_the_oldest_kubernetes_that_operations_promises_knows_every_field(variant: Variant) -> None:
    promised = re.search(r"Kubernetes (\d+\.\d+) or newer", (ROOT / "docs" / "operations.md").read_text())
    assert promised
    for one in with_secrets(render(variant)):
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, promised.group(1), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replica"), 2),
        (("spec", "template", "spec", "containers", 0, "readinessProbe", "grpc", "ports"), 50059),
        (("spec", "template", "spec", "terminationGracePeriodSeconds"), "60s"),
    ],
)
def test_a_wrong_field_is_found(path: tuple[Any, ...], value: Any) -> None:
    deployment = next(one for one in render(Variant("base")) if one["kind"] == "Deployment")
    place = deployment
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSION, strict=True)
