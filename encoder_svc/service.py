"""EncoderService over an engine: validate, encode, translate."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace

from encoder_svc.engine import EncodeWork, Engine, Item, Job, Text, facts_of
from encoder_svc.settings import EncoderSettings
from encoder_svc.translate import (
    read_data_type,
    read_image,
    read_stream_item,
    read_transparency,
    write_error,
    write_limits,
    write_model,
    write_result,
)
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.errors import InvalidInput, NotBuilt
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import wants_bulk
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Lane, Seat
from lensmesh_inference.batching.tracing import item_span


@dataclass(frozen=True)
class _StreamItem:
    """One item as read, and what holds for its stream."""

    index: int
    """Among all of the stream."""
    item: encoder_pb2.EncodeStreamItem
    field: str
    job: Job
    options: encoder_pb2.EncodeOptions


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """`engine` is called once a call is let in, which the chassis does after the app has started."""

    def __init__(self, runtime: Runtime[EncoderSettings], engine: Callable[[], Engine], fetcher: Fetcher) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._engine = engine
        self._fetcher = fetcher

    async def GetInfo(self, request: encoder_pb2.GetInfoRequest, context: Any) -> encoder_pb2.GetInfoResponse:
        return encoder_pb2.GetInfoResponse(
            models=[write_model(served) for served in self._engine().served],
            limits=write_limits(self._settings),
            server=self._runtime.server_info(),
        )

    async def EncodeImages(
        self, request: encoder_pb2.EncodeImagesRequest, context: Any
    ) -> encoder_pb2.EncodeImagesResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.images), self._settings.max_items, "images")

        job = self._job(request.options, context, streamed=False)
        async with self._fetcher.for_call() as fetches:
            items = await asyncio.gather(
                *(read_image(image, f"images[{index}]", fetches) for index, image in enumerate(request.images)),
                return_exceptions=True,
            )
            return encoder_pb2.EncodeImagesResponse(results=await self._encode_all(items, job, request.options))

    async def EncodeTexts(
        self, request: encoder_pb2.EncodeTextsRequest, context: Any
    ) -> encoder_pb2.EncodeTextsResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.texts), self._settings.max_items, "texts")

        job = self._job(request.options, context, streamed=False)
        items = [Text(text, f"texts[{index}]") for index, text in enumerate(request.texts)]
        return encoder_pb2.EncodeTextsResponse(results=await self._encode_all(items, job, request.options))

    async def EncodeStream(
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeStreamRequest], context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        answers: Any = answer_as_ready(
            self._read_stream(request_iterator, context),
            self._answer,
            size_of=lambda one: one.item.ByteSize(),
            max_items=self._settings.stream_items,
            max_bytes=self._settings.stream_bytes,
            draining=self._runtime.draining,
        )
        async with aclosing(answers):
            async for group in answers:
                yield encoder_pb2.EncodeStreamResponse(results=group)

    async def ClassifyImages(
        self, request: encoder_pb2.ClassifyImagesRequest, context: Any
    ) -> encoder_pb2.ClassifyImagesResponse:
        raise NotBuilt(
            Reason.NOT_IMPLEMENTED,
            "ClassifyImages is not built yet: encode the images and one text a label, and compare the vectors.",
            metadata={"field": "ClassifyImages"},
        )

    def _job(self, options: encoder_pb2.EncodeOptions, context: Any, *, streamed: bool) -> Job:
        """Options fail the call: this raises before anything is decoded."""
        read_data_type(options.data_type)
        lane = Lane.BULK if wants_bulk(options.priority, streamed=streamed) else Lane.INTERACTIVE
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        transparency = read_transparency(options.transparency)
        return self._engine().job(options.space_id, lane, deadline, transparency)

    async def _encode_all(
        self, read: Sequence[Item | BaseException], job: Job, options: encoder_pb2.EncodeOptions
    ) -> list[encoder_pb2.EncodeResult]:
        """Results in the order of the request; an item that could not be read, or is bad, fails alone.

        Refused as a whole where there is no room.
        """
        trace.get_current_span().set_attributes({**job.facts, spans.BATCH_SIZE: len(read)})
        entries = [self._work(item, job) for item in read]
        works = [work for work in entries if not isinstance(work, BaseException)]
        await self._engine().look_up(works, job)
        with self._engine().admit(works, job) as seat:
            pairs = enumerate(zip(read, entries, strict=True))
            jobs = (self._encode(index, item, work, job, options, seat) for index, (item, work) in pairs)
            return await asyncio.gather(*jobs)

    def _work(self, item: Item | BaseException, job: Job) -> EncodeWork | BaseException:
        """What the item asks of the model, or why it cannot be asked."""
        if isinstance(item, BaseException):
            return item
        try:
            return self._engine().work(item, job)
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
            return error

    async def _encode(
        self,
        index: int,
        item: Item | BaseException,
        work: EncodeWork | BaseException,
        job: Job,
        options: encoder_pb2.EncodeOptions,
        seat: Seat | None,
    ) -> encoder_pb2.EncodeResult:
        try:
            with item_span(index, job.facts) as span:
                if not isinstance(item, BaseException):
                    span.set_attributes(facts_of(item))
                if isinstance(work, BaseException):
                    raise work
                return write_result(await self._engine().encode(work, job, seat=seat), options)
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
            return write_error(error)

    async def _read_stream(
        self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest], context: Any
    ) -> AsyncIterator[_StreamItem]:
        options: encoder_pb2.EncodeOptions | None = None
        places = itertools.count()
        async for request in requests:
            check_message(request, self._settings.max_message_bytes)
            if request.items:
                check_items(len(request.items), self._settings.max_items, "items")
            if options is None:
                options = request.options
                job = self._job(options, context, streamed=True)
            elif request.HasField("options"):
                raise InvalidInput(
                    Reason.OPTIONS_REPEATED,
                    "options stand in the first message of a stream only: open another stream for other options.",
                    field="options",
                )
            for index, item in enumerate(request.items):
                yield _StreamItem(next(places), item, f"items[{index}]", job, options)

    async def _answer(self, one: _StreamItem) -> encoder_pb2.EncodeStreamResult:
        try:
            with item_span(one.index, {spans.ITEM_REF: one.item.ref, **one.job.facts}) as span:
                async with self._fetcher.for_call() as fetches:
                    item = await read_stream_item(one.item, one.field, fetches)
                    span.set_attributes(facts_of(item))
                    work = self._engine().work(item, one.job)
                    result = write_result(await self._engine().encode(work, one.job), one.options)
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
            result = write_error(error)
        return encoder_pb2.EncodeStreamResult(ref=one.item.ref, result=result)
