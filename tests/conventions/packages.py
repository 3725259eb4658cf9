"""The packages, what each may import, their modules, and the names of the contracts."""

import ast
from collections.abc import Iterator
from pathlib import Path

from lensmesh_chassis import contract

ROOT = Path(__file__).resolve().parents[2]


SERVICES = {"encoder_svc", "caption_svc", "search_svc", "router_svc", "http_svc"}


# What each package may import of this project, besides itself. `lensmesh` is the generated code.
ALLOWED = {
    "lensmesh_chassis": {"lensmesh"},
    "lensmesh_inference": {"lensmesh_chassis"},
    "lensmesh_serving": {"lensmesh", "lensmesh_chassis", "lensmesh_inference"},
    "encoder_svc": {"lensmesh", "lensmesh_chassis", "lensmesh_inference", "lensmesh_serving", "lensmesh_shapes"},
    "caption_svc": {"lensmesh", "lensmesh_chassis", "lensmesh_inference", "lensmesh_serving", "lensmesh_shapes"},
    "search_svc": {"lensmesh", "lensmesh_chassis"},
    "router_svc": {"lensmesh", "lensmesh_chassis"},
    "http_svc": {"lensmesh", "lensmesh_chassis", "lensmesh_client"},
    "lensmesh_client": {"lensmesh", "lensmesh_chassis"},
    "lensmesh_local": {"lensmesh", "lensmesh_chassis"},
    "lensmesh_cli": {"lensmesh", "lensmesh_chassis", "lensmesh_client", "lensmesh_local", "lensmesh_shapes"},
    "lensmesh_shapes": set[str](),
}


OURS = set(ALLOWED) | {"lensmesh"}


def modules(package: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every module of one package, parsed."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def contract_names() -> set[str]:
    """Return the names of the contracts' messages and enums: they mean the same wherever they stand."""
    files = {service.file for service in contract.services()}
    files |= {needed for file in files for needed in file.dependencies if needed.package.startswith("lensmesh.")}
    return {name for file in files for name in (*file.message_types_by_name, *file.enum_types_by_name)}
