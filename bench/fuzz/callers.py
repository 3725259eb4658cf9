"""The callers of a fuzz run: streams of images, and a bystander who sends other calls meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_client import Client, LensmeshError

Named = tuple[str, bytes]
MESSAGE_ITEMS = 8
MESSAGE_BYTES = 24 * 2**20
ASK_EVERY_S = 0.1


@dataclass
class Answers:
    """The answers to the items of one stream, counted and judged."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Items without exactly one answer, and answers that must not occur."""


async def encode(target: str, items: Sequence[Named], progress: Callable[[int], None]) -> Answers:
    """Send all images through EncodeStream."""
    async with open_channel(target) as channel:

        async def requests() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
            for group in _groups(items):
                yield encoder_pb2.EncodeStreamRequest(
                    items=[
                        encoder_pb2.EncodeStreamItem(ref=str(at), image=common_pb2.Image(content=content))
                        for at, content in group
                    ]
                )

        seen: dict[int, list[str]] = {}
        async for response in encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(requests()):
            for one in response.results:
                error = one.result.error if one.result.WhichOneof("outcome") == "error" else None
                seen.setdefault(int(one.ref), []).append(_reason(error))
            progress(len(response.results))
    return _judged(items, seen)


async def ingest(target: str, items: Sequence[Named], progress: Callable[[int], None]) -> Answers:
    """Send all images through IngestStream, captions and store included."""
    async with open_channel(target) as channel:

        async def requests() -> AsyncIterator[router_pb2.IngestStreamRequest]:
            yield router_pb2.IngestStreamRequest(options=router_pb2.IngestOptions(collection="fuzz"))
            for group in _groups(items):
                yield router_pb2.IngestStreamRequest(
                    items=[
                        router_pb2.IngestItem(ref=str(at), image=common_pb2.Image(content=content))
                        for at, content in group
                    ]
                )

        seen: dict[int, list[str]] = {}
        async for response in router_pb2_grpc.RouterServiceStub(channel).IngestStream(requests()):
            for one in response.results:
                error = one.error if one.WhichOneof("outcome") == "error" else None
                seen.setdefault(int(one.ref), []).append(_reason(error))
            progress(len(response.results))
    return _judged(items, seen)


def _groups(items: Sequence[Named]) -> Iterable[list[tuple[int, bytes]]]:
    group: list[tuple[int, bytes]] = []
    for at, (_, content) in enumerate(items):
        if group and (len(group) == MESSAGE_ITEMS or sum(len(one) for _, one in group) + len(content) > MESSAGE_BYTES):
            yield group
            group = []
        group.append((at, content))
    if group:
        yield group


def _reason(error: status_pb2.Status | None) -> str:
    if error is None:
        return "ok"
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return info.reason or f"code {error.code}"


def _judged(items: Sequence[Named], seen: dict[int, list[str]]) -> Answers:
    answers = Answers()
    for at, (name, _) in enumerate(items):
        reasons = seen.get(at, [])
        answers.outcomes.update(reasons)
        if len(reasons) != 1:
            answers.wrong.append(f"{name}: {len(reasons)} answers {reasons}")
        # An image is right or wrong; that a service failed on it, or went away over it, is neither.
        elif reasons[0] != "ok" and not reasons[0].startswith("IMAGE_"):
            answers.wrong.append(f"{name}: {reasons[0]}")
    return answers


class Bystander:
    """Another caller, who asks for the vector of a short text ten times a second."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.errors: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[list[float]]:
        """Keep asking as long as the context is open. The list holds the seconds of each answer."""
        took: list[float] = []
        task = asyncio.create_task(self._ask(took))
        try:
            yield took
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _ask(self, took: list[float]) -> None:
        async with Client(self._target, timeout_s=120) as client:
            while True:
                began = time.perf_counter()
                try:
                    await client.embed(texts=[f"circle {began}"], priority="interactive")
                except LensmeshError as error:
                    self.errors[str(error.reason)] += 1
                took.append(time.perf_counter() - began)
                await asyncio.sleep(ASK_EVERY_S)
