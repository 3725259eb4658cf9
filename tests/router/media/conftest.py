"""Routers that keep images."""

import hashlib
from typing import Any

import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from router_svc.media.forms import KeptForm
from tests.router.conftest import Mesh
from tests.router.fake_models import thumbnail
from tests.router.helpers import error_of
from tests.router.media.fake_store import FakeMediaStore

PX = 64
ORIGINAL = router_pb2.IMAGE_FORM_ORIGINAL


class MediaMesh:
    """A mesh whose router keeps images, and what it is asked about them."""

    def __init__(self, mesh: Mesh, store: FakeMediaStore) -> None:
        self.mesh = mesh
        self.store = store

    async def start(self, **settings: Any) -> "MediaMesh":
        await self.mesh.start(**{"thumbnail_px": PX, **settings})
        return self

    async def image(self, content: bytes, form: Any = 0) -> router_pb2.GetImageResponse:
        digest = hashlib.sha256(content).digest()
        answer: router_pb2.GetImageResponse = await self.mesh.router.GetImage(
            router_pb2.GetImageRequest(content_digest=digest, form=form)
        )
        return answer

    async def refusal(self, content: bytes, form: Any = 0) -> LensmeshError:
        return await error_of(self.image(content, form))

    async def info(self) -> router_pb2.MediaInfo:
        status: router_pb2.GetStatusResponse = await self.mesh.router.GetStatus(router_pb2.GetStatusRequest())
        return status.media

    def counted(self, outcome: str, form: KeptForm = KeptForm.THUMBNAIL) -> float:
        labels = {"form": form, "outcome": outcome}
        return self.mesh.server.runtime.registry.get_sample_value("lensmesh_media_writes_total", labels) or 0

    def waiting_bytes(self) -> float:
        return self.mesh.server.runtime.registry.get_sample_value("lensmesh_media_waiting_bytes") or 0


def key(content: bytes, form: KeptForm = KeptForm.THUMBNAIL) -> str:
    """Where the image of some content lies."""
    return form.key(hashlib.sha256(content).digest())


def small(content: bytes) -> bytes:
    """The thumbnail that the encoder makes of it."""
    return thumbnail(content, PX)


@pytest.fixture
def unstarted_media(unstarted: Mesh) -> MediaMesh:
    """To be changed before it starts."""
    store = unstarted.media_store = FakeMediaStore()
    return MediaMesh(unstarted, store)


@pytest.fixture
async def media(unstarted_media: MediaMesh) -> MediaMesh:
    """One that keeps thumbnails."""
    return await unstarted_media.start()
