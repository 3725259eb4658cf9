"""Packages that a mesh on this machine needs, and how to install those that are missing."""

from __future__ import annotations

import importlib.util

from lensmesh_cli import stores


def check_parts(*, mock: bool, store_url: str = "", sidecars: bool = False) -> str:
    """Say which needed packages are not installed, or that the store URL is unknown. Return "" if nothing is missing.

    An empty store URL means the embedded store.
    """
    if store_url and not stores.packages(store_url):
        return f"the store URL is of no known kind: write {stores.KNOWN}"
    models = ("torch", "open_clip", "transformers")
    needed = [*stores.packages(store_url), "pydantic_settings", "rfc8785", "simplejpeg"]
    if sidecars:
        needed += ["envoy", "cryptography"]
    if not mock:
        needed += models
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    extras = "up,sidecars" if mock and sidecars else "up" if mock else "all"
    hint = "" if mock or set(missing) - set(models) else ", or add --mock"
    return f'{", ".join(missing)} not installed: pip install "lensmesh[{extras}]"{hint}'


def missing_for_http() -> str:
    """Say which packages of the front door are not installed, and how to install them. Return "" if none is missing."""
    needed = (
        "brotli",
        "httptools",
        "orjson",
        "python_multipart",
        "starlette",
        "starlette_compress",
        "uvicorn",
        "websockets",
    )
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f'{", ".join(missing)} not installed: pip install "lensmesh[http]"' if missing else ""
