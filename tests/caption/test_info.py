"""GetInfo tells all that the contract promises."""

from typing import Any

import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.conftest import Serve


async def test_info_is_complete(serve: Serve, tiny_folder: Any) -> None:
    client = await serve(model=f"{tiny_folder},shapes,mock", device="auto", instance="replica-7")
    info = await client.stub.GetInfo(caption_pb2.GetInfoRequest())
    real, shapes, mock = info.models
    assert [model.name for model in info.models] == [str(tiny_folder), "shapes", "mock"]
    assert real.kind == common_pb2.MODEL_KIND_LOCAL
    assert shapes.kind == common_pb2.MODEL_KIND_DEMONSTRATION
    assert mock.kind == common_pb2.MODEL_KIND_MOCK
    for model in info.models:
        assert len(bytes.fromhex(model.weights_digest)) == 32
        assert model.devices[0].id
        assert model.devices[0].name
        assert model.devices[0].memory_total_bytes > model.devices[0].memory_used_bytes > 0
        assert model.HasField("canary_age")
        assert model.canary_age.ToTimedelta().total_seconds() >= 0
    for model in (real, shapes):
        assert model.requested_device == "auto"
        assert model.backend == "torch"
        assert model.precision in {"float32", "bfloat16"}
        assert model.parity_cosine == pytest.approx(1, abs=1e-2)
        assert model.devices[0].threads >= 1
    assert mock.backend == "mock"
    assert not mock.HasField("parity_cosine")
    assert info.limits == common_pb2.Limits(
        max_message_bytes=32 * 1024 * 1024,
        max_items=64,
        max_image_bytes=20 * 1024 * 1024,
        max_image_pixels=50_000_000,
        max_image_side_ratio=200,
        max_text_chars=10_000,
        max_caption_tokens=100,
    )
    assert info.server.instance == "replica-7"
    assert info.server.memory_bytes > 0
    assert not info.server.not_serving_reason
