"""GetImage's request, checked."""

from typing import Final

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from router_svc.media.forms import KeptForm

DIGEST_BYTES: Final = 32


def read_request(request: router_pb2.GetImageRequest) -> tuple[bytes, KeptForm]:
    """Return the digest and the form that a request asks for. Raises ``InvalidInput``."""
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
    original = request.form == router_pb2.IMAGE_FORM_ORIGINAL
    return request.content_digest, KeptForm.ORIGINAL if original else KeptForm.THUMBNAIL
