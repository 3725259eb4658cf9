"""What cosines mean: measured, kept with the collection, and told of hits."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.calibration import Calibration, Modality, from_json, joined, measure_images, measure_texts
from search_svc.model import Caption, StoredItem
from search_svc.related import related
from tests.search.conftest import Serve
from tests.search.gates import LEASE, Gate, replica
from tests.search.jobs import ended
from tests.search.near_hashes import perceptual
from tests.search.processes import search_process
from tests.search.standin import StandIn
from tests.search.strategies import thorough
from tests.search.support import (
    Stub,
    collection,
    create,
    embedding,
    found,
    item,
    named_space,
    refused,
    search_request,
    upsert,
)
from tests.support.waiting import until

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
IMAGE, TEXT = common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT
DIMENSION, ITEMS, TEXTS = 32, 80, 30
RANDOM = np.random.default_rng(7)
CENTRE = 2 * np.eye(DIMENSION)[0]
# Images lie about one centre and texts about another, as CLIP's do: even a text's own image is not near to it.
IMAGES = CENTRE + RANDOM.standard_normal((ITEMS, DIMENSION))
WORDS = IMAGES[:TEXTS] - 1.5 * CENTRE + 0.2 * RANDOM.standard_normal((TEXTS, DIMENSION))


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    units: NDArray[Any] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def calibration(**figures: float) -> Calibration:
    """A text's, such as CLIP has it."""
    known = {"median": 0.18, "p90": 0.22, "p99": 0.25, "p999": 0.27, "match_median": 0.3, **figures}
    return Calibration(Modality.TEXT, **known, pair_count=1, measure_time=datetime(2026, 1, 1, tzinfo=UTC))


async def filled(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(dimension=DIMENSION), named_space("empty", DIMENSION)))
    await upsert(stub, *(item(f"i{i}", unit(vector)) for i, vector in enumerate(IMAGES)), item("without"))


def texts(count: int = TEXTS) -> list[search_pb2.CalibrationText]:
    vectors = unit(WORDS)[:count]
    return [
        search_pb2.CalibrationText(item_id=f"i{i}", embedding=embedding(vector)) for i, vector in enumerate(vectors)
    ]


async def start(stub: Stub, **fields: Any) -> search_pb2.Job:
    request = search_pb2.StartCalibrateRequest(**{"collection": "pictures", **fields})
    return (await stub.StartCalibrate(request)).job


async def calibrate(stub: Stub, **fields: Any) -> list[search_pb2.Calibration]:
    job = await ended(stub, (await start(stub, **fields)).id)
    assert job.state == search_pb2.JOB_STATE_SUCCEEDED, job.error
    return list(job.calibrate_result.calibrations)


async def kept(stub: Stub) -> list[search_pb2.Calibration]:
    answer = await stub.GetCollection(search_pb2.GetCollectionRequest(name="pictures"))
    assert not answer.collection.spaces[1].calibrations
    return list(answer.collection.spaces[0].calibrations)


def near(vector: NDArray[Any], modality: Any, **fields: Any) -> search_pb2.SearchRequest:
    request = search_request(unit(vector), **fields)
    request.legs[0].modality = modality
    return request


async def test_a_space_is_measured_and_hits_say_how_relevant_they_are(stub: Stub) -> None:
    await filled(stub)
    asked = near(WORDS[0], TEXT, limit=100)
    assert not any(hit.HasField("relevance") for hit in (await stub.Search(asked)).hits)
    error = await refused(found(stub, near(WORDS[0], TEXT, min_relevance=0.5)), PRECONDITION, Reason.NOT_CALIBRATED)
    assert "lensmesh calibrate" in error.message
    by_image, by_text = await calibrate(stub, texts=texts())
    assert await kept(stub) == [by_image, by_text]
    assert (by_image.modality, by_text.modality) == (IMAGE, TEXT)
    cosines = unit(WORDS) @ unit(IMAGES).T
    # Neither the text's own image nor the two that are nearest to that.
    nearest = np.argsort(-(unit(IMAGES)[:TEXTS] @ unit(IMAGES).T), axis=1)[:, :3]
    counted = np.ones_like(cosines, dtype=bool)
    np.put_along_axis(counted, nearest, False, axis=1)
    unrelated = cosines[counted]
    figures = [by_text.median, by_text.p90, by_text.p99, by_text.p999]
    assert figures == pytest.approx(np.percentile(unrelated, (50, 90, 99, 99.9)), abs=2e-3)
    assert by_text.match_median == pytest.approx(np.median(np.diag(cosines)), abs=2e-3)
    assert by_text.pair_count == unrelated.size
    assert by_image.match_median == 1
    assert by_image.pair_count == ITEMS * (ITEMS - 1) // 2
    hits = (await stub.Search(asked)).hits
    assert len(hits) == ITEMS
    relevances = [hit.relevance for hit in hits]
    assert relevances == sorted(relevances, reverse=True)
    assert (hits[0].item.id, relevances[0] > 0.8, relevances[2] < 0.6) == ("i0", True, True)
    assert np.median(relevances) == pytest.approx(0, abs=0.2)
    # Nothing found is an answer; what is found is as relevant as was asked for.
    for least in (0.0, 0.25, 0.5, 0.9, 1.0):
        told = (await stub.Search(near(WORDS[0], TEXT, limit=100, min_relevance=least))).hits
        assert [hit.item.id for hit in told] == [hit.item.id for hit in hits if hit.relevance >= least]
    assert await found(stub, near(-IMAGES[0], IMAGE, min_relevance=0.5)) == []
    # A stored item is an image; of a vector that nobody tells of nothing is known.
    like = (await stub.Search(search_request(near="i0", limit=3))).hits
    assert all(hit.HasField("relevance") for hit in like)
    assert not (await stub.Search(search_request(unit(WORDS[0])))).hits[0].HasField("relevance")


@pytest.mark.parametrize("told_by", ["captions", "hashes", "nothing"])
async def test_views_of_one_thing_are_no_unrelated_pairs(stub: Stub, told_by: str) -> None:
    """Many things in three views, and one in six copies more: text and image of a thing stay a match."""
    things, views, copies, dimension = 100, 3, 6, 64
    random = np.random.default_rng(3)
    centre = 2 * np.eye(dimension)[0]
    shown = centre + random.standard_normal((things, dimension))
    words = unit(shown - 1.5 * centre + 0.2 * random.standard_normal(shown.shape))
    await create(stub, collection("pictures", named_space(dimension=dimension)))
    for view in range(views):
        vectors = unit(shown + 0.15 * random.standard_normal(shown.shape))
        stored = [item(f"{i}-{view}", vector) for i, vector in enumerate(vectors)]
        if view == 0:
            stored += [item(f"0-copy{copy}", vectors[0]) for copy in range(copies)]
        for each in stored:
            thing = int(each.id.split("-")[0])
            if told_by == "captions":
                each.caption.text = f"Thing {thing}." if view else f"thing {thing}"
            elif told_by == "hashes":
                hashed = perceptual(thing, view)
                each.perceptual_hash.hash, each.perceptual_hash.quality = hashed.hash, hashed.quality
        await upsert(stub, *stored)
    probes = [search_pb2.CalibrationText(item_id=f"{i}-0", embedding=embedding(words[i])) for i in range(things)]
    by_image, by_text = await calibrate(stub, texts=probes)
    assert by_text.p999 < by_text.match_median
    if told_by != "nothing":
        # Pairs of views have a cosine of 0.98.
        assert by_image.p999 < 0.9
    asked = near(words[5], TEXT, limit=20, min_relevance=0.5)
    hits = await found(stub, asked)
    assert {"5-0", "5-1", "5-2"} <= set(hits)
    assert len(hits) < 6


async def test_texts_that_are_unrelated_to_nothing_say_nothing(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(dimension=DIMENSION)))
    await upsert(stub, *(item(f"i{i}", unit(vector), caption={"text": "A boat"}) for i, vector in enumerate(IMAGES)))
    job = await ended(stub, (await start(stub, texts=texts())).id)
    assert job.state == search_pb2.JOB_STATE_FAILED
    assert "all items have one caption" in job.error.message


def test_related_pairs() -> None:
    first = [
        StoredItem("a", caption=Caption("A red  star.", 1, 3, False, "m"), perceptual_hash=perceptual(1)),
        StoredItem("b"),
        StoredItem("c", caption=Caption("...", 1, 3, False, "m"), perceptual_hash=perceptual(2, quality=10)),
    ]
    second = [
        StoredItem("d", caption=Caption("a Red star", 1, 3, False, "m")),
        StoredItem("e", perceptual_hash=perceptual(1, *range(31))),
        StoredItem("f", perceptual_hash=perceptual(1, *range(32))),
        StoredItem("g", caption=Caption("?", 1, 3, False, "m"), perceptual_hash=perceptual(2, quality=10)),
        StoredItem("b"),
        StoredItem("h", perceptual_hash=replace(perceptual(5), unframed=perceptual(1).hash)),
    ]
    assert related(first, second).tolist() == [
        [True, True, False, False, False, True],
        [False, False, False, False, True, False],
        [False, False, False, False, False, False],
    ]


async def test_the_best_leg_tells_the_relevance(stub: Stub) -> None:
    await filled(stub)
    await calibrate(stub, texts=texts())
    fused = near(WORDS[0], TEXT, limit=100)
    fused.legs[0].name = "words"
    fused.legs.add(name="like", item_id="i1")
    fused.legs.add(name="not", item_id="i2", weight=-1)
    hits = (await stub.Search(fused)).hits
    alone = {}
    for name, request in (("words", near(WORDS[0], TEXT, limit=100)), ("like", search_request(near="i1", limit=100))):
        alone[name] = {hit.item.id: hit.relevance for hit in (await stub.Search(request)).hits}
    assert len(hits) > 20
    for hit in hits:
        best = max(alone[name].get(hit.item.id, 0) for name in ("words", "like"))
        assert hit.relevance == pytest.approx(best, abs=1e-5)
    fused.min_relevance = 0.5
    wanted = {hit.item.id for hit in hits if hit.relevance >= 0.5}
    assert 0 < len(wanted) < 20
    assert {hit.item.id for hit in (await stub.Search(fused)).hits} == wanted
    fused.limit, fused.offset = 1, len(wanted) - 1
    assert len((await stub.Search(fused)).hits) == 1
    fused.offset += 1
    assert len((await stub.Search(fused)).hits) == 0


async def test_what_is_measured_anew_replaces_what_was(stub: Stub) -> None:
    await filled(stub)
    first = await calibrate(stub, texts=texts())
    [again] = await calibrate(stub)
    by_image, by_text = await kept(stub)
    assert (by_image, by_text) == (again, first[1])
    assert again.measure_time.ToDatetime() > first[0].measure_time.ToDatetime()
    # It belongs to this very collection.
    await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
    await filled(stub)
    assert await kept(stub) == []


async def test_other_replicas_know_it_too(serve: Serve) -> None:
    async with serve() as (one, _), serve(store_check_seconds=0.1) as (other, _):
        await filled(one)
        asked = near(IMAGES[0], IMAGE, min_relevance=0.5)
        await refused(found(other, asked), PRECONDITION, Reason.NOT_CALIBRATED)
        assert not (await other.Search(near(IMAGES[0], IMAGE))).hits[0].HasField("relevance")
        await calibrate(one)
        # A refusal looks again before it refuses; what only shows relevance has it in a moment.
        assert await found(other, asked) == ["i0"]

        async def is_told() -> bool:
            return (await other.Search(near(IMAGES[0], IMAGE))).hits[0].HasField("relevance")

        await until(is_told)


@pytest.mark.parametrize(
    ("table", "phase"),
    [
        # The job is taken, and is about to measure.
        ("jobs", "NEW.message = 'measuring'"),
        # It has measured, and is about to keep that.
        ("collections", "NEW.calibrations <> OLD.calibrations"),
        # It is kept, and is yet to be told.
        ("jobs", "NEW.state = 'succeeded'"),
    ],
)
async def test_a_killed_worker_is_succeeded(database_url: str, tmp_path: Path, table: str, phase: str) -> None:
    connection = await asyncpg.connect(database_url)
    gate = Gate(connection)
    try:
        async with search_process(database_url, tmp_path, **LEASE) as first:
            await filled(first.stub)
            await gate.close(phase, table)
            job_id = (await start(first.stub, texts=texts())).id
            await until(gate.is_reached)
            first.process.kill()
            await first.process.wait()
        await gate.open()
    finally:
        connection.terminate()
    await _is_taken_up(database_url, job_id)


@pytest.mark.parametrize("call", ["Scroll", "SetPayload"])
async def test_a_worker_that_is_killed_on_qdrant_is_succeeded(tmp_path: Path, call: str) -> None:
    """While it reads what it measures, and while it keeps what it has measured."""
    standin = StandIn()
    await standin.start()
    try:
        async with search_process(standin.url(), tmp_path, **LEASE) as first:
            await filled(first.stub)
            key = standin.created[-1].collection_name
            standin.held_of = key if call == "Scroll" else "lensmesh"
            standin.holding = {call}
            job_id = (await start(first.stub, texts=texts())).id
            await until(lambda: call in standin.held)
            first.process.kill()
            await first.process.wait()
        standin.holding = set()
        await _is_taken_up(standin.url(), job_id)
    finally:
        await standin.remove()


async def _is_taken_up(url: str, job_id: str) -> None:
    """What another replica began ends as if nothing had been."""
    async with replica(url) as stub:
        job = await ended(stub, job_id)
        assert (job.state, job.attempt_count) == (search_pb2.JOB_STATE_SUCCEEDED, 2)
        measured = list(job.calibrate_result.calibrations)
        assert [each.modality for each in measured] == [IMAGE, TEXT]
        assert await kept(stub) == measured


async def test_what_cannot_be_measured_is_refused(stub: Stub) -> None:
    await filled(stub)
    for fields, reason, field in (
        ({"space": "none"}, Reason.SPACE_UNKNOWN, "space"),
        ({"texts": texts(19)}, Reason.OPTION_INVALID, "texts"),
        ({"texts": texts(20) * 13}, Reason.OPTION_INVALID, "texts"),
        ({"texts": [*texts(20), texts(1)[0]]}, Reason.ITEM_ID_DUPLICATE, "texts[20].item_id"),
        (
            {"texts": [*texts(20), search_pb2.CalibrationText(item_id="x")]},
            Reason.VECTOR_INVALID,
            "texts[20].embedding.space_id",
        ),
    ):
        await refused(start(stub, **fields), INVALID, reason, field)
    few = (await start(stub, space="empty")).id
    job = await ended(stub, few)
    assert job.state == search_pb2.JOB_STATE_FAILED
    assert "0 items have a vector empty, and 50 are needed" in job.error.message
    strangers = texts()
    for i, text in enumerate(strangers[11:]):
        text.item_id = f"stranger{i}"
    job = await ended(stub, (await start(stub, texts=strangers)).id)
    assert "11 of 30 texts" in job.error.message
    assert await kept(stub) == []


async def test_bad_searches(stub: Stub) -> None:
    await filled(stub)
    await calibrate(stub)
    for least in (-0.1, 1.1, float("nan")):
        asked = near(IMAGES[0], IMAGE, min_relevance=least)
        await refused(found(stub, asked), INVALID, Reason.QUERY_INVALID, "min_relevance")
    words = search_pb2.SearchRequest(collection="pictures", min_relevance=0.5)
    words.legs.add(caption_text="a dog")
    await refused(found(stub, words), INVALID, Reason.QUERY_INVALID, "min_relevance")
    unknown = search_request(unit(IMAGES[0]), min_relevance=0.5)
    await refused(found(stub, unknown), INVALID, Reason.QUERY_INVALID, "legs[0].modality")
    unknown.legs[0].modality = 9  # type: ignore[assignment]  # a number of no meaning
    await refused(found(stub, unknown), INVALID, Reason.OPTION_INVALID, "legs[0].modality")
    await refused(found(stub, near(WORDS[0], TEXT, min_relevance=0.5)), PRECONDITION, Reason.NOT_CALIBRATED)


@thorough
@given(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4), st.floats(-1, 1), st.floats(-1, 1))
def test_relevance_never_falls_as_the_cosine_rises(figures: list[float], one: float, other: float) -> None:
    median, p999 = sorted(figures[:2])
    made = calibration(median=median, p999=p999, match_median=figures[2])
    low, high = sorted((one, other))
    assert 0 <= made.relevance(low) <= made.relevance(high) <= 1
    assert made.relevance(median) == 0
    for relevance in (1e-3, 0.25, 0.5, 0.75, 1.0):
        assert made.relevance(made.cosine(relevance)) == pytest.approx(relevance, abs=1e-6)


def test_what_relevances_mean() -> None:
    made = calibration()
    assert [made.relevance(cosine) for cosine in (0.1, 0.18, 0.225, 0.27, 0.285, 0.3, 0.9)] == pytest.approx(
        [0, 0, 0.25, 0.5, 0.75, 1, 1]
    )
    # Texts are no nearer to their own images than to others: only the same vector is certain.
    assert calibration(match_median=0.2).relevance(0.3) == pytest.approx(0.5 + 0.5 * 0.03 / 0.73)


def test_measures_of_odd_collections() -> None:
    same = measure_images(np.ones((60, 4), np.float32), np.eye(60, dtype=np.bool_))
    assert (same.pair_count, same.median, same.relevance(1.0)) == (0, 1, 0)
    vectors = unit(IMAGES).astype(np.float32)
    doubled = measure_images(np.concatenate([vectors, vectors]), np.eye(2 * ITEMS, dtype=np.bool_))
    assert doubled.p999 < 0.9999
    nothing = np.zeros((1, ITEMS), np.bool_)
    assert measure_texts(vectors[:1], vectors[:1], vectors, nothing).match_median == pytest.approx(1)


def test_what_is_kept_comes_back() -> None:
    one, other = calibration(), Calibration(Modality.IMAGE, 0, 0, 0, 0, 1, 5, datetime(2026, 1, 1, tzinfo=UTC))
    text = joined(joined("", "image", [one]), "image", [other])
    assert from_json(text) == {"image": (other, one)}
    assert from_json("") == {}
