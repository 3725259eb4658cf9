"""The REST face: all of its operations, and their routes."""

from http_svc.mesh import Mesh
from http_svc.rest.context import RestContext
from http_svc.rest.images import image_operations
from http_svc.rest.known import MeshKnowledge
from http_svc.rest.media import media_operations
from http_svc.rest.operations import RawPathRoute, RestOperation, routes_of
from http_svc.rest.search import search_operations
from http_svc.settings import HttpSettings


def rest_operations(settings: HttpSettings, mesh: Mesh) -> list[RestOperation]:
    """Return all operations, in the order of the document."""
    context = RestContext(settings, mesh, MeshKnowledge(mesh))
    return [
        *search_operations(context),
        *image_operations(context),
        *media_operations(context),
    ]


def rest_routes(settings: HttpSettings, mesh: Mesh) -> list[RawPathRoute]:
    """Return the routes of all operations."""
    return routes_of(rest_operations(settings, mesh))
