"""Measured calls of EncoderService: one image or text, a batch of them, or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeAlias

import grpc

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from lensmesh_cli.load.figures import CallSample, ItemTimes
from lensmesh_cli.load.loops import Call, LoadAnswer

Item: TypeAlias = bytes | str
_REUSED = (common_pb2.CACHE_OUTCOME_HIT, common_pb2.CACHE_OUTCOME_COALESCED)


def calls(
    stub: encoder_pb2_grpc.EncoderServiceAsyncStub,
    supply: Iterator[Item],
    *,
    batch: int = 1,
    timeout_s: float = 120.0,
    priority: common_pb2.Priority.ValueType = common_pb2.PRIORITY_UNSPECIFIED,
) -> Call:
    """Return a function that makes one call of `batch` images or texts. Errors are part of its answer, never raised."""
    options = encoder_pb2.EncodeOptions(priority=priority)

    async def call() -> LoadAnswer:
        items = [next(supply) for _ in range(batch)]
        try:
            results = await _encode(stub, items, options, timeout_s)
        except grpc.RpcError as error:
            return LoadAnswer(batch, (reason_of(error),) * batch)
        return LoadAnswer(batch, errors_of(results), steps_of(results))

    return call


async def stream(
    stub: encoder_pb2_grpc.EncoderServiceAsyncStub,
    supply: Iterator[Item],
    *,
    in_flight: int,
    seconds: float,
    per_message: int = 8,
    on_answer: Callable[[CallSample], None] = lambda _: None,
) -> list[CallSample]:
    """Run one stream for `seconds`, with up to `in_flight` unanswered items. It ends when all have their answer.

    A message is sent as soon as there is room for its `per_message` items. Raises grpc.RpcError where the stream itself
    breaks.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    began: dict[str, float] = {}
    samples: list[CallSample] = []
    room = asyncio.Event()
    size = min(per_message, in_flight)

    async def requests() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        sent = 0
        while clock() < end:
            while len(began) > in_flight - size:
                room.clear()
                await room.wait()
            items = []
            for _ in range(size):
                sent += 1
                began[str(sent)] = clock()
                items.append(_stream_item(str(sent), next(supply)))
            yield encoder_pb2.EncodeStreamRequest(items=items)

    async for response in stub.EncodeStream(requests()):
        now = clock()
        for answer in response.results:
            results = [answer.result]
            sample = CallSample(began.pop(answer.ref), now, 1, errors_of(results), steps_of(results))
            samples.append(sample)
            on_answer(sample)
        room.set()
    samples += [CallSample(then, clock(), 1, ("UNANSWERED",)) for then in began.values()]
    return samples


async def _encode(
    stub: encoder_pb2_grpc.EncoderServiceAsyncStub,
    items: Sequence[Item],
    options: encoder_pb2.EncodeOptions,
    timeout_s: float,
) -> Sequence[encoder_pb2.EncodeResult]:
    texts = [item for item in items if isinstance(item, str)]
    if texts:
        request = encoder_pb2.EncodeTextsRequest(texts=texts, options=options)
        return (await stub.EncodeTexts(request, timeout=timeout_s)).results
    images = [common_pb2.Image(content=item) for item in items if isinstance(item, bytes)]
    return (
        await stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images, options=options), timeout=timeout_s)
    ).results


def _stream_item(ref: str, item: Item) -> encoder_pb2.EncodeStreamItem:
    if isinstance(item, str):
        return encoder_pb2.EncodeStreamItem(ref=ref, text=item)
    return encoder_pb2.EncodeStreamItem(ref=ref, image=common_pb2.Image(content=item))


def errors_of(results: Sequence[encoder_pb2.EncodeResult | caption_pb2.CaptionResult]) -> tuple[str, ...]:
    """Return the reasons of the items that failed."""
    return tuple(str(from_status(one.error).reason) for one in results if one.WhichOneof("outcome") == "error")


def steps_of(results: Sequence[encoder_pb2.EncodeResult | caption_pb2.CaptionResult]) -> tuple[ItemTimes, ...]:
    """Return where the time of the good items went."""
    return tuple(
        ItemTimes(
            queue_s=one.timings.queue_us / 1e6,
            decode_s=one.timings.preprocess_us / 1e6,
            forward_s=one.timings.compute_us / 1e6,
            batch=one.timings.batch_size,
            cached=one.timings.cache in _REUSED,
        )
        for one in results
        if one.WhichOneof("outcome") != "error"
    )


def reason_of(error: grpc.RpcError) -> str:
    """Return why a whole call failed: the service's own reason, else gRPC's code."""
    typed = from_rpc_error(error)
    code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
    return code if str(typed.reason) == "UNKNOWN" else str(typed.reason)
