"""What pages name exists: files, folders, classes and settings."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from google.rpc import error_details_pb2

from docs.generate import settings_page
from lensmesh_chassis import contract
from tests.conventions.packages import ALLOWED, ROOT, contract_names, modules

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *ROOT.glob("deploy/*/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
NOT_OURS = {"build", "__pycache__", "node_modules"}
# What is made by a command, or by the reader of the page that tells how.
MADE = ("build", ".tools", "colour_svc", "protos/lensmesh/colour")
PATH = re.compile(
    r"(lensmesh_\w+|\w+_svc|bench|deploy|docs|gen|protos|tests)/[\w./*-]*|[\w./-]*\w(/|\.(py|sh|proto|lock))"
)
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def quoted(page: Path) -> Iterator[str]:
    """Yield what stands in backticks on a page, without its blocks of code."""
    yield from re.findall(r"`([^`\n]+)`", CODE_BLOCK.sub("", page.read_text(encoding="utf-8")))


def files_and_folders() -> set[str]:
    """Return every path of the project, and each end of one: pages say `rpc/status.py` where the package is clear."""
    ends = set[str]()
    for top in ROOT.iterdir():
        if top.name.startswith(".") or top.name in NOT_OURS:
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not NOT_OURS & {*parts}:
                ends |= {"/".join(parts[i:j]) for j in range(1, len(parts) + 1) for i in range(j)}
    return ends


def test_paths_that_pages_name_exist() -> None:
    ends = files_and_folders()
    named = [(page, text) for page in PAGES for text in quoted(page) if PATH.fullmatch(text)]
    assert len(named) > 100
    wrong = [
        f"{page.relative_to(ROOT)}: {text}"
        for page, text in named
        if (path := text.rstrip("/")) not in ends
        and not f"{path}/".startswith(tuple(f"{made}/" for made in MADE))
        and not ("*" in path and any(fnmatchcase(end, path) for end in ends))
    ]
    assert not wrong


def test_modules_that_pages_name_exist() -> None:
    ends = files_and_folders()
    ours = "|".join([*ALLOWED, "bench", "docs"])
    named = [
        (page, name)
        for page in PAGES
        for text in quoted(page)
        for name in re.findall(rf"(?<![\w./-])((?:{ours})\.\w+)", text)
        if not name.endswith(".md")
    ]
    assert len(named) > 20
    paths = [(page, name, name.replace(".", "/")) for page, name in named]
    assert not [f"{page.name}: {name}" for page, name, path in paths if path not in ends and f"{path}.py" not in ends]


def test_classes_and_messages_that_pages_name_exist() -> None:
    known = contract_names() | set(error_details_pb2.DESCRIPTOR.message_types_by_name)
    known |= {service.name for service in contract.services()}
    known |= {method.name for service in contract.services() for method in service.methods}
    for package in ALLOWED:
        for _, tree in modules(package):
            known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md", ROOT / "docs/glossary.md"]
    named = {
        name for page in pages for text in quoted(page) for name in re.findall(r"^([A-Z]\w*[a-z]\w*)(?=\.|$)", text)
    }
    assert len(named) > 30
    assert not named - known - {"Dockerfile"}


def test_settings_that_pages_name_exist() -> None:
    told = settings_page()
    of_all, of_each = told.split("## All services")[1].split("\n## ", 1)
    shared = set(re.findall(r"`LENSMESH_ROUTER_(\w+)`", of_all))
    own = set(re.findall(r"`(LENSMESH_\w+)`", of_each))
    named = [
        (page, service, name)
        for page in PAGES
        for service, name in re.findall(
            r"`LENSMESH_(ROUTER|ENCODER|CAPTION|SEARCH)_([A-Z_]*[A-Z])\b", page.read_text(encoding="utf-8")
        )
    ]
    assert len(named) > 20
    assert not [
        f"{page.name}: LENSMESH_{service}_{name}"
        for page, service, name in named
        if name not in shared and f"LENSMESH_{service}_{name}" not in own
    ]


def heading_anchors(page: Path) -> set[str]:
    """Return what a link to a heading of this page ends with."""
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    words = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}


def test_headings_that_pages_link_to_exist() -> None:
    links = [
        (page, (page.parent / path if path else page), anchor)
        for page in PAGES
        for path, anchor in re.findall(r"\]\(((?:[^)#:]+\.md)?)#([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 10
    assert not [f"{page.name}: #{anchor}" for page, target, anchor in links if anchor not in heading_anchors(target)]
