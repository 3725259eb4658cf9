"""docs/metrics.md lists what a running mesh exposes: no metric less, none more, each with type, labels and words."""

import re

from tests.observability.prometheus import metrics_of
from tests.support.exposed import SERVICES, scrape, shown
from tests.support.meshes import Mesh
from tests.support.tools import ROOT


def test_the_page_and_a_running_mesh_agree(mesh: Mesh) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `\w+` \|.*$", page, re.MULTILINE))
    exposed = {one.row() for one in shown({service: scrape(metrics_of(mesh, service)) for service in SERVICES})}
    lines = ["docs/metrics.md lacks:", *sorted(exposed - documented), "and has:", *sorted(documented - exposed)]
    assert exposed == documented, "\n".join(lines)
