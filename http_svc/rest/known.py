"""What the router told of the mesh, kept for some seconds: its default collection, its limits, what media it keeps."""

import asyncio
import time
from collections.abc import Mapping

from http_svc.mesh import Mesh
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason

_FRESH_SECONDS = 5.0
# How long a search waits to learn whether there are thumbnails.
_PATIENCE_SECONDS = 1.0
_MOST_SPACES = 256


class MeshKnowledge:
    """Answers of GetStatus and of the encoders' GetInfo. A door that runs asks for them when a request needs them."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._status: router_pb2.GetStatusResponse | None = None
        self._asked = -1e9
        self._asking: asyncio.Task[router_pb2.GetStatusResponse] | None = None
        self._spaces: dict[str, common_pb2.VectorSpace] = {}

    async def status(self) -> router_pb2.GetStatusResponse:
        """Return the mesh's status, some seconds old at most where the router answers. Raises LensmeshError."""
        if self._status is not None:
            if time.monotonic() - self._asked > _FRESH_SECONDS:
                self._ask()
            return self._status
        asking = self._ask()
        # Whoever leaves does not end what others wait for.
        await asyncio.wait({asking})
        return asking.result()

    async def collection(self, name: str) -> str:
        """Return a collection's name; the mesh's default for none. Raises LensmeshError."""
        return name or (await self.status()).default_collection

    async def media(self) -> router_pb2.MediaInfo:
        """Return which media are kept; none where that cannot be learnt in a moment."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return (await self.status()).media
        except (LensmeshError, TimeoutError):
            return router_pb2.MediaInfo()

    async def space(self, space_id: str) -> common_pb2.VectorSpace:
        """Return what a space is. One that no encoder serves has its id alone."""
        if space_id not in self._spaces:
            await self.spaces()
        return self._spaces.get(space_id, common_pb2.VectorSpace(id=space_id))

    async def spaces(self) -> Mapping[str, common_pb2.VectorSpace]:
        """Return the spaces that encoders serve now, by id; the default one first. Raises LensmeshError."""
        info = await self._mesh.call(self._mesh.encoder.GetInfo, encoder_pb2.GetInfoRequest())
        found = {space.id: space for model in info.models for space in model.spaces}
        if len(self._spaces) + len(found) > _MOST_SPACES:
            self._spaces.clear()
        self._spaces.update(found)
        return found

    async def default_space(self) -> common_pb2.VectorSpace:
        """Return the space of the default encoder. Raises PreconditionFailed where there is none."""
        for space in (await self.spaces()).values():
            return space
        raise PreconditionFailed(Reason.SPACE_NOT_SERVED, "no encoder serves a space just now: try again later")

    async def named_space(self, collection: str, name: str) -> common_pb2.VectorSpace:
        """Return the space that a collection names so, its first for no name. Raises LensmeshError."""
        request = search_pb2.GetCollectionRequest(name=await self.collection(collection))
        found = (await self._mesh.call(self._mesh.search.GetCollection, request)).collection
        space: common_pb2.VectorSpace | None = next((s.space for s in found.spaces if not name or s.name == name), None)
        if space is not None:
            return space
        raise PreconditionFailed(
            Reason.SPACE_UNKNOWN,
            f"the collection {found.name} has no space {name[:80]!r}: {', '.join(each.name for each in found.spaces)}",
            field="space",
        )

    def _ask(self) -> "asyncio.Task[router_pb2.GetStatusResponse]":
        if self._asking is None:
            self._asking = asyncio.create_task(self._learn())
            self._asking.add_done_callback(self._learnt)
        return self._asking

    async def _learn(self) -> router_pb2.GetStatusResponse:
        answer: router_pb2.GetStatusResponse = await self._mesh.call(
            self._mesh.router.GetStatus, router_pb2.GetStatusRequest()
        )
        return answer

    def _learnt(self, task: "asyncio.Task[router_pb2.GetStatusResponse]") -> None:
        self._asking = None
        # Whatever came of it: a router that is away is not asked by every request.
        self._asked = time.monotonic()
        if not task.cancelled() and task.exception() is None:
            self._status = task.result()
