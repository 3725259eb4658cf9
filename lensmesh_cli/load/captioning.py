"""Measured calls of CaptionerService: one image or a batch of them."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh_cli.load.encoding import errors_of, reason_of, steps_of
from lensmesh_cli.load.loops import Call, LoadAnswer


def calls(
    stub: caption_pb2_grpc.CaptionerServiceAsyncStub,
    supply: Iterator[bytes],
    *,
    batch: int = 1,
    max_tokens: int = 0,
    timeout_s: float = 600.0,
) -> Call:
    """Return a function that makes one call of `batch` images, as bulk work. Errors are part of its answer.

    `max_tokens` 0 means the service's default.
    """
    options = caption_pb2.CaptionOptions(max_tokens=max_tokens, priority=common_pb2.PRIORITY_BULK)

    async def call() -> LoadAnswer:
        images = [common_pb2.Image(content=next(supply)) for _ in range(batch)]
        request = caption_pb2.CaptionImagesRequest(images=images, options=options)
        try:
            results = (await stub.CaptionImages(request, timeout=timeout_s)).results
        except grpc.RpcError as error:
            return LoadAnswer(batch, (reason_of(error),) * batch)
        return LoadAnswer(batch, errors_of(results), steps_of(results))

    return call
