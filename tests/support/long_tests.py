"""Tests that `make quick` leaves out, and how their list is made."""

import fcntl
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

LONG_TESTS = Path(__file__).parents[1] / "long_tests.txt"
LONG_S = 0.5


def folder_of(item: pytest.Item) -> str:
    """Return the folder below tests/ that a test lies in."""
    return item.nodeid.split("/")[1]


def name_of(item: pytest.Item) -> str:
    """Return "tests/folder/file.py::function", the same for all parameters."""
    return item.nodeid.partition("[")[0]


class LongTests:
    """Notes which tests take half a second or longer, or start a process, themselves or by a fixture."""

    def __init__(self, besides: Collection[str]) -> None:
        """`besides`: folders that are left out whole, and not listed."""
        self._besides = besides
        self._started = 0
        self._fixtures: set[str] = set()
        self._found: set[str] = set()
        sys.addaudithook(self._count)

    def _count(self, event: str, _: Any) -> None:
        self._started += event in ("subprocess.Popen", "os.posix_spawn", "os.fork")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Note a fixture that starts a process: all tests that use it are long."""
        before = self._started
        try:
            return (yield)
        finally:
            if self._started > before:
                self._fixtures.add(fixturedef.argname)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note a test that starts a process, or uses a fixture that did."""
        before = self._started
        result = yield
        used = set(getattr(item, "fixturenames", ()))
        if self._started > before or used & self._fixtures:
            self._found.add(name_of(item))
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a slow part of a test."""
        if report.duration >= LONG_S:
            self._found.add(report.nodeid.partition("[")[0])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the list; a process of several adds its own to what others wrote."""
        found = {name for name in self._found if name.split("/")[1] not in self._besides}
        with LONG_TESTS.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            found |= set(file.read().splitlines())
            file.truncate(0)
            file.writelines(f"{name}\n" for name in sorted(found))
