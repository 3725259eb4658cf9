"""What all tests share: a temporary folder of their own, and Ctrl-C that reaches what they start."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# Folders whose tests share what takes long to start (images, an API server, a traced mesh): one process runs a folder
# whole. They come first, since a long folder that begins last keeps everybody waiting.
WHOLE = ("images", "upgrade", "kubernetes", "tracing", "observability", "sidecars", "faults", "mesh")
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives each run a folder that no other run touches.

    pytest's default lies below one folder per user, which every run closes to other users as it starts. PostgreSQL
    under root runs as another user, and would lose its files in the middle of a test that began earlier.
    """
    if config.option.basetemp is None:
        folder = tempfile.mkdtemp(prefix="lensmesh-tests-")
        config.option.basetemp = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # What models are compiled into is found by the next test of the run, and nothing is left in the user's own cache.
    # The processes that share a run's tests (pytest-xdist) inherit the folder of the one that started them.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        cache = tempfile.mkdtemp(prefix="lensmesh-tests-cache-")
        os.environ["XDG_CACHE_HOME"] = cache
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    # A shell that runs the tests in the background has SIGINT ignored, and what they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests one process runs: those of a file, or of a whole folder."""
    first = {name: place for place, name in enumerate(WHOLE)}

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(HERE).parts[0]

    for item in items:
        group = folder(item) if folder(item) in first else str(item.path.relative_to(HERE))
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: first.get(folder(item), len(first)))
