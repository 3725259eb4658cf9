"""The context that all operations share: the settings, the router behind them, and what it told."""

from dataclasses import dataclass

from http_svc.mesh import Mesh
from http_svc.rest.known import MeshKnowledge
from http_svc.rest.values import ImageValues
from http_svc.settings import HttpSettings


@dataclass(frozen=True, slots=True)
class RestContext:
    """What an operation works with."""

    settings: HttpSettings
    mesh: Mesh
    known: MeshKnowledge

    async def image_values(self, collection: str) -> ImageValues:
        """Return what makes images of a collection's items; no name means the mesh's default collection."""
        media = await self.known.media()
        return ImageValues(collection or await self.known.collection(""), media)
