"""tests/long_tests.txt leaves out of `make quick` what it means to: a line that names no test would leave out none."""

import ast

from tests.support.long_tests import LONG_TESTS
from tests.support.tools import ROOT


def test_each_line_names_a_test_without_its_parameters() -> None:
    listed = LONG_TESTS.read_text(encoding="utf-8").splitlines()
    assert listed == sorted(set(listed))
    files = {line.partition("::")[0] for line in listed}
    there = {f"{file}::{name}" for file in files for name in _names_in(file)}
    assert [line for line in listed if line not in there] == []


def test_tests_of_matching_that_need_photographs_are_left_out() -> None:
    """What brings the photographs is not installed everywhere that quick tests run: see tests/install."""
    listed = set(LONG_TESTS.read_text(encoding="utf-8").splitlines())
    found = {
        f"{path.relative_to(ROOT).as_posix()}::{node.name}"
        for path in (ROOT / "tests" / "router" / "matching").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and _calls(node, "photographs")
    }
    assert len(found) > 5
    assert found <= listed


def _calls(node: ast.AST, name: str) -> bool:
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == name for one in ast.walk(node)
    )


def _names_in(file: str) -> set[str]:
    """Names as pytest writes them: of functions, and of classes' methods."""
    path = ROOT / file
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}::{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names
