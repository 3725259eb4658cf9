"""Images that the mesh keeps, as the client reads them."""

from __future__ import annotations

import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_client import Client, ImageForm, InvalidInput, KeptImage, NotFound
from tests.client.fake_router import FakeRouter


async def test_an_image_is_read_by_its_digest_in_either_form(client: Client, router: FakeRouter) -> None:
    digest = bytes(range(32))
    assert await client.image(digest.hex()) == KeptImage(digest[:4], "image/webp")
    assert await client.image(digest, form=ImageForm.ORIGINAL) == KeptImage(digest[:4], "image/png")
    assert await client.image(memoryview(digest), form="original") == KeptImage(digest[:4], "image/png")
    asked = [call for call in router.calls if isinstance(call, router_pb2.GetImageRequest)]
    assert {call.content_digest for call in asked} == {digest}


@pytest.mark.parametrize("digest", ["no digest", "abc", 7, None])
async def test_what_is_no_digest_is_refused_before_it_is_sent(
    client: Client, router: FakeRouter, digest: object
) -> None:
    with pytest.raises(InvalidInput, match="content_digest") as refused:
        await client.image(digest)  # type: ignore[arg-type]  # that is the point
    assert refused.value.reason is Reason.DIGEST_INVALID
    assert not router.calls


async def test_an_unknown_form_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="thumbnail, original"):
        await client.image("ab" * 32, form="poster")


async def test_a_guessed_digest_is_not_found(client: Client, router: FakeRouter) -> None:
    router.error = NotFound(Reason.MEDIA_NOT_FOUND, "no image of that content is kept")
    with pytest.raises(NotFound) as refused:
        await client.image("ab" * 32)
    assert refused.value.reason is Reason.MEDIA_NOT_FOUND


async def test_the_status_tells_what_is_kept(client: Client) -> None:
    media = (await client.status()).media
    assert (media.thumbnails, media.originals, media.thumbnail_px, media.trouble) == (False, False, 0, "")
