"""A model that raises, computes nonsense or finds no memory: its process says so in time, and that it is well again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_inference.canary import AGAIN_S
from tests.faults.helpers import (
    AT_ONCE_S,
    NOT_SERVING,
    SERVING,
    Faulty,
    heard_of,
    image_files,
    router_for,
    started,
    until,
)

FAILS, DIFFERS = "mock fails on its canary", "mock no longer answers as it did at start"
FAULTS = {
    "encoder": {"raise": FAILS, "nan": FAILS, "oom 0": FAILS, "other": DIFFERS},
    "caption": {"raise": FAILS, "oom 0": FAILS, "other": DIFFERS},
}
CANARY_S = 0.5


@pytest.mark.parametrize("kind", ["encoder", "caption"])
async def test_health_follows_the_model_everywhere(kind: str, tmp_path: Path) -> None:
    service = Faulty(kind, tmp_path / kind, CANARY_SECONDS=str(CANARY_S))
    async with started(service), router_for([service]) as router, heard_of(service) as heard:
        first = service.process.pid
        for fault, reason in FAULTS[kind].items():
            await until(lambda: heard[-2:] == [SERVING, SERVING], AT_ONCE_S, "both watches hear that it serves")
            service.fault(fault)
            await until(lambda: service.says(NOT_SERVING), CANARY_S + AT_ONCE_S, f"{fault} is seen by checks")
            await until(lambda: heard[-2:] == [NOT_SERVING, NOT_SERVING], AT_ONCE_S, f"{fault} is heard by watches")
            finds = partial(router.finds, service, router_pb2.HEALTH_NOT_SERVING, reason)
            await until(finds, AT_ONCE_S, f"GetStatus tells of {fault}")
            service.fault("")
            await until(lambda: service.says(SERVING), CANARY_S + AT_ONCE_S, f"it is well again after {fault}")
            await until(lambda: router.finds(service, router_pb2.HEALTH_SERVING), AT_ONCE_S, "GetStatus again")
        assert service.process.pid == first
        # What a broken model raises may quote what it was given: the log has the kind of error, health has neither.
        assert "RuntimeError" in service.log


async def test_an_item_that_fails_has_the_model_asked_at_once(tmp_path: Path) -> None:
    service = Faulty("encoder", tmp_path / "encoder", CANARY_SECONDS="1000000")
    async with started(service), grpc.aio.insecure_channel(service.address, [OWN_CONNECTIONS]) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        for fault in ("raise", "nan"):
            # Of its own, or the answer that the last one got in the end would be found in the cache.
            request = encoder_pb2.EncodeTextsRequest(texts=[f"one {fault}", f"two {fault}"])
            service.fault(fault)
            results = (await stub.EncodeTexts(request)).results
            assert [result.error.code for result in results] == [code_pb2.INTERNAL] * 2
            assert {from_status(result.error).reason for result in results} == {Reason.MODEL_FAILED}
            assert "secret" not in str(results)
            await until(lambda: service.says(NOT_SERVING), AT_ONCE_S, "it is told without waiting for the timer")
            service.fault("")
            await until(lambda: service.says(SERVING), AGAIN_S + AT_ONCE_S, "and so is that it is well again")
            assert all(result.HasField("embedding") for result in (await stub.EncodeTexts(request)).results)


@pytest.mark.parametrize("kind", ["encoder", "caption"])
async def test_little_memory_costs_no_item_and_no_health(kind: str, tmp_path: Path) -> None:
    service = Faulty(kind, tmp_path / kind, CANARY_SECONDS=str(CANARY_S), MAX_BATCH="16")
    contents = [path.read_bytes() for path in image_files(tmp_path / "images", 64)]
    async with (
        started(service),
        heard_of(service) as heard,
        grpc.aio.insecure_channel(service.address, [OWN_CONNECTIONS]) as channel,
    ):
        images = [common_pb2.Image(content=content) for content in contents]
        service.fault("oom 3")
        if kind == "encoder":
            encoders = encoder_pb2_grpc.EncoderServiceStub(channel)
            encoded = (await encoders.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))).results
            assert all(result.HasField("embedding") for result in encoded)
            assert all(result.timings.batch_size <= 3 for result in encoded)
        else:
            captioners = caption_pb2_grpc.CaptionerServiceStub(channel)
            captioned = (await captioners.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))).results
            assert all(result.HasField("caption") for result in captioned)
        assert set(heard) == {SERVING}
