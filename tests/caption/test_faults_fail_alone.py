"""Faults that nobody foresaw, thrown for one item in the middle of a call or stream: it fails, and no other."""

from typing import Any

import pytest

from caption_svc import service
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.conftest import Serve

OUTCOMES = ["caption", "caption", "error"]


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, UnicodeError])
@pytest.mark.parametrize("step", ["image_content", "write_result"])
async def test_a_fault_fails_its_item_alone(
    serve: Serve, contents: list[bytes], fault: type[Exception], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = getattr(service, step), 0

    def odd(*arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen % 3 == 2:
            raise fault("secret")
        return real(*arguments)

    client = await serve(model="mock")
    monkeypatch.setattr(service, step, odd)
    images = [common_pb2.Image(content=content) for content in contents[:3]]
    results = list((await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))).results)
    items = [caption_pb2.CaptionStreamItem(ref=str(n), image=image) for n, image in enumerate(images)]
    sent = iter([caption_pb2.CaptionStreamRequest(items=items)])
    streamed = [one async for group in client.stub.CaptionStream(sent) for one in group.results]
    assert sorted(str(one.WhichOneof("outcome")) for one in results) == OUTCOMES
    assert sorted(str(one.result.WhichOneof("outcome")) for one in streamed) == OUTCOMES
    assert "secret" not in str(results) + str(streamed)
