"""Encoding of the images of a call: vectors and perceptual hashes, and the digests of their bytes."""

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.rpc.status import from_status
from router_svc.call_scope import CallScope
from router_svc.matching.image_work import ImageWork
from router_svc.matching.local_points import points_of
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.together import together


class ImageEncoding:
    """Makes of images what candidates are looked for by. A bad image keeps its error, and costs no other anything."""

    def __init__(self, encoders: Encoders, hashing: Executor) -> None:
        self._encoders = encoders
        self._hashing = hashing

    async def read(self, images: Sequence[common_pb2.Image], fetches: Fetching) -> list[ImageWork]:
        """Return the images of a request, in order, fetched where they are given by address."""
        work = [ImageWork(index) for index in range(len(images))]
        await together([self._read(one, image, fetches) for one, image in zip(work, images, strict=True)])
        return work

    async def encode(
        self,
        work: Sequence[ImageWork],
        space_id: str,
        priority: common_pb2.Priority.ValueType,
        scope: CallScope,
        *,
        with_points: bool,
    ) -> None:
        """Encode what has no error yet, all of it in one call. Raises what fails the call as a whole."""
        waiting = [one for one in work if one.error is None]
        if not waiting:
            return
        options = encoder_pb2.EncodeOptions(
            data_type=common_pb2.DATA_TYPE_FLOAT32,
            priority=priority,
            space_id=space_id,
            perceptual_hash=True,
            local_features=with_points,
        )
        images = [one.image for one in waiting]
        digesting = asyncio.get_running_loop().run_in_executor(self._hashing, _digests, images)
        scope = scope.at(tuple(one.path for one in waiting))
        results = await self._encoders.images.run(images, options, scope)
        for one, digest, result in zip(waiting, await digesting, results, strict=True):
            one.digest = digest
            one.encoded = result
            if result.HasField("error"):
                one.error = from_status(result.error)
            elif with_points:
                one.points = points_of(result.local_features)
                result.ClearField("local_features")

    @staticmethod
    async def _read(work: ImageWork, image: common_pb2.Image, fetches: Fetching) -> None:
        try:
            if image.HasField("content"):
                work.image = PackedImage.of(image)
            else:
                content = await image_content(image, work.path, fetches)
                work.image = PackedImage.of(common_pb2.Image(content=content))
        except Exception as error:  # noqa: BLE001 - whatever an image breaks, it breaks for itself
            work.error = error


def _digests(images: Sequence[PackedImage]) -> list[bytes]:
    return [hashlib.sha256(image.content).digest() for image in images]
