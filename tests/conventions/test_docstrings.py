"""A function's docstring begins with a verb in the imperative, a value's with a noun: CONTRIBUTING.md says so."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A package is added here once its docstrings follow the rule.
CHECKED = (
    "bench",
    "caption_svc",
    "deploy",
    "docs",
    "encoder_svc",
    "http_svc",
    "lensmesh_chassis",
    "lensmesh_cli",
    "lensmesh_client",
    "lensmesh_inference",
    "lensmesh_local",
    "lensmesh_serving",
    "lensmesh_shapes",
    "protos",
    "router_svc",
    "search_svc",
)
# Beginnings that hide who does what: the subject of the sentence comes late, or never.
_WORDS = """
a an the one two three four both all every each either neither no none nothing nobody not only some several
somebody something many more most least up so same such true false
what whatever whether how where who whoever whose whom why which when while
as at about after before behind beside between by for from if in into of on out over per than to under until
with within without and but or
he her his i it its itself my our she that their them there these they this those we you your
image item text vector long cheap fresh new
"""
NOT_VERBS = frozenset(_WORDS.split())
QUESTIONS = {"what", "whatever", "whether", "how", "where", "who", "whoever", "whose", "why", "which", "when", "one"}
PROPERTIES = {"property", "cached_property", "setter"}


def decorators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the decorators' own names, without the modules or objects that they are taken from."""
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in function.decorator_list
        if isinstance(node, ast.Attribute | ast.Name)
    }


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and docstring of each function and method; a property's is about a thing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not decorators(node) & PROPERTIES:
            text = ast.get_docstring(node)
            if text:
                yield node.lineno, text


def begins_with_a_verb(text: str) -> bool:
    """Tell whether a docstring may begin so, as far as its first word shows.

    A word that ends in one s is a plural ("Bytes of ...") or a verb in the third person ("Returns ...").
    """
    word = text.split()[0].rstrip(",.:;")
    plain = word.isalpha() and word[0].isupper() and word[1:].islower()
    return plain and word.lower() not in NOT_VERBS and (not word.endswith("s") or word.endswith("ss"))


@pytest.mark.parametrize("package", CHECKED)
def test_a_function_begins_with_a_verb(package: str) -> None:
    found = [
        (f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}", begins_with_a_verb(text))
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in docstrings(path)
    ]
    assert found
    assert not [place for place, good in found if not good]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Return the size.", True),
        ("Load, connect and warm up.", True),
        ("Process one item.", True),
        ("Returns the size.", False),
        ("Bytes of one row.", False),
        ("Whether it is public.", False),
        ("As `Fetches.fetch`.", False),
        ('"host:port" of a service.', False),
        ("`age_s`: for callers from outside.", False),
    ],
)
def test_the_rule_tells_verbs_from_other_beginnings(text: str, good: bool) -> None:
    assert begins_with_a_verb(text) is good


def value_docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and docstring of each attribute and constant: the string that follows its assignment."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", None)
        for assigned, after in pairwise(body if isinstance(body, list) else []):
            match assigned, after:
                case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                    yield after.lineno, text


def names_a_thing(text: str) -> bool:
    """Tell whether a value's docstring may begin so: "Number of ...", and "Of ..." where its name says the noun."""
    return text.split()[0].rstrip(",.:;").lower() not in QUESTIONS


@pytest.mark.parametrize("package", [*CHECKED, "tests"])
def test_a_value_begins_with_no_question(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in value_docstrings(path)
        if not names_a_thing(text)
    ]
    assert not found


def test_a_value_s_docstring_is_found_wherever_it_is_assigned(tmp_path: Path) -> None:
    lines = ["A = 1", '"""How many."""', "class B:", "    c: int", '    """Number of c."""', "    def d(self):"]
    lines += ["        self.e = 2", '        """One."""', ""]
    file = tmp_path / "code.py"
    file.write_text("\n".join(lines))
    told = sorted(value_docstrings(file))
    assert [(line, names_a_thing(text)) for line, text in told] == [(2, False), (5, True), (8, False)]
