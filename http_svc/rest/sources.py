"""Images of requests: parts of a multipart body, base64 in JSON, or addresses that the router fetches."""

import binascii
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field
from starlette.requests import Request

from http_svc.json_bodies import parse_json
from http_svc.rest.asked import FORM, JSON, Asked, check_type, fitted, read_json, read_parts
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

MOST_PARTS = 256
"""Images of one request at most, and what comes with them; the router may take fewer."""

M = TypeVar("M", bound=BaseModel)


class ImageSource(Asked):
    """An image: exactly one of its bytes as base64, and an address that the router may fetch."""

    base64: Annotated[str | None, Field(description="The bytes of an image file.")] = None
    url: Annotated[str | None, Field(description="An address that the router may fetch (its setting uri_schemes).")] = (
        None
    )


def image_message(source: ImageSource, field: str) -> common_pb2.Image:
    """Return the message of an image. Raises InvalidInput where it is none, or two."""
    if (source.base64 is None) == (source.url is None):
        raise InvalidInput(
            Reason.IMAGE_MISSING, f"{field or 'an image'} takes exactly one of base64 and url", field=field or "body"
        )
    if source.url is not None:
        return common_pb2.Image(uri=source.url)
    return common_pb2.Image(content=decoded(source.base64 or "", f"{field}.base64" if field else "base64"))


def decoded(text: str, field: str) -> bytes:
    """Return the bytes of base64. Raises InvalidInput for what is none."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(Reason.MESSAGE_MALFORMED, f"{field} is no base64: {error}", field=field) from None


async def read_images(
    request: Request, model: type[M], settings: HttpSettings, part: str = "image"
) -> tuple[M, list[common_pb2.Image]]:
    """Read a body of images and what is asked of them: JSON with `images`, or parts, of which `request` is JSON.

    Return the model, and the images of the parts.
    """
    if check_type(request, JSON, FORM) == JSON:
        return await read_json(request, model, settings), []
    images: list[common_pb2.Image] = []
    asked: M | None = None
    for each in await read_parts(request, settings, MOST_PARTS):
        if each.name == part:
            images.append(common_pb2.Image(content=each.content))
        elif each.name == "request" and asked is None:
            asked = fitted(model, parse_json(each.content, settings.body_values), "request")
        else:
            raise unknown_part(each.name, (part, "request"))
    if not images:
        raise no_file(part)
    return asked if asked is not None else fitted(model, {}, "request"), images


def unknown_part(name: str, known: Sequence[str]) -> InvalidInput:
    """Return the error for a part that is not known, or comes twice."""
    return InvalidInput(
        Reason.OPTION_INVALID,
        f"the part {name[:80]!r} is not known here, or comes twice: {', '.join(known)} are known",
        field=name[:80],
    )


def no_file(part: str) -> InvalidInput:
    """Return the error for a body without the file that it is about."""
    return InvalidInput(
        Reason.IMAGE_MISSING, f"the body has no part {part!r}: send the image as a file under this name", field=part
    )
