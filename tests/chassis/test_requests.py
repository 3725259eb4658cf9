"""What a request's image and priority mean, and which ones are refused."""

from typing import cast

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.fetch_settings import FetchPolicy
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import image_content, wants_bulk
from lensmesh_chassis.reasons import Reason

FETCHES_NOTHING = Fetcher(FetchPolicy())


async def test_content_is_handed_out_even_if_empty() -> None:
    assert await image_content(common_pb2.Image(content=b"abc"), "image", FETCHES_NOTHING) == b"abc"
    assert await image_content(common_pb2.Image(content=b""), "image", FETCHES_NOTHING) == b""


@pytest.mark.parametrize(
    ("image", "reason", "field"),
    [
        (common_pb2.Image(), Reason.IMAGE_MISSING, "images[3]"),
        (common_pb2.Image(uri="https://example.com/a.jpg"), Reason.URI_NOT_ALLOWED, "images[3].uri"),
        (common_pb2.Image(uri="file:///etc/passwd"), Reason.URI_NOT_ALLOWED, "images[3].uri"),
    ],
)
async def test_an_image_without_bytes_is_refused(image: common_pb2.Image, reason: Reason, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await image_content(image, "images[3]", FETCHES_NOTHING)
    assert caught.value.reason is reason
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize("streamed", [False, True])
def test_priority(streamed: bool) -> None:
    assert wants_bulk(common_pb2.PRIORITY_UNSPECIFIED, streamed=streamed) is streamed
    assert wants_bulk(common_pb2.PRIORITY_BULK, streamed=streamed)
    assert not wants_bulk(common_pb2.PRIORITY_INTERACTIVE, streamed=streamed)


def test_an_unknown_priority_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        wants_bulk(cast("common_pb2.Priority.ValueType", 99), streamed=False)
    assert caught.value.reason is Reason.OPTION_INVALID
