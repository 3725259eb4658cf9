"""GetImage's request, checked."""

from typing import Final

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason

DIGEST_BYTES: Final = 32


def read_request(request: router_pb2.GetImageRequest) -> tuple[bytes, bool]:
    """Return the digest that a request names, and whether it asks for the original. Raises ``InvalidInput``."""
    size = len(request.content_digest)
    if size != DIGEST_BYTES:
        raise InvalidInput(
            Reason.DIGEST_INVALID,
            f"content_digest has {size} bytes: a SHA-256 has {DIGEST_BYTES}; send Item.content_digest as it is",
            field="content_digest",
            metadata={"size_bytes": size},
        )
    if request.form not in router_pb2.ImageForm.values():
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"form is {request.form}: use one of ImageForm's values or leave it out",
            field="form",
            metadata={"value": request.form},
        )
    return request.content_digest, request.form == router_pb2.IMAGE_FORM_ORIGINAL


def not_kept(form: str, setting: str) -> PreconditionFailed:
    """Make the error of a form that this router does not keep; `setting` is what would change that."""
    return PreconditionFailed(
        Reason.MEDIA_NOT_KEPT,
        f"this router keeps no {form}: set {setting} there",
        metadata={"form": form, "setting": setting},
    )
