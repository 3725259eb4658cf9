"""Readers of request fields that several services share: images, priorities and policies."""

from typing import Final, Protocol

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

# Protobuf lists them anew each time that it is asked.
_POLICIES: Final = frozenset(common_pb2.TransparencyPolicy.values())


class Fetching(Protocol):
    """Whatever fetches images by address: a `Fetcher`, or its account of one call or stream (`Fetches`)."""

    async def fetch(self, uri: str, field: str, /) -> bytes:
        """Do as `Fetches.fetch` does."""


async def image_content(image: common_pb2.Image, field: str, fetcher: Fetching) -> bytes:
    """Return the encoded bytes of an image, fetched if it is given by address.

    `field` is the image's dotted path in the request ("images[3]"). Raises InvalidInput with reason IMAGE_MISSING where
    neither source is set, and what `Fetcher.fetch` raises. Whether the bytes are an image, only the decoder checks.
    """
    match image.WhichOneof("source"):
        case "content":
            return image.content
        case "uri":
            return await fetcher.fetch(image.uri, f"{field}.uri")
        case _:
            raise InvalidInput(
                Reason.IMAGE_MISSING, f"{field} has no image: set {field}.content to the bytes of a file", field=field
            )


def wants_bulk(priority: common_pb2.Priority.ValueType, *, streamed: bool, field: str = "options.priority") -> bool:
    """Tell whether items go to the bulk lane. An unspecified priority means so where requests are streamed.

    Raises InvalidInput with reason OPTION_INVALID for a number that the contract does not know.
    """
    match priority:
        case common_pb2.PRIORITY_UNSPECIFIED:
            return streamed
        case common_pb2.PRIORITY_INTERACTIVE:
            return False
        case common_pb2.PRIORITY_BULK:
            return True
        case _:
            raise InvalidInput(
                Reason.OPTION_INVALID,
                f"{field} is {priority}: use PRIORITY_INTERACTIVE, PRIORITY_BULK or leave it out",
                field=field,
                metadata={"value": priority},
            )


def check_transparency(policy: common_pb2.TransparencyPolicy.ValueType, *, field: str = "options.transparency") -> None:
    """Raise InvalidInput with reason OPTION_INVALID for a number that the contract does not know."""
    if policy not in _POLICIES:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{field} is {policy}: use TRANSPARENCY_POLICY_DROP, TRANSPARENCY_POLICY_WHITE or leave it out",
            field=field,
            metadata={"value": policy},
        )
