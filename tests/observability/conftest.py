"""One mesh of mocks under load, and a Prometheus that watches it, for the whole folder."""

from collections.abc import Iterator

import pytest

from tests.observability.load import under_load
from tests.observability.prometheus import SERVICES, Prometheus, metrics_of, prometheus
from tests.support.meshes import Mesh, mock_mesh

# Spans are made and sampled, so that there are exemplars; nobody listens there, which must not matter.
NO_COLLECTOR = "http://127.0.0.1:9"


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """`lensmesh up --mock`, traced, with callers."""
    folder = tmp_path_factory.mktemp("observed")
    with (
        mock_mesh(
            folder,
            "--http",
            OTEL_EXPORTER_OTLP_ENDPOINT=NO_COLLECTOR,
            LENSMESH_CAPTION_CANARY_SECONDS="1",
            LENSMESH_ENCODER_CANARY_SECONDS="1",
        ) as mesh,
        under_load(mesh.target, mesh.addresses["page"]),
    ):
        yield mesh


@pytest.fixture(scope="package")
def watched(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus over that mesh."""
    targets = {service: metrics_of(mesh, service) for service in SERVICES}
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as one:
        yield one
