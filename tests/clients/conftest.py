"""One mesh of mocks for the clients in other languages."""

from collections.abc import Iterator

import pytest

from tests.support.meshes import Mesh, mock_mesh


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """`lensmesh up --mock`, with its front door, shared: tests use collections of their own."""
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--http") as mesh:
        yield mesh
