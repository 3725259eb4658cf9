"""One API server for all tests of this folder that need one, and the objects of each rendering."""

from collections.abc import Iterator

import pytest

from tests.kubernetes.apiserver import Cluster, api_server, definitions
from tests.kubernetes.manifests import Objects
from tests.kubernetes.rendering import VARIANTS, Variant, render, with_secrets


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that knows the custom resources of the manifests."""
    with api_server(tmp_path_factory.mktemp("cluster")) as one:
        one.define(definitions())
        yield one


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Every folder and combination in turn."""
    chosen: Variant = request.param
    return chosen


@pytest.fixture
def objects(variant: Variant) -> Objects:
    """What it renders to, with the Secrets that who installs has made."""
    return Objects(with_secrets(render(variant)))
