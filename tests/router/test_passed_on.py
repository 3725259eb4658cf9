"""The other services' contracts, served by a router in front of several of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, Overloaded, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeCaptioner, FakeEncoder, vector
from tests.router.helpers import error_of, fields_of
from tests.support.waiting import until


def images(*contents: bytes) -> list[common_pb2.Image]:
    return [common_pb2.Image(content=content) for content in contents]


@pytest.fixture
async def two(unstarted: Mesh) -> Mesh:
    """Two encoders of one space that take 40 items, and a captioner that takes 16."""
    unstarted.encoders = [FakeEncoder(max_items=40), FakeEncoder(max_items=40)]
    unstarted.captioner = FakeCaptioner(max_items=16)
    return await unstarted.start()


async def test_batches_are_cut_and_joined_in_order(two: Mesh) -> None:
    contents = [f"p{n}".encode() for n in range(200)]
    answer = await two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images(*contents)))
    assert [result.embedding for result in answer.results] == [vector(content, SPACE) for content in contents]
    assert all(encoder.images for encoder in two.encoders)
    assert max(max(encoder.faults.calls) for encoder in two.encoders) <= 40
    told = await two.captioner_service.CaptionImages(caption_pb2.CaptionImagesRequest(images=images(*contents)))
    assert [result.caption.text for result in told.results] == [f"an image of p{n}" for n in range(200)]
    texts = encoder_pb2.EncodeTextsRequest(texts=[f"t{n}" for n in range(100)])
    words = await two.encoder_service.EncodeTexts(texts)
    assert [result.embedding for result in words.results] == [vector(f"t{n}".encode(), SPACE) for n in range(100)]


async def test_a_bad_item_is_named_as_its_caller_counts(two: Mesh) -> None:
    contents = [b"bad" if n == 155 else f"p{n}".encode() for n in range(200)]
    answer = await two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images(*contents)))
    bad = [index for index, result in enumerate(answer.results) if result.HasField("error")]
    assert bad == [155]
    assert fields_of(answer.results[155].error) == ["images[155].content"]
    assert answer.results[155].error.message == "images[155].content is no image"


async def test_a_refused_part_refuses_the_call_by_the_callers_count(two: Mesh) -> None:
    refusal = InvalidInput(Reason.IMAGE_EMPTY, "images[3].content is empty", field="images[3].content")
    two.encoders[0].faults.fail_next = [refusal]
    two.encoders[1].faults.fail_next = [refusal]
    request = encoder_pb2.EncodeImagesRequest(images=images(*[f"p{n}".encode() for n in range(80)]))
    error = await error_of(two.encoder_service.EncodeImages(request))
    assert error.reason is Reason.IMAGE_EMPTY
    assert error.violations[0].field in {"images[3].content", "images[43].content"}


async def test_more_than_the_router_takes_is_refused(two: Mesh) -> None:
    many = images(*[b"p"] * 257)
    for call in (
        two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=many)),
        two.captioner_service.CaptionImages(caption_pb2.CaptionImagesRequest(images=many)),
        two.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"] * 257)),
    ):
        assert (await error_of(call)).reason is Reason.TOO_MANY_ITEMS
    error = await error_of(two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest()))
    assert error.reason is Reason.NO_ITEMS


async def test_a_lost_encoders_part_is_done_by_the_other(two: Mesh) -> None:
    await two.host(two.encoders[0]).kill()
    contents = [f"p{n}".encode() for n in range(200)]
    answer = await two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images(*contents)))
    assert [result.embedding for result in answer.results] == [vector(content, SPACE) for content in contents]


async def test_overload_of_all_is_passed_on(two: Mesh) -> None:
    for encoder in two.encoders:
        encoder.faults.fail_always = Overloaded(Reason.OVERLOADED, "full", retry_after_s=3)
    error = await error_of(two.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"])))
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 3


async def stream_results(two: Mesh, messages: AsyncIterator[Any] | list[Any]) -> dict[str, encoder_pb2.EncodeResult]:
    stream = two.encoder_service.EncodeStream(
        messages if not isinstance(messages, list) else iter(messages), timeout=60
    )
    return {result.ref: result.result async for response in stream for result in response.results}


def stream_message(*refs: str, options: encoder_pb2.EncodeOptions | None = None) -> encoder_pb2.EncodeStreamRequest:
    return encoder_pb2.EncodeStreamRequest(
        options=options,
        items=[
            encoder_pb2.EncodeStreamItem(ref=ref, text=ref)
            if ref.startswith("t")
            else encoder_pb2.EncodeStreamItem(ref=ref, image=common_pb2.Image(content=ref.encode()))
            for ref in refs
        ],
    )


async def test_a_stream_is_spread_over_all_encoders(two: Mesh) -> None:
    for encoder in two.encoders:
        encoder.faults.delay_s = 0.02
    refs = [f"{'t' if n % 3 == 0 else 'p'}{n}" for n in range(300)]
    messages = [stream_message(*refs[start : start + 30]) for start in range(0, 300, 30)]
    results = await stream_results(two, messages)
    assert {ref: result.embedding for ref, result in results.items()} == {
        ref: vector(ref.encode(), SPACE) for ref in refs
    }
    assert all(encoder.images for encoder in two.encoders)
    assert {options.priority for options in two.encoders[0].options} == {common_pb2.PRIORITY_BULK}


async def test_a_streams_bad_items_fail_alone(two: Mesh) -> None:
    message = stream_message("p1", "bad one", "t2")
    message.items.add(ref="nothing")
    results = await stream_results(two, [message])
    assert {ref for ref, result in results.items() if result.HasField("error")} == {"bad one", "nothing"}
    assert fields_of(results["bad one"].error) == ["image.content"]
    assert from_status(results["nothing"].error).reason is Reason.IMAGE_MISSING


async def test_a_stream_survives_the_loss_of_an_encoder(two: Mesh) -> None:
    for encoder in two.encoders:
        encoder.faults.delay_s = 0.05

    async def messages() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        for start in range(0, 400, 20):
            if start == 100:
                await until(lambda: all(encoder.images for encoder in two.encoders), "both work")
                await two.host(two.encoders[0]).kill()
            yield stream_message(*(f"p{n}" for n in range(start, start + 20)))

    results = await stream_results(two, messages())
    assert len(results) == 400
    assert all(result.HasField("embedding") for result in results.values())


async def test_a_stream_names_its_options_once(two: Mesh) -> None:
    options = encoder_pb2.EncodeOptions(space_id=SPACE.id)
    messages = [stream_message("p1", options=options), stream_message("p2", options=options)]
    assert (await error_of(stream_results(two, messages))).reason is Reason.OPTIONS_REPEATED


async def test_an_unknown_space_fails_calls_and_streams(two: Mesh) -> None:
    options = encoder_pb2.EncodeOptions(space_id=OTHER_SPACE.id)
    error = await error_of(
        two.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"], options=options))
    )
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.SPACE_NOT_SERVED
    assert SPACE.id in error.message
    error = await error_of(stream_results(two, [stream_message("p1", options=options)]))
    assert error.reason is Reason.SPACE_NOT_SERVED


async def test_a_policy_that_the_contract_does_not_know_is_refused(two: Mesh) -> None:
    options = encoder_pb2.EncodeOptions(transparency=77)  # type: ignore[arg-type]
    calls = (
        two.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"], options=options)),
        two.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images(b"p1"), options=options)),
        stream_results(two, [stream_message("p1", options=options)]),
    )
    for call in calls:
        error = await error_of(call)
        assert isinstance(error, InvalidInput)
        assert (error.reason, error.violations[0].field) == (Reason.OPTION_INVALID, "options.transparency")


async def test_each_space_goes_to_its_own_encoders(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(SPACE), FakeEncoder(OTHER_SPACE), FakeEncoder(OTHER_SPACE)]
    mesh = await unstarted.start()
    for space in (SPACE, OTHER_SPACE):
        request = encoder_pb2.EncodeTextsRequest(texts=["t"], options=encoder_pb2.EncodeOptions(space_id=space.id))
        for _ in range(4):
            answer = await mesh.encoder_service.EncodeTexts(request)
            assert answer.results[0].embedding == vector(b"t", space)
    assert [len(encoder.texts) for encoder in mesh.encoders] == [4, 2, 2]
    default = await mesh.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"]))
    assert default.results[0].embedding.space_id == SPACE.id
    info = await mesh.encoder_service.GetInfo(encoder_pb2.GetInfoRequest())
    assert [model.spaces[0].id for model in info.models] == [SPACE.id, OTHER_SPACE.id]


async def test_the_default_space_is_a_setting(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(SPACE), FakeEncoder(OTHER_SPACE)]
    mesh = await unstarted.start(default_space=OTHER_SPACE.id)
    answer = await mesh.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"]))
    assert answer.results[0].embedding.space_id == OTHER_SPACE.id
    info = await mesh.encoder_service.GetInfo(encoder_pb2.GetInfoRequest())
    assert info.models[0].spaces[0].id == OTHER_SPACE.id


async def test_an_encoder_that_comes_back_with_another_space(mesh: Mesh) -> None:
    await mesh.encoder_service.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["t"]))
    await mesh.host(mesh.encoder).kill()
    mesh.encoder.spaces = (OTHER_SPACE,)
    await mesh.host(mesh.encoder).start()
    options = encoder_pb2.EncodeOptions(space_id=OTHER_SPACE.id)
    request = encoder_pb2.EncodeTextsRequest(texts=["t"], options=options)

    for _ in range(300):
        try:
            answer = await mesh.encoder_service.EncodeTexts(request)
            break
        except grpc.RpcError:
            await asyncio.sleep(0.1)
    else:
        pytest.fail("the router never learned of the other space")
    assert answer.results[0].embedding.space_id == OTHER_SPACE.id


async def test_captions_in_a_stream_and_word_by_word(mesh: Mesh) -> None:
    message = caption_pb2.CaptionStreamRequest(
        items=[caption_pb2.CaptionStreamItem(ref=f"p{n}", image=images(f"p{n}".encode())[0]) for n in range(100)]
    )
    stream = mesh.captioner_service.CaptionStream(iter([message]))
    results = {result.ref: result.result async for response in stream for result in response.results}
    assert {ref: result.caption.text for ref, result in results.items()} == {
        f"p{n}": f"an image of p{n}" for n in range(100)
    }
    request = caption_pb2.StreamCaptionRequest(image=images(b"p")[0])
    pieces = [piece async for piece in mesh.captioner_service.StreamCaption(request)]
    assert [piece.delta for piece in pieces[:2]] == ["a", " fake"]
    assert pieces[-1].caption.text == "an image of p"


async def test_a_captioner_that_is_gone_is_named(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    error = await error_of(mesh.captioner_service.CaptionImages(caption_pb2.CaptionImagesRequest(images=images(b"p"))))
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.CAPTIONER_UNAVAILABLE
    stream = mesh.captioner_service.StreamCaption(caption_pb2.StreamCaptionRequest(image=images(b"p")[0]))
    assert (await error_of(stream.read())).reason is Reason.CAPTIONER_UNAVAILABLE


async def test_an_unknown_caption_model(mesh: Mesh) -> None:
    request = caption_pb2.CaptionImagesRequest(images=images(b"p"), options=caption_pb2.CaptionOptions(model="poet"))
    error = await error_of(mesh.captioner_service.CaptionImages(request))
    assert error.reason is Reason.MODEL_NOT_SERVED


async def test_infos_tell_the_mesh_as_one(two: Mesh) -> None:
    encoder = await two.encoder_service.GetInfo(encoder_pb2.GetInfoRequest())
    assert [model.model.name for model in encoder.models] == ["fake"]
    assert (encoder.limits.max_items, encoder.limits.max_text_chars) == (256, 10_000)
    captioner = await two.captioner_service.GetInfo(caption_pb2.GetInfoRequest())
    assert [model.name for model in captioner.models] == ["teller"]
    assert (captioner.limits.max_items, captioner.limits.max_caption_tokens) == (256, 100)
    search = await two.search_service.GetInfo(search_pb2.GetInfoRequest())
    assert (search.store, search.limits.max_items) == ("memory 1", 1000)
    own = two.server.runtime.server_info().instance
    assert {encoder.server.instance, captioner.server.instance, search.server.instance} == {own}


async def test_jobs_and_their_watches_are_passed_on(unstarted: Mesh) -> None:
    # What is watched outlasts any other call.
    mesh = await unstarted.start(call_seconds=0.3)
    service = mesh.search_service
    mesh.search.make("c", ("image", SPACE))
    start = search_pb2.StartDeleteItemsRequest(collection="c", job_id="one")
    assert (await service.StartDeleteItems(start)).job.id == "one"
    release = asyncio.Event()
    mesh.search.released = release
    mesh.search.looks = [search_pb2.Job(done_count=n) for n in (1, 2)]
    seen: list[int] = []
    async for answer in service.WatchJob(search_pb2.WatchJobRequest(id="one")):
        seen.append(answer.job.done_count)
        if len(seen) == 1:
            await asyncio.sleep(0.5)
            release.set()
    assert seen == [0, 1, 2]
    mesh.search.looks = [NotFound(Reason.JOB_NOT_FOUND, "forgotten")]
    watch = service.WatchJob(search_pb2.WatchJobRequest(id="one"))
    assert (await anext(aiter(watch))).job.id == "one"
    error = await error_of(anext(aiter(watch)))
    assert error.reason is Reason.JOB_NOT_FOUND
    # A router that drains waits for no watch, nor one that was left.
    release.clear()
    mesh.search.looks = [search_pb2.Job(done_count=3)] * 2
    left = service.WatchJob(search_pb2.WatchJobRequest(id="one"))
    await anext(aiter(left))
    left.cancel()
    assert (await service.CancelJob(search_pb2.CancelJobRequest(id="one"))).job.cancel_requested
    assert [job.id for job in (await service.ListJobs(search_pb2.ListJobsRequest())).jobs] == ["one"]
    assert (await error_of(service.GetJob(search_pb2.GetJobRequest(id="two")))).reason is Reason.JOB_NOT_FOUND
    watch = service.WatchJob(search_pb2.WatchJobRequest(id="one"))
    await anext(aiter(watch))
    mesh.server.runtime.draining.set()
    assert (await error_of(anext(aiter(watch)))).reason is Reason.DRAINING
    release.set()


async def test_groups_of_near_duplicates_are_passed_on(unstarted: Mesh) -> None:
    mesh = await unstarted.start(call_seconds=0.3)
    service = mesh.search_service
    mesh.search.make("c", ("image", SPACE))
    start = search_pb2.StartFindDuplicatesRequest(collection="c", job_id="one", max_distance=0)
    assert (await service.StartFindDuplicates(start)).job.find_duplicates == start
    bad = search_pb2.Filter(condition=search_pb2.Condition(field="a"))
    bad.condition.one_of.extend(range(20_000))
    start.filter.CopyFrom(bad)
    assert (await error_of(service.StartFindDuplicates(start))).reason is Reason.FILTER_INVALID
    mesh.search.parts = [search_pb2.DuplicateGroup(index=n) for n in range(3)]
    read = search_pb2.ReadDuplicatesRequest(job_id="one", first_group=1)
    told: list[int] = []
    async for answer in service.ReadDuplicates(read):
        told += [group.index for group in answer.groups]
        # Whoever reads may take longer than any other call.
        await asyncio.sleep(0.3)
    assert told == [1, 2]
    missing = service.ReadDuplicates(search_pb2.ReadDuplicatesRequest(job_id="none"))
    assert (await error_of(anext(aiter(missing)))).reason is Reason.JOB_NOT_FOUND


async def test_the_store_is_passed_on(mesh: Mesh) -> None:
    service = mesh.search_service
    wanted = search_pb2.Collection(name="c", spaces=[search_pb2.NamedSpace(name="image", space=SPACE)])
    made = await service.CreateCollection(search_pb2.CreateCollectionRequest(collection=wanted))
    assert made.collection.name == "c"
    item = search_pb2.Item(id="a", vectors={"image": vector(b"a", SPACE)})
    written = await service.UpsertItems(search_pb2.UpsertItemsRequest(collection="c", items=[item]))
    assert written.results[0].outcome == search_pb2.UPSERT_OUTCOME_CREATED
    got = await service.GetItems(search_pb2.GetItemsRequest(collection="c", ids=["a", "b"]))
    assert ([found.id for found in got.items], list(got.missing_ids)) == (["a"], ["b"])
    leg = search_pb2.SearchLeg(embedding=vector(b"a", SPACE))
    request = search_pb2.SearchRequest(collection="c", legs=[leg])
    assert (await service.Search(request)).hits[0].item.id == "a"
    batch = await service.BatchSearch(search_pb2.BatchSearchRequest(searches=[request]))
    assert batch.results[0].response.hits[0].item.id == "a"
    facets = await service.CountFacets(search_pb2.CountFacetsRequest(collection="c", fields=["x"]))
    assert facets.facets[0].field == "x"
    asked = [search_pb2.Aggregation(name="n")]
    figures = await service.Aggregate(search_pb2.AggregateRequest(collection="c", aggregations=asked))
    assert figures.results[0].name == "n"
    listed = await service.ListCollections(search_pb2.ListCollectionsRequest())
    assert [collection.name for collection in listed.collections] == ["c"]
    by_id = search_pb2.DeleteItemsRequest(collection="c", ids=search_pb2.IdList(ids=["a"]))
    assert (await service.DeleteItems(by_id)).deleted_count == 1
    await service.DeleteCollection(search_pb2.DeleteCollectionRequest(name="c"))
    error = await error_of(service.GetCollection(search_pb2.GetCollectionRequest(name="c")))
    assert isinstance(error, NotFound)
    assert error.metadata["collection"] == "c"
    await mesh.host(mesh.search).kill()
    error = await error_of(service.ListCollections(search_pb2.ListCollectionsRequest()))
    assert error.reason is Reason.SEARCH_UNAVAILABLE
