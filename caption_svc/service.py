"""CaptionerService: validate, ask the domain, translate."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any

from opentelemetry import trace

from caption_svc.engine import CaptionWork, Described
from caption_svc.options import Order, read_options
from caption_svc.serving import Serving
from caption_svc.settings import CaptionSettings
from caption_svc.translate import caption_message, limits_message, model_message, result_message
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Seat
from lensmesh_inference.batching.tracing import item_span

# One image of a stream: its place there, itself, and its dotted path in its message.
_Item = tuple[int, caption_pb2.CaptionStreamItem, str]


class CaptionerService(caption_pb2_grpc.CaptionerServiceServicer):
    """The contract over the models that `serving` has."""

    def __init__(self, serving: Serving, runtime: Runtime[CaptionSettings], fetcher: Fetcher) -> None:
        self._serving = serving
        self._runtime = runtime
        self._settings = runtime.settings
        self._fetcher = fetcher

    async def GetInfo(self, request: caption_pb2.GetInfoRequest, context: Any) -> caption_pb2.GetInfoResponse:
        return caption_pb2.GetInfoResponse(
            models=[model_message(served) for served in self._serving.served.values()],
            limits=limits_message(self._settings),
            server=self._runtime.server_info(),
        )

    async def CaptionImages(
        self, request: caption_pb2.CaptionImagesRequest, context: Any
    ) -> caption_pb2.CaptionImagesResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.images), self._settings.max_items, "images")
        order = await read_options(request.options, self._serving, self._settings)
        trace.get_current_span().set_attributes({**_facts(order), spans.BATCH_SIZE: len(request.images)})
        async with self._fetcher.for_call() as fetches:
            reads = [
                asyncio.create_task(self._read(image, f"images[{index}]", order, context, fetches))
                for index, image in enumerate(request.images)
            ]
            read = await asyncio.gather(*reads, return_exceptions=True)
            works = [work for work in read if not isinstance(work, BaseException)]
            await order.captioner.look_up(works)
            with order.captioner.admit(works, order.lane) as seat:
                results = await asyncio.gather(
                    *(self._result(index, work, order, seat=seat) for index, work in enumerate(reads))
                )
        return caption_pb2.CaptionImagesResponse(results=results)

    async def CaptionStream(
        self, request_iterator: AsyncIterator[caption_pb2.CaptionStreamRequest], context: Any
    ) -> AsyncIterator[caption_pb2.CaptionStreamResponse]:
        orders: list[Order] = []
        places = itertools.count()

        async def items() -> AsyncIterator[_Item]:
            async for request in request_iterator:
                check_message(request, self._settings.max_message_bytes)
                if not orders:
                    orders.append(await read_options(request.options, self._serving, self._settings, streamed=True))
                elif request.HasField("options"):
                    raise InvalidInput(
                        Reason.OPTIONS_REPEATED,
                        "options stand in a stream's first message only: open another stream for other options",
                        field="options",
                    )
                if request.items:
                    check_items(len(request.items), self._settings.max_items, "items")
                for index, item in enumerate(request.items):
                    yield next(places), item, f"items[{index}].image"

        async def answer(item: _Item) -> caption_pb2.CaptionStreamResult:
            index, message, field = item
            async with self._fetcher.for_call() as fetches:
                read = self._read(message.image, field, orders[0], context, fetches)
                result = await self._result(index, read, orders[0], ref=message.ref)
            return caption_pb2.CaptionStreamResult(ref=message.ref, result=result)

        answers: Any = answer_as_ready(
            items(),
            answer,
            size_of=lambda item: item[1].ByteSize(),
            max_items=self._settings.stream_items,
            max_bytes=self._settings.stream_bytes,
            draining=self._runtime.draining,
        )
        async with aclosing(answers):
            async for group in answers:
                yield caption_pb2.CaptionStreamResponse(results=group)

    async def StreamCaption(
        self, request: caption_pb2.StreamCaptionRequest, context: Any
    ) -> AsyncIterator[caption_pb2.StreamCaptionResponse]:
        check_message(request, self._settings.max_message_bytes)
        order = await read_options(request.options, self._serving, self._settings, most_beams=1)
        trace.get_current_span().set_attributes(_facts(order))
        pieces = order.captioner.describe_by_word(
            await image_content(request.image, "image", self._fetcher),
            order.plan,
            lane=order.lane,
            field="image",
            deadline=_deadline(context),
        )
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Described):
                    whole = caption_message(piece, order.captioner.model.facts.label)
                    yield caption_pb2.StreamCaptionResponse(caption=whole)
                else:
                    yield caption_pb2.StreamCaptionResponse(delta=piece)

    async def _read(
        self, image: common_pb2.Image, field: str, order: Order, context: Any, fetches: Fetching
    ) -> CaptionWork:
        """What one image asks of the model; raises for one without bytes."""
        content = await image_content(image, field, fetches)
        return order.captioner.work(content, order.plan, lane=order.lane, field=field, deadline=_deadline(context))

    async def _result(
        self, index: int, read: Awaitable[CaptionWork], order: Order, *, seat: Seat | None = None, ref: str = ""
    ) -> caption_pb2.CaptionResult:
        """One image's answer, be it its error; without a seat it waits for room."""
        arrived = time.monotonic()
        try:
            with item_span(index, _facts(order) | ({spans.ITEM_REF: ref} if ref else {})) as span:
                work = await read
                span.set_attribute(spans.ITEM_BYTES, len(work.content))
                described = await order.captioner.describe(work, seat=seat)
                return result_message(described, order.captioner.model.facts.label)
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what nobody foresaw
            total_us = int((time.monotonic() - arrived) * 1e6)
            return caption_pb2.CaptionResult(error=to_status(error), timings=common_pb2.Timings(total_us=total_us))


def _facts(order: Order) -> dict[str, str]:
    """What a span tells of it."""
    return {
        spans.MODEL: order.captioner.model.facts.label,
        spans.LANE: order.lane.name.lower(),
        spans.ITEM_KIND: "image",
    }


def _deadline(context: Any) -> float | None:
    """The caller's deadline as a time of the event loop's clock; None where it set none."""
    left = context.time_remaining()
    return None if left is None else asyncio.get_running_loop().time() + left
