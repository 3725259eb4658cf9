"""One public class name for one thing, and helpers of tests that lie where helpers lie."""

import ast
from collections import defaultdict

from tests.conventions.packages import ALLOWED, ROOT, contract_names, imports, modules

# What is no message or enum of the contracts, and is one and the same notion in two packages all the same.
WANTED = {
    "Change": "a part of an item that a write changed: in Search, and for the client",
    "MeshStatus": "how the whole mesh is: asked by the router, shown by the client",
    "Space": "a vector space: as an encoder serves it, and as the client shows it",
    "StoredItem": "an item of the store: in Search, and as the router looks it up",
    "Transparency": "what a model sees where an image is transparent: for decoders, and for callers",
}


def test_a_public_class_name_means_one_thing() -> None:
    packages: defaultdict[str, set[str]] = defaultdict(set)
    for package in ALLOWED:
        for _, tree in modules(package):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    packages[node.name].add(package)
    told = contract_names()
    shared = {name: sorted(found) for name, found in packages.items() if len(found) > 1 and name not in told}
    assert not {name: found for name, found in shared.items() if name not in WANTED}
    assert not WANTED.keys() - shared.keys(), "these stand in one package only: take them off the list"


def test_no_test_takes_helpers_out_of_another_test() -> None:
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in imports(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] == "tests" and parts[-1].startswith("test_"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong
