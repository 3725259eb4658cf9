"""All addresses of other systems. docs/compatible.md maps each to the one that new clients take."""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from http_svc.compat.feature_router import FeatureRouter
from http_svc.compat.immich import immich_routes
from http_svc.compat.models import ServedModels
from http_svc.compat.openai import openai_routes
from http_svc.compat.vision_encoder import VisionEncoder
from http_svc.mesh import Mesh
from http_svc.rest.known import MeshKnowledge
from http_svc.settings import HttpSettings


def compat_routes(settings: HttpSettings, mesh: Mesh) -> Sequence[BaseRoute]:
    """Return the routes, of all systems together: no two of them have an address in common."""
    known = MeshKnowledge(mesh)
    models = ServedModels(settings, mesh, known)
    return [
        *immich_routes(settings, models),
        *openai_routes(settings, models),
        *VisionEncoder(settings, mesh, models).routes(),
        *FeatureRouter(settings, mesh, known).routes(),
    ]
