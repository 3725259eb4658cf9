"""An item's time as spans: queue, forward, and the batch it rode in; nothing where nobody records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, InvalidInput
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, ItemOutput, Lane
from lensmesh_inference.batching.tracing import begin_item
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit
from tests.inference.batching.doubler import Doubler, hold, started
from tests.support.spans_kept import Traced, id_of, links_of, named, parent_of
from tests.support.waiting import until


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    one = Traced()
    spans.current_tracer.set(one.provider.get_tracer("test"))
    yield one
    one.provider.shutdown()


async def call(
    traced: Traced,
    batcher: Batcher[int, int],
    items: list[int],
    *,
    lane: Lane = Lane.BULK,
    deadline: float | None = None,
) -> list[ItemOutput[int] | BaseException]:
    """As a service answers a call: a server span, and in it an item span for each item."""
    spans.current_tracer.set(traced.provider.get_tracer("test"))

    async def one(index: int, item: int) -> ItemOutput[int]:
        span = begin_item({spans.ITEM_INDEX: index})
        try:
            return await submit(batcher, item, lane=Lane.BULK, size_bytes=1, deadline=deadline, span=span)
        except BaseException as error:
            span.fail(error)
            raise
        finally:
            span.end()

    with traced.provider.get_tracer("test").start_as_current_span("server"):
        return await asyncio.gather(*(one(*pair) for pair in enumerate(items)), return_exceptions=True)


def item(all_spans: list[ReadableSpan], index: int, server: int | None = None) -> ReadableSpan:
    """The span of one item."""
    [found] = [
        span
        for span in named(all_spans, "item")
        if (span.attributes or {})["lensmesh.item.index"] == index and server in (None, parent_of(span))
    ]
    return found


def below(all_spans: list[ReadableSpan], parent: ReadableSpan) -> list[str]:
    """Names of the children, in the order of their begin."""
    children = [span for span in all_spans if parent_of(span) == id_of(parent)]
    return [span.name for span in sorted(children, key=lambda span: span.start_time or 0)]


async def test_an_item_leads_to_its_batch_and_back(traced: Traced) -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        answers = asyncio.create_task(call(traced, batcher, [1, 2, 3]))
        await until(lambda: batcher.queued_items == 3)
        model.free.set()
        await first
        assert [answer.value for answer in await answers if isinstance(answer, ItemOutput)] == [2, 4, 6]
    kept = await traced.spans(11)
    [server], [batch] = named(kept, "server"), named(kept, "batch")
    items = [item(kept, index) for index in range(3)]
    assert parent_of(batch) == id_of(server)
    assert dict(batch.attributes or {}) == {"lensmesh.model": "doubler", "lensmesh.batch.size": 3}
    assert links_of(batch) == {id_of(one) for one in items}
    for one in items:
        assert parent_of(one) == id_of(server)
        assert links_of(one) == {id_of(batch)}
        assert below(kept, one) == ["queue", "forward"]
    for forward in named(kept, "forward"):
        assert links_of(forward) == {id_of(batch)}
    assert {(span.attributes or {})["lensmesh.lane"] for span in named(kept, "queue")} == {"bulk"}
    assert all(span.status.status_code is StatusCode.UNSET for span in kept)


async def test_a_batch_of_two_calls_is_linked_to_the_items_of_both(traced: Traced) -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        calls = [asyncio.create_task(call(traced, batcher, [number])) for number in (1, 2)]
        await until(lambda: batcher.queued_items == 2)
        model.free.set()
        await asyncio.gather(first, *calls)
    kept = await traced.spans(9)
    [batch] = named(kept, "batch")
    servers = named(kept, "server")
    assert parent_of(batch) in {id_of(server) for server in servers}
    assert links_of(batch) == {id_of(one) for one in named(kept, "item")}
    assert len({span.context.trace_id for span in kept if span.context}) == 2


async def test_what_breaks_the_model_is_found_in_ever_smaller_batches(traced: Traced) -> None:
    model = Doubler()
    model.poison = {3}
    async with started(model) as batcher:
        first = await hold(model, batcher)
        answers = asyncio.create_task(call(traced, batcher, [1, 2, 3, 4]))
        await until(lambda: batcher.queued_items == 4)
        model.free.set()
        await first
        results = await answers
    assert isinstance(results[2], InternalFault)
    kept = await traced.spans(1 + 4 + 5 + 4 + 4 + 4 + 2)
    [whole], halves, ones = (
        [span for span in named(kept, "batch") if (span.attributes or {})["lensmesh.batch.size"] == size]
        for size in (4, 2, 1)
    )
    assert {parent_of(half) for half in halves} == {id_of(whole)}
    bad_half = next(half for half in halves if half.status.status_code is StatusCode.ERROR)
    assert {parent_of(one) for one in ones} == {id_of(bad_half)}
    [bad] = [one for one in ones if one.status.status_code is StatusCode.ERROR]
    poisoned = item(kept, 2)
    assert links_of(poisoned) == {id_of(whole), id_of(bad_half), id_of(bad)}
    assert links_of(item(kept, 0)) == {id_of(whole), id_of(next(half for half in halves if half is not bad_half))}
    assert below(kept, poisoned) == ["queue", "forward", "forward", "forward"]
    assert poisoned.status.status_code is StatusCode.ERROR
    assert item(kept, 0).status.status_code is StatusCode.UNSET
    # Each failure is told where the model failed, without its words, and nowhere again.
    told = [span for span in kept if span.events]
    assert {id_of(span) for span in told} == {id_of(whole), id_of(bad_half), id_of(bad)}
    assert all(len(span.events) == 1 for span in told)
    assert {span.status.description for span in told} == {"ValueError"}
    assert not [span for span in told if "exception.message" in (span.events[0].attributes or {})]


async def test_an_item_that_the_model_refuses(traced: Traced) -> None:
    model = Doubler()
    model.bad = {1}
    async with started(model) as batcher:
        [error] = await call(traced, batcher, [1])
    assert isinstance(error, InvalidInput)
    kept = await traced.spans(5)
    assert [span.name for span in kept if span.events] == ["forward"]
    assert item(kept, 0).status.description == "OPTION_INVALID: bad"


async def test_an_item_whose_time_is_up_in_the_queue(traced: Traced) -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        late = asyncio.create_task(call(traced, batcher, [1], deadline=asyncio.get_running_loop().time()))
        await until(lambda: batcher.queued_items == 1)
        model.free.set()
        await first
        [error] = await late
    assert isinstance(error, DeadlineExceeded)
    kept = await traced.spans(3)
    assert below(kept, item(kept, 0)) == ["queue"]
    assert [span.name for span in kept if span.events] == ["queue"]


async def test_an_item_whose_caller_leaves(traced: Traced) -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        leaving = asyncio.create_task(call(traced, batcher, [1]))
        await until(lambda: batcher.queued_items == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        model.free.set()
        await first
    kept = await traced.spans(3)
    for name in ("queue", "item"):
        [span] = named(kept, name)
        assert span.status.description == "CANCELLED"
        assert not span.events
    assert not named(kept, "batch")


async def test_nothing_is_made_for_what_nobody_records() -> None:
    model, unsampled = Doubler(), Traced(ALWAYS_OFF)
    async with started(model) as batcher:
        assert [answer.value for answer in await call(unsampled, batcher, [1]) if isinstance(answer, ItemOutput)] == [2]
        # And outside of any call, as a canary's question is.
        assert (await submit(batcher, 2, lane=Lane.BULK, size_bytes=1)).value == 4
    assert not unsampled.exporter.get_finished_spans()


async def test_threads_know_which_span_they_work_for(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    def current(_items: object = None) -> list[int]:
        logging.getLogger(__name__).warning("in a thread")
        return [trace.get_current_span().get_span_context().span_id]

    pool = DecodePool(1)
    batcher: Batcher[int, int] = Batcher(
        [current], name="looks", options=BatchingOptions(max_batch=1, max_queue_items=9, max_queue_bytes=99)
    )
    await batcher.start()
    with traced.provider.get_tracer("test").start_as_current_span("server") as server:
        assert await pool.run(current) == [server.get_span_context().span_id]
        answer = await submit(batcher, 1, lane=Lane.BULK, size_bytes=1)
    await batcher.stop()
    await pool.close()
    [batch] = named(await traced.spans(4), "batch")
    assert answer.value == id_of(batch)
