"""Reference pages say what the code does."""

import re
from pathlib import Path

from docs.generate import settings_page
from lensmesh_chassis.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_documented() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), "run `make docs`"


def test_every_error_reason_is_documented_and_none_is_invented() -> None:
    table = (ROOT / "protos" / "README.md").read_text().split("## Errors")[1]
    documented = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)
    assert sorted(documented) == sorted(reason.value for reason in Reason)


def test_links_between_pages_lead_somewhere() -> None:
    ours = [path for path in ROOT.iterdir() if path.name not in {".venv", ".tools", "build"}]
    pages = [page for path in ours for page in ([path] if path.suffix == ".md" else path.rglob("*.md"))]
    pages = [page for page in pages if "node_modules" not in page.parts]
    assert pages
    broken = [
        f"{page.relative_to(ROOT)} -> {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert not broken


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), ROOT / "protos" / "README.md"]
    named = {name for page in pages for name in re.findall(r"`make ([a-z][a-z-]*)", page.read_text())}
    assert named
    assert named <= targets
