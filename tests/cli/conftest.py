"""One mesh of mocks for the whole folder: starting one takes longest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.in_process import User
from tests.support.meshes import Mesh, mock_mesh


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """`lensmesh up --mock`, shared: tests use collections of their own."""
    # No test, and no command, may rely on the default collection's usual name.
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--http", LENSMESH_ROUTER_DEFAULT_COLLECTION="house") as mesh:
        yield mesh


@pytest.fixture
def user(mesh: Mesh, tmp_path: Path) -> User:
    """Uses the shared mesh within the test's process, with nothing remembered yet."""
    return User(mesh.target, tmp_path / "user-state")
