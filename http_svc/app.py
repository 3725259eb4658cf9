"""Wires the front door together."""

from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from http_svc.compat.arthur_routes import arthur_routes
from http_svc.compat.routes import compat_routes
from http_svc.connect.app import ConnectApp
from http_svc.docs_pages import docs_routes
from http_svc.mesh import Mesh
from http_svc.openapi import openapi_document
from http_svc.page import page_routes
from http_svc.probes import probe_routes
from http_svc.rest.face import rest_operations
from http_svc.rest.operations import routes_of
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.server import Runtime

HTTP_SERVICE = "lensmesh.http"
"""The name of the door in grpc.health.v1; it has no contract of its own."""
# Smaller answers gain nothing.
_LEAST_COMPRESSED_BYTES = 1024
_RPC_PREFIX = "/lensmesh."


class HttpApp:
    """The front door. It serves as soon as it runs: it translates, decides nothing and holds nothing."""

    def __init__(self, runtime: Runtime[HttpSettings]) -> None:
        self._runtime = runtime
        self._mesh: Mesh | None = None

    def register(self, server: HttpListeners) -> Sequence[str]:
        """Set what answers requests."""
        runtime = self._runtime
        self._mesh = mesh = Mesh(runtime.settings, runtime.registry, runtime.tracer_provider)
        rpc = ConnectApp(runtime.settings, mesh)
        operations = rest_operations(runtime.settings, mesh)
        routes: list[BaseRoute] = [
            *docs_routes(lambda: openapi_document(operations, rpc.methods)),
            *routes_of(operations),
            *compat_routes(runtime.settings, mesh),
            *arthur_routes(runtime.settings, mesh, runtime.registry, runtime.draining),
            *probe_routes(runtime, mesh),
            *page_routes(),
        ]
        server.answer_with(_compressed(_by_path(rpc, Router(routes, redirect_slashes=False))))
        return (HTTP_SERVICE,)

    async def start(self) -> None:
        """Load nothing: the channel connects when it is first used."""

    async def stop(self) -> None:
        """Close the channel."""
        if self._mesh is not None:
            await self._mesh.close()


def _by_path(rpc: ASGIApp, rest: ASGIApp) -> ASGIApp:
    """Return an application that looks up methods of the contracts by their path, and asks the router for all else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # Starlette then raises for a method that an address does not take, instead of answering in plain text.
            scope["app"] = app
            if scope["path"].startswith(_RPC_PREFIX):
                await rpc(scope, receive, send)
                return
            _refuse_packed(scope)
        await rest(scope, receive, send)

    return app


def _refuse_packed(scope: Scope) -> None:
    """Raise HTTPException (415) for a packed body: read as it is, it would be a broken image or no JSON."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise HTTPException(
                415,
                f"the content encoding is {value[:40].decode('latin-1')!r}: send the body as it is; the addresses of "
                "the contracts (/lensmesh. ...) take gzip",
                headers={"accept-encoding": "identity"},
            )


def _compressed(app: Any) -> ASGIApp:
    return CompressMiddleware(app, minimum_size=_LEAST_COMPRESSED_BYTES, zstd=False, brotli_quality=4, gzip_level=4)
