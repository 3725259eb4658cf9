"""The small parts: cuts, budgets, targets, limits, paths of errors, settings."""

import asyncio

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.concurrency import Budget
from lensmesh_chassis.errors import InvalidInput, UpstreamFault, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import SettingsError, load_settings
from router_svc.cut import CallLimits, cut
from router_svc.ingest.metadata import same_value
from router_svc.limits import tightest
from router_svc.queries import from_store
from router_svc.settings import RouterSettings
from router_svc.upstreams import methods
from router_svc.upstreams.discovery import TargetAddress, parse_targets, resolve
from router_svc.upstreams.errors import item_indexes, repath
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import UpstreamMethod
from router_svc.upstreams.monitor import one_family
from router_svc.upstreams.replica import Condition, Replica
from router_svc.upstreams.together import together


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([], []),
        ([1], [1]),
        ([1, 1, 1, 1], [3, 1]),
        ([4, 4, 4], [2, 1]),
        ([99, 1, 1], [1, 2]),
        ([1, 99, 1], [1, 1, 1]),
        ([10, 1], [1, 1]),
    ],
)
def test_a_list_is_cut_in_order_and_without_gaps(sizes: list[int], runs: list[int]) -> None:
    ranges = list(cut(sizes, CallLimits(3, 10)))
    assert [len(run) for run in ranges] == runs
    assert [index for run in ranges for index in run] == list(range(len(sizes)))


async def test_a_budget_is_first_come_first_served() -> None:
    budget = Budget(10)
    async with budget.share() as one, budget.share() as other:
        assert await one.take(8) == 8
        large = asyncio.create_task(other.take(5))
        small = asyncio.create_task(other.take(1))
        await asyncio.sleep(0)
        assert not small.done(), "it came after the large one"
        one.give(8)
        assert (await large, await small) == (5, 1)
    assert budget.held == 0


async def test_a_share_that_is_left_gives_everything_back() -> None:
    budget = Budget(10)
    async with budget.share() as share:
        assert await share.take(100) == 10
        waiting = asyncio.create_task(budget.take(3))
        await asyncio.sleep(0)
    assert await waiting == 3
    budget.give(3)
    assert budget.held == 0


async def test_who_gives_up_waiting_lets_the_next_one_pass() -> None:
    budget = Budget(10)
    await budget.take(8)
    large, small = asyncio.create_task(budget.take(9)), asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    large.cancel()
    assert await small == 2
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_one_job_alone_needs_no_task_of_its_own() -> None:
    async def job() -> asyncio.Task[None] | None:
        return asyncio.current_task()

    assert await together([job()]) == [asyncio.current_task()]
    assert asyncio.current_task() not in await together([job(), job()])


def test_targets_are_read() -> None:
    assert parse_targets(" a:1, dns:///b:2 ,unix:/run/x.sock,[::1]:3,a:1,") == (
        "a:1",
        "b:2",
        "unix:/run/x.sock",
        "[::1]:3",
    )
    assert parse_targets("") == ()
    for bad in ("a", "a:", ":1", "a:b", "a:0", "a:70000"):
        with pytest.raises(ValueError, match="host:port"):
            parse_targets(bad)


async def test_targets_resolve() -> None:
    assert await resolve("127.0.0.1:80") == [TargetAddress("127.0.0.1:80", "127.0.0.1:80")]
    assert await resolve("[::1]:80") == [TargetAddress("[::1]:80", "[::1]:80")]
    assert await resolve("unix:/x") == [TargetAddress("unix:/x", "unix:/x")]
    [failed] = await resolve("no-such-host.invalid:80")
    assert failed.failure


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (Condition.SERVING, Condition.SERVING, "4"),
        (Condition.SERVING, Condition.UNREACHABLE, "4"),
        (Condition.UNREACHABLE, Condition.SERVING, "6"),
        (Condition.UNREACHABLE, Condition.UNREACHABLE, "4"),
    ],
)
def test_a_name_of_two_families_is_told_once(old: Condition, new: Condition, kept: str) -> None:
    four = Replica(Kind.ENCODER, TargetAddress("h:1", "127.0.0.1:1"), old)
    six = Replica(Kind.ENCODER, TargetAddress("h:1", "[::1]:1"), new)
    assert one_family([four, six]) == [four if kept == "4" else six]
    assert one_family([six]) == [six]


def test_the_tightest_limit_counts_and_a_zero_does_not() -> None:
    joined = tightest(
        [
            common_pb2.Limits(max_items=256, max_image_bytes=20, uri_schemes=["http", "s3"]),
            common_pb2.Limits(max_items=64, max_image_bytes=10, uri_schemes=["s3"]),
            common_pb2.Limits(max_items=1000, max_hits=7),
        ]
    )
    assert (joined.max_items, joined.max_image_bytes, joined.max_hits) == (64, 10, 7)
    assert list(joined.uri_schemes) == ["s3"]
    assert tightest([]) == common_pb2.Limits()


def test_paths_are_led_back_to_the_callers() -> None:
    error = InvalidInput(
        Reason.IMAGE_EMPTY,
        "images[3].content is empty; see subimages[3] and images",
        violations=[Violation("images[3].content", "images[3].content is empty"), Violation("options", "other")],
        retry_after_s=2,
        metadata={"field": "images[3]"},
    )
    led = repath(error, [f"images[{index + 256}]" for index in range(4)])
    assert led.message == "images[259].content is empty; see subimages[3] and images"
    assert [violation.field for violation in led.violations] == ["images[259].content", "options"]
    assert (led.metadata, led.retry_after_s) == ({"field": "images[259]"}, 2)
    alone = repath(error, [""])
    assert alone.violations[0].field == "content"
    assert item_indexes(error) == {3}
    kept = repath(UpstreamFault(Reason.UNKNOWN, "images[1] lost", code=15), ["image"])
    assert (kept.message, kept.code) == ("image lost", 15)


def test_the_stores_paths_become_the_routers() -> None:
    error = InvalidInput(Reason.QUERY_INVALID, "legs[0].space is unknown", field="searches[7].legs[0].space")
    assert from_store(error, "searches[2].", [0]).violations[0].field == "searches[2].queries[0].space"
    assert from_store(error, "", [3, 5]).message == "queries[3].space is unknown"
    plain = InvalidInput(Reason.LIMIT_OUT_OF_RANGE, "limit is 5000", field="limit")
    assert from_store(plain, "", [0]).violations[0].field == "limit"


def test_methods_of_upstreams_are_those_of_the_contracts() -> None:
    named = [value for value in vars(methods).values() if isinstance(value, UpstreamMethod)]
    assert {method.name for method in named} > {"Search", "EncodeImages"}
    for method in named:
        [service] = method.request.DESCRIPTOR.file.services_by_name.values()
        told = service.methods_by_name[method.name]
        assert (told.input_type, told.output_type) == (method.request.DESCRIPTOR, method.answer.DESCRIPTOR)


def test_settings_name_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_ROUTER_ENCODER_TARGETS", "unix:/run/e.sock, other:5")
    assert load_settings(RouterSettings).targets()[Kind.ENCODER] == ("unix:/run/e.sock", "other:5")
    monkeypatch.setenv("LENSMESH_ROUTER_SEARCH_TARGETS", "nowhere")
    with pytest.raises(SettingsError, match="LENSMESH_ROUTER_SEARCH_TARGETS"):
        load_settings(RouterSettings)


def test_metadata_is_compared_by_what_it_says() -> None:
    def value(number: float, word: str = "x") -> struct_pb2.Value:
        made = struct_pb2.Value()
        made.struct_value.update({"list": [{"n": number}, word, None, True]})
        return made

    assert same_value(value(0.0), value(-0.0))
    assert not same_value(value(0.0), value(1.0))
    assert not same_value(value(-0.0), value(0.0, "y"))
    assert not same_value(struct_pb2.Value(bool_value=True), struct_pb2.Value(number_value=1))
