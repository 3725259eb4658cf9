"""Images that the mesh keeps, by the digest of their content: thumbnails, and files as they came."""

import re

from starlette.requests import Request
from starlette.responses import Response

from http_svc.rest.context import RestContext
from http_svc.rest.operations import OperationExample, RestOperation
from http_svc.rest.shapes import FailureShape
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason

_DIGEST = re.compile("[0-9a-f]{64}")
# What is stored may be a document with a script in it, whatever its first bytes say.
_HEADERS = {
    "cache-control": "private, max-age=31536000, immutable",
    "content-security-policy": "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
}


class MediaOperations:
    """/v1/thumbnails and /v1/originals."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def thumbnail(self, request: Request) -> Response:
        """Answer a thumbnail."""
        return await self._media(request, request.path_params["digest"], router_pb2.IMAGE_FORM_THUMBNAIL)

    async def original(self, request: Request) -> Response:
        """Answer a file as it came."""
        return await self._media(request, request.path_params["digest"], router_pb2.IMAGE_FORM_ORIGINAL)

    async def _media(self, request: Request, digest: str, form: router_pb2.ImageForm.ValueType) -> Response:
        if not _DIGEST.fullmatch(digest):
            raise NotFound(Reason.MEDIA_NOT_FOUND, "no image of this digest is kept")
        headers = _HEADERS | {"etag": f'"{digest}"'}
        mesh = self._context.mesh
        message = router_pb2.GetImageRequest(content_digest=bytes.fromhex(digest), form=form)
        try:
            kept = await mesh.call(mesh.router.GetImage, message)
        except PreconditionFailed as error:
            # Whoever looks for an address is told that nothing is there.
            raise NotFound(error.reason, error.message) from error
        known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
        if headers["etag"] in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(kept.content, headers=headers, media_type=kept.media_type or "application/octet-stream")


def media_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = MediaOperations(context)
    digest = {"digest": "The image's `content_digest`: 64 hexadecimal digits."}
    return [
        RestOperation(
            "GET",
            "/v1/thumbnails/{digest}.webp",
            "getThumbnail",
            "images",
            "Read a thumbnail",
            own.thumbnail,
            path_parameters=digest,
            answers={200: bytes, 404: FailureShape},
            media_types=("image/webp",),
            examples=(OperationExample("A guessed one", path={"digest": "0" * 64}, status=404),),
        ),
        RestOperation(
            "GET",
            "/v1/originals/{digest}",
            "getOriginal",
            "images",
            "Read an image's file as it came",
            own.original,
            path_parameters=digest,
            answers={200: bytes, 404: FailureShape},
            media_types=("image/*", "application/octet-stream"),
            examples=(OperationExample("A guessed one", path={"digest": "0" * 64}, status=404),),
        ),
    ]
