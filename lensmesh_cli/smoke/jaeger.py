"""The trace of a run, read from Jaeger's query API."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from lensmesh_cli.smoke.mesh import SmokeMesh
from lensmesh_cli.smoke.report import Broken

# Services send their spans every five seconds by default; collectors gather for some more.
PATIENCE_S = 60.0
PAUSE_S = 0.5
ASK_S = 10.0


async def trace(mesh: SmokeMesh) -> str:
    """Find spans of every service that took part in the ingest. Wait for those that have not arrived yet."""
    base = mesh.options.jaeger.rstrip("/")
    wanted = {f"lensmesh-{kind}" for kind in ("router", *mesh.services)}
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        spans = await asyncio.to_thread(_spans, base, mesh.trace_id)
        missing = wanted - set(spans)
        if not missing:
            return f"{len(spans)} spans of {len(wanted)} services: {base}/trace/{mesh.trace_id}"
        if asyncio.get_running_loop().time() > end:
            raise Broken(f"trace {mesh.trace_id} has no spans of {', '.join(sorted(missing))}")
        await asyncio.sleep(PAUSE_S)


def _spans(base: str, trace_id: str) -> list[str]:
    """Return the service of each span. The list is empty while Jaeger does not know the trace."""
    if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
        raise Broken(f"{base} is no address", "--jaeger: http://HOST:PORT of the query API, 16686 by default")
    try:
        with urllib.request.urlopen(f"{base}/api/traces/{trace_id}", timeout=ASK_S) as answer:
            content: Any = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise Broken(f"Jaeger at {base} answers {error.code}", "--jaeger, and Jaeger's log") from None
    except (OSError, ValueError) as error:
        raise Broken(f"Jaeger at {base} does not answer: {error}", "--jaeger, and whether Jaeger runs") from None
    return [
        one["processes"][span["processID"]]["serviceName"]
        for one in content.get("data") or []
        for span in one.get("spans", [])
    ]
