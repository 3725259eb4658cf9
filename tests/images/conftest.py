"""The images of router, search, the front door and the command, built once for all tests here."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.builder import Builder
from tests.images.containers import Container
from tests.support.tools import all_wanted

TARGETS = ("cli", "router", "search", "http")


@pytest.fixture(scope="package")
def builder() -> Builder:
    """With its base made."""
    if os.geteuid():
        message = "building and starting images without an engine takes root's rights"
        pytest.fail(message, pytrace=False) if all_wanted() else pytest.skip(message)
    one = Builder()
    one.base()
    return one


@pytest.fixture(scope="package")
def images(builder: Builder) -> Iterator[dict[str, str]]:
    """Target -> image. Named for this run alone."""
    run = uuid.uuid4().hex[:8]
    tags = {target: f"localhost/lensmesh-{target}:{run}" for target in TARGETS}
    try:
        builder.build(tags)
        yield tags
    finally:
        builder.remove(tags.values())


@pytest.fixture(scope="package")
def roots(builder: Builder, images: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Target -> its files, and "base" -> the base's."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        every = {**images, "base": builder.base()}
        yield {name: stack.enter_context(builder.mounted(image)) for name, image in every.items()}


@pytest.fixture
def containers(
    builder: Builder, images: dict[str, str], roots: dict[str, Path], tmp_path: Path
) -> dict[str, Container]:
    """Target -> a container of it, not started."""
    return {
        target: Container(roots[target], builder.config(image), tmp_path / target) for target, image in images.items()
    }
