"""The front door, asked as `curl` would ask it: readiness, and a search by JSON."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from lensmesh_cli.smoke.mesh import SmokeMesh
from lensmesh_cli.smoke.report import Broken

SEARCH = "/lensmesh.router.v1.RouterService/Search"
NO_DOOR = "--http: give the address of the front door, as HOST:PORT or http://HOST:PORT"


async def door(mesh: SmokeMesh) -> str:
    """Search by HTTP for what this run has ingested."""
    base = mesh.options.http.rstrip("/")
    base = base if "://" in base else f"http://{base}"
    if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
        raise Broken(f"{base} is no address", NO_DOOR)
    await asyncio.to_thread(_asked, mesh, f"{base}/readyz")
    request = {"collection": mesh.collection, "queries": [{"text": "a blue square"}], "limit": 5}
    found = await asyncio.to_thread(_asked, mesh, base + SEARCH, json.dumps(request).encode())
    ids = {hit.get("item", {}).get("id") for hit in found.get("hits", [])}
    if ids != set(mesh.ids):
        raise Broken(f"a search by HTTP finds {len(ids)} of {len(mesh.ids)} items")
    return f"{base} is ready, and finds {len(ids)} images"


def _asked(mesh: SmokeMesh, address: str, body: bytes | None = None) -> dict[str, Any]:
    """Return the JSON of an answer; of a GET where there is no body."""
    context = ssl.create_default_context(cafile=mesh.options.security.ca_file or None)
    if mesh.options.security.certificate_file:
        context.load_cert_chain(mesh.options.security.certificate_file, mesh.options.security.key_file)
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=mesh.options.timeout_s, context=context) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(2000).decode("utf-8", "replace")
        raise Broken(f"{address} answers {error.code}: {said}") from None
    except (OSError, ValueError) as error:
        raise Broken(f"no front door answers at {address}: {error}", NO_DOOR) from None
