"""Faults that nobody foresaw, thrown for one item in the middle of a call or stream: it fails, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from encoder_svc import service, translate
from encoder_svc.model import EncoderInput, Vector
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.reasons import Reason
from tests.encoder.helpers import HeldModel, failure, image, serving

pytestmark = pytest.mark.both_loops

REQUEST = encoder_pb2.EncodeImagesRequest(images=[image(1), image(2), image(3)])
OUTCOMES = ["embedding", "error", "embedding"]


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, UnicodeError])
@pytest.mark.parametrize("step", ["read", "write"])
async def test_a_fault_fails_its_item_alone(fault: type[Exception], step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_item, write, odd = translate.read_image, translate.read_stream_item, translate.write_result, image(2)
    written = 0

    async def reading(one: Any, *rest: Any) -> Any:
        if one == odd:
            raise fault("secret")
        return await read(one, *rest)

    async def reading_item(item: Any, *rest: Any) -> Any:
        if item.image == odd:
            raise fault("secret")
        return await read_item(item, *rest)

    def writing(*arguments: Any) -> Any:
        nonlocal written
        written += 1
        if written % 3 == 2:
            raise fault("secret")
        return write(*arguments)

    async with serving() as served:
        if step == "read":
            monkeypatch.setattr(service, "read_image", reading)
            monkeypatch.setattr(service, "read_stream_item", reading_item)
        else:
            monkeypatch.setattr(service, "write_result", writing)
        results = list((await served.stub.EncodeImages(REQUEST)).results)
        items = [encoder_pb2.EncodeStreamItem(ref=str(n), image=one) for n, one in enumerate(REQUEST.images)]
        sent = iter([encoder_pb2.EncodeStreamRequest(items=items)])
        streamed = [one async for group in served.stub.EncodeStream(sent) for one in group.results]
    assert sorted(str(one.WhichOneof("outcome")) for one in results) == sorted(OUTCOMES)
    assert sorted(str(one.result.WhichOneof("outcome")) for one in streamed) == sorted(OUTCOMES)
    if step == "read":
        assert [one.WhichOneof("outcome") for one in results] == OUTCOMES
        assert {one.ref for one in streamed if one.result.HasField("error")} == {"1"}
    assert "secret" not in str(results) + str(streamed)


class Odd(HeldModel):
    """A model that answers one number of its own choosing, far inside of a vector."""

    number = 0.0

    def compute(self, batch: Sequence[EncoderInput]) -> Sequence[Vector]:
        vectors = super().compute(batch)
        for vector in vectors:
            vector[300] = self.number
        return vectors


async def test_no_answer_holds_a_number_that_is_not_finite_and_any_other_number_is_one() -> None:
    model = Odd()
    raw = encoder_pb2.EncodeOptions(space_id=model.facts.spaces[1].id)
    request = encoder_pb2.EncodeTextsRequest(texts=["a cat"], options=raw)
    async with serving(model, cache_bytes=0) as served:
        for number in (float("nan"), float("inf"), float("-inf")):
            model.number = number
            [result] = (await served.stub.EncodeTexts(request)).results
            assert failure(result.error).reason is Reason.MODEL_FAILED
        # Its square is too large for a float32.
        model.number = 3e38
        [result] = (await served.stub.EncodeTexts(request)).results
        assert np.frombuffer(result.embedding.data, "<f4")[300] == np.float32(3e38)
