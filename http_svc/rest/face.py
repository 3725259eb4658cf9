"""The REST face: all of its operations."""

from http_svc.mesh import Mesh
from http_svc.rest.collections import collection_operations
from http_svc.rest.context import RestContext
from http_svc.rest.images import image_operations
from http_svc.rest.ingest import ingest_operations
from http_svc.rest.jobs import job_operations
from http_svc.rest.known import MeshKnowledge
from http_svc.rest.matching import match_operations
from http_svc.rest.media import media_operations
from http_svc.rest.models import model_operations
from http_svc.rest.operations import RestOperation
from http_svc.rest.search import search_operations
from http_svc.rest.status import status_operations
from http_svc.settings import HttpSettings


def rest_operations(settings: HttpSettings, mesh: Mesh) -> list[RestOperation]:
    """Return all operations, in the order of the document."""
    context = RestContext(settings, mesh, MeshKnowledge(mesh))
    return [
        *collection_operations(context),
        *image_operations(context),
        *ingest_operations(context),
        *media_operations(context),
        *search_operations(context),
        *match_operations(context),
        *model_operations(context),
        *job_operations(context),
        *status_operations(context),
    ]
