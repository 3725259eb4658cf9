"""What all tests share: a temporary folder of their own, and Ctrl-C that reaches what they start."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from lensmesh_chassis.process.event_loop import has_uvloop, loop_factory
from tests.support.long_tests import LONG_TESTS, LongTests, folder_of, name_of

# Folders whose tests share what takes long to start (images, an API server, a traced mesh): one process runs a folder
# whole. They come first, since a long folder that begins last keeps everybody waiting.
WHOLE = ("images", "upgrade", "kubernetes", "tracing", "observability", "sidecars", "faults", "mesh", "clients")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--quick`, for `make quick`, and `--note-long`, for `make long-tests`."""
    parser.addoption("--quick", action="store_true", help=f"leave out the tests that {LONG_TESTS.name} lists")
    parser.addoption("--note-long", action="store_true", help=f"write {LONG_TESTS.name} anew, after a run of all tests")


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
        # What uv has fetched once stays in reach: gigabytes, for an environment with torch.
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ.setdefault("UV_CACHE_DIR", str(Path(caches) / "uv"))
        # So does what Go has compiled.
        os.environ.setdefault("GOCACHE", str(Path(caches) / "go-build"))
        cache = tempfile.mkdtemp(prefix="lensmesh-tests-cache-")
        os.environ["XDG_CACHE_HOME"] = cache
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    if config.option.note_long:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            LONG_TESTS.unlink(missing_ok=True)
        config.pluginmanager.register(LongTests(besides=WHOLE))
    # A shell that runs the tests in the background has SIGINT ignored, and what they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run a test on asyncio's own event loop, and where it is marked for both on uvloop's as well."""
    both = ("asyncio", "uvloop") if has_uvloop() and item.get_closest_marker("both_loops") else ("asyncio",)
    return {name: loop_factory(name) for name in both}


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a process the tests of one file at a time, or of a whole folder."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in WHOLE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """Share the tests out by folder and file, in the order of their collection."""
    config.option.loadscopereorder = False
    return ByFolder(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the whole folders first; for a quick run, leave out what takes long."""
    if config.getoption("--quick"):
        long = set(LONG_TESTS.read_text(encoding="utf-8").splitlines())
        quick = [one for one in items if folder_of(one) not in WHOLE and name_of(one) not in long]
        config.hook.pytest_deselected(items=[one for one in items if one not in set(quick)])
        items[:] = quick

    def place(item: pytest.Item) -> int:
        return WHOLE.index(folder_of(item)) if folder_of(item) in WHOLE else len(WHOLE)

    items.sort(key=place)
