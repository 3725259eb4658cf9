"""All addresses of Arthur image recognition."""

import asyncio

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from http_svc.compat.arthur import Arthur
from http_svc.compat.arthur_items import ArthurContext
from http_svc.compat.arthur_v2 import ArthurV2
from http_svc.compat.index_progress import IndexProgress
from http_svc.mesh import Mesh
from http_svc.settings import HttpSettings


def arthur_routes(
    settings: HttpSettings, mesh: Mesh, registry: CollectorRegistry, draining: asyncio.Event
) -> list[BaseRoute]:
    """Return the routes.

    Args:
        settings: Where the collection is named.
        mesh: What answers.
        registry: The metrics that `/api/v1/metrics` shows.
        draining: Set once the process goes away.
    """
    context = ArthurContext(settings, mesh)
    return [
        *Arthur(context).routes(),
        *ArthurV2(context, registry).routes(),
        *IndexProgress(context, draining).routes(),
    ]
