"""The mesh's models, as other systems ask for them: by a model's name, and with a vector as plain numbers."""

from collections.abc import Sequence

from http_svc.mesh import Mesh
from http_svc.rest.known import MeshKnowledge
from http_svc.rest.values import vector
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import NotFound, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status

_ENCODER = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
ANY = "*"


class ServedModels:
    """Encoders of the mesh, with their answers as lists of numbers."""

    def __init__(self, settings: HttpSettings, mesh: Mesh, known: MeshKnowledge) -> None:
        self._mesh, self._known = mesh, known
        self._others = {_plain(name) for name in settings.model_names.split(",") if name.strip()}

    async def status(self) -> router_pb2.GetStatusResponse:
        """Return what the router tells of the mesh, some seconds old at most."""
        return await self._known.status()

    async def encoder(self) -> router_pb2.ServiceStatus:
        """Return the first encoder that serves: the mesh's default. Raises Unavailable where there is none."""
        status = await self.status()
        for service in status.services:
            if service.name == _ENCODER and service.health == router_pb2.HEALTH_SERVING and service.spaces:
                return service
        raise Unavailable(Reason.ENCODER_UNAVAILABLE, "no encoder of the mesh serves just now: try again")

    async def space(self, model: str) -> common_pb2.VectorSpace:
        """Return the space of a model, by its name in any usual writing; an empty name is the default's.

        Raises:
            NotFound: MODEL_NOT_SERVED, with the names that are.
            Unavailable: No encoder serves.
        """
        default = (await self.encoder()).spaces[0]
        wanted = _plain(model)
        if not wanted or wanted in self._others or ANY in self._others:
            return default
        served = [
            space
            for service in (await self.status()).services
            if service.name == _ENCODER and service.health == router_pb2.HEALTH_SERVING
            for space in service.spaces
        ]
        for space in served:
            if wanted in (_plain(space.model), _plain(space.id)):
                return space
        names = ", ".join(sorted({space.model for space in served}))
        raise NotFound(
            Reason.MODEL_NOT_SERVED,
            f"the model {model[:100]!r} is not served here: ask for {names}, or name it in LENSMESH_HTTP_MODEL_NAMES",
            metadata={"model": model[:200], "served": names},
        )

    async def texts(self, texts: Sequence[str], space: str = "") -> list[list[float]]:
        """Return a vector of each text, as plain numbers. Raises the error of the first text that has none."""
        request = encoder_pb2.EncodeTextsRequest(texts=texts, options=_options(space))
        answer = await self._mesh.call(self._mesh.encoder.EncodeTexts, request)
        return [numbers(result) for result in answer.results]

    async def images(self, images: Sequence[common_pb2.Image], space: str = "") -> list[list[float]]:
        """Return a vector of each image, as plain numbers. Raises the error of the first image that has none."""
        request = encoder_pb2.EncodeImagesRequest(images=images, options=_options(space))
        answer = await self._mesh.call(self._mesh.encoder.EncodeImages, request)
        return [numbers(result) for result in answer.results]


def numbers(result: encoder_pb2.EncodeResult) -> list[float]:
    """Return the vector of a result. Raises its error."""
    if result.WhichOneof("outcome") != "embedding":
        raise from_status(result.error)
    return vector(result.embedding)


def _options(space: str) -> encoder_pb2.EncodeOptions:
    return encoder_pb2.EncodeOptions(
        space_id=space,
        data_type=common_pb2.DATA_TYPE_FLOAT32,
        priority=common_pb2.PRIORITY_INTERACTIVE,
    )


def _plain(name: str) -> str:
    """Return a model's name without what its writings differ in: "ViT-B-32__openai", "ViT-B-32/openai"."""
    return name.strip().lower().replace("__", "/").replace(":", "/").replace("@", "-")
