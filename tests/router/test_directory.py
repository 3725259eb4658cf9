"""What the mesh's defaults are, and that nobody stands in for the target that decides them."""

import asyncio
import gc

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from router_svc.cut import CallLimits
from router_svc.model_directory import ModelDirectory
from router_svc.upstreams.discovery import TargetAddress
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.monitor import ReplicaMonitor
from router_svc.upstreams.replica import Condition, Info, Replica
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeCaptioner, FakeEncoder, Host
from tests.router.helpers import error_of, item, request
from tests.support.waiting import until

TARGETS = {Kind.ENCODER: ("first:1", "second:1"), Kind.CAPTIONER: ("first:2", "second:2"), Kind.SEARCH: ()}
NOTHING = common_pb2.Limits()


def encoder(*spaces: common_pb2.VectorSpace) -> Info:
    model = common_pb2.ModelInfo(name="m")
    return Info(common_pb2.ServerInfo(), NOTHING, served=(encoder_pb2.ServedModel(model=model, spaces=spaces),))


def captioner(*names: str) -> Info:
    models = tuple(common_pb2.ModelInfo(name=name) for name in names)
    return Info(common_pb2.ServerInfo(), NOTHING, models=models)


class Told(ReplicaMonitor):
    """Replicas that tell what the test says; None of one that does not answer, no list of a name that is unknown."""

    def __init__(self) -> None:
        super().__init__(TARGETS, security=None, probe_s=1, refresh_s=60)
        self.say: dict[str, list[Info | None]] = {}

    async def _ask(self, kind: Kind, target: str) -> list[Replica]:
        if target not in self.say:
            return [
                Replica(kind, TargetAddress(target, target, failure="no such name"), Condition.UNREACHABLE, "no name")
            ]
        return [
            Replica(
                kind,
                TargetAddress(target, f"{target}/{n}"),
                Condition.SERVING if info else Condition.UNREACHABLE,
                "",
                info,
            )
            for n, info in enumerate(self.say[target])
        ]


@pytest.fixture
def monitor() -> Told:
    return Told()


@pytest.fixture
def directory(monitor: Told) -> ModelDirectory:
    return ModelDirectory(monitor, default_space="", own_limits=CallLimits(256, 1 << 20))


async def test_nobody_stands_in_for_a_first_target_that_has_not_told(monitor: Told, directory: ModelDirectory) -> None:
    monitor.say = {"second:1": [encoder(OTHER_SPACE)], "second:2": [captioner("poet")], "first:2": [None]}
    for ask, kind, first in (
        (directory.default_space, Kind.ENCODER, "first:1"),
        (lambda: directory.captioners(""), Kind.CAPTIONER, "first:2"),
    ):
        with pytest.raises(Unavailable) as caught:
            await ask()
        assert caught.value.reason is kind.unavailable
        assert first in caught.value.message
        assert caught.value.retry_after_s
    # What is asked for by name is served by whoever serves it.
    assert (await directory.encoders(OTHER_SPACE.id)).targets == ("second:1",)
    assert (await directory.captioners("poet")).targets == ("second:2",)


async def test_what_the_first_has_told_is_remembered_while_it_is_away(monitor: Told, directory: ModelDirectory) -> None:
    monitor.say = {
        "first:1": [encoder(SPACE)],
        "second:1": [encoder(OTHER_SPACE)],
        "first:2": [captioner("teller")],
        "second:2": [captioner("poet", "teller")],
    }
    assert (await directory.default_space()).id == SPACE.id
    assert await directory.default_caption_model() == "teller"
    # The name does not resolve; then it has new addresses, where nobody has told anything yet.
    unknown: dict[str, list[Info | None]] = {}
    for first in (unknown, unknown | {"first:1": [None], "first:2": [None, None]}):
        monitor.say = {"second:1": [encoder(OTHER_SPACE)], "second:2": [captioner("poet", "teller")], **first}
        await monitor.refresh()
        assert (await directory.default_space()).id == SPACE.id
        assert [space.id for space in directory.spaces()] == [SPACE.id, OTHER_SPACE.id]
        assert await directory.default_caption_model() == "teller"
        assert (await directory.captioners("")).targets == ("first:2", "second:2")


async def test_who_serves_is_found_once_for_all_that_was_told(monitor: Told, directory: ModelDirectory) -> None:
    monitor.say = {"first:1": [encoder(SPACE)], "second:1": [encoder(SPACE)]}
    found = await directory.encoders(SPACE.id)
    assert found.targets == ("first:1", "second:1")
    assert await directory.encoders(SPACE.id) is found
    # The next round of questions may bring another answer.
    monitor.say["second:1"] = [encoder(OTHER_SPACE)]
    await monitor.refresh()
    assert (await directory.encoders(SPACE.id)).targets == ("first:1",)
    assert (await directory.encoders(OTHER_SPACE.id)).targets == ("second:1",)


class Broken(Told):
    """One that cannot be asked, once it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def _ask(self, kind: Kind, target: str) -> list[Replica]:
        await self.go_on.wait()
        raise ValueError(target)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_round_that_fails_behind_a_caller_that_left_is_logged_by_nobody(others: int) -> None:
    monitor, logged = Broken(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    left, *staying = [asyncio.create_task(monitor.refresh()) for _ in range(1 + others)]
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    monitor.go_on.set()
    await until(lambda: monitor._round is None)
    for each in staying:
        with pytest.raises(ValueError, match=":1"):
            await each
    gc.collect()
    assert logged == []


async def test_a_rolling_update_moves_the_default_once(monitor: Told, directory: ModelDirectory) -> None:
    seen = []
    for replicas in (
        [encoder(SPACE), encoder(SPACE)],
        [encoder(OTHER_SPACE), encoder(SPACE)],
        [encoder(SPACE), encoder(OTHER_SPACE)],
        [None, encoder(SPACE)],
        [encoder(OTHER_SPACE), encoder(OTHER_SPACE)],
        [encoder(OTHER_SPACE), None],
    ):
        monitor.say = {"first:1": list(replicas)}
        await monitor.refresh()
        seen.append((await directory.default_space()).id)
    assert seen == [SPACE.id] * 4 + [OTHER_SPACE.id] * 2


async def test_a_space_that_the_settings_name_waits_for_nobody(monitor: Told) -> None:
    directory = ModelDirectory(monitor, default_space=OTHER_SPACE.id, own_limits=CallLimits(256, 1 << 20))
    monitor.say = {"second:1": [encoder(OTHER_SPACE)]}
    assert (await directory.default_space()).id == OTHER_SPACE.id


async def test_a_collection_is_never_made_of_the_second_encoders_model(unstarted: Mesh) -> None:
    """The first is away when the Router starts: a call is told so, and a stream waits for it."""
    unstarted.encoders = [FakeEncoder(SPACE), FakeEncoder(OTHER_SPACE)]
    unstarted.away = {id(unstarted.encoder)}
    mesh = await unstarted.start()
    first = mesh.host(mesh.encoder)
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=item("p"))))
    assert (error.reason, first.address in error.message) == (Reason.ENCODER_UNAVAILABLE, True)
    assert (await error_of(mesh.encoder_service.GetInfo(encoder_pb2.GetInfoRequest()))).reason is error.reason
    assert mesh.search.collections == {}
    stream = mesh.router.IngestStream()
    await stream.write(request([item("q")]))
    await stream.done_writing()
    await first.start()
    answers = [result async for answer in stream for result in answer.results]
    assert [answer.HasField("item") for answer in answers] == [True]
    assert [named.space.id for named in mesh.search.collections["default"].spaces] == [SPACE.id]


async def test_the_default_model_is_named_to_every_captioner(unstarted: Mesh) -> None:
    other = Host(FakeCaptioner(models=("poet", "teller")))
    await other.start()
    try:
        unstarted.more_captioners = [other.address]
        mesh = await unstarted.start()
        for number in range(4):
            # They take turns.
            [result] = (await mesh.ingest(item(f"p{number}"))).values()
            assert result.item.caption.model == "teller@000000000000"
        assert other.fake.faults.calls
    finally:
        await other.kill()
