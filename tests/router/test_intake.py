"""The images of one message are digested together, in one thread, and for nobody else once their stream is left."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope
from router_svc.ingest import items
from router_svc.ingest.items import INLINE_BYTES, Intake
from tests.support.waiting import until

LARGE = INLINE_BYTES // 3


class Hashing(Executor):
    """One thread, and a count of what it was given."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.handed_over = 0
        self.done: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        self.handed_over += 1
        self.done.append(self._thread.submit(fn, *args, **more))
        return self.done[-1]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def hashing() -> Iterator[Hashing]:
    one = Hashing()
    yield one
    one.shutdown()


def message(*contents: bytes) -> list[router_pb2.IngestItem]:
    return [router_pb2.IngestItem(image=common_pb2.Image(content=content)) for content in contents]


def intake(hashing: Hashing, most: int = 1 << 20) -> Intake:
    nobody: Any = None
    return Intake(most, hashing, nobody, CallScope())


async def test_a_message_is_handed_over_once_and_each_image_has_its_own_answer(hashing: Hashing) -> None:
    contents = [bytes([number]) * LARGE for number in range(5)]
    read = await intake(hashing).read(message(contents[0], b"", *contents[1:], bytes(2 << 20)))
    assert hashing.handed_over == 1
    assert [one.wanted.digest for one in read if one.wanted] == [hashlib.sha256(each).digest() for each in contents]
    reasons = [one.error.reason for one in (read[1], read[-1]) if isinstance(one.error, InvalidInput)]
    assert reasons == [Reason.IMAGE_EMPTY, Reason.IMAGE_TOO_LARGE]


async def test_a_small_message_needs_no_thread(hashing: Hashing) -> None:
    read = await intake(hashing).read(message(b"one", b"two"))
    assert hashing.handed_over == 0
    assert [one.wanted is not None for one in read] == [True, True]


async def test_a_thread_looks_at_no_further_image_of_a_stream_that_was_left(
    hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, looked_at = threading.Event(), threading.Event(), []

    class Digest:
        """As hashlib: it is held at its first image."""

        @staticmethod
        def sha256(content: bytes) -> Any:
            looked_at.append(content[0])
            begun.set()
            go_on.wait(30)
            return hashlib.sha256(content)

    monkeypatch.setattr(items, "hashlib", Digest)
    reading = asyncio.create_task(intake(hashing).read(message(*(bytes([number]) * LARGE for number in range(5)))))
    await until(begun.is_set, "the thread is in the first image")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    await until(hashing.done[0].done, "the thread is free")
    assert looked_at == [0]
