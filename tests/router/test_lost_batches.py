"""What replicas held when they ended: most of it is good, and what ends them is found with few losses."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import DeadlineExceeded, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from router_svc.call_scope import CallScope, Patience
from router_svc.cut import CallLimits
from router_svc.model_directory import ModelTargets
from router_svc.upstreams import pool, tries, waiting
from router_svc.upstreams.errors import is_lost
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Captioners, Encoders
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.suspects import ItemSuspects
from router_svc.upstreams.tries import Upstream
from tests.router.fakes import SPACE, vector
from tests.router.helpers import rpc_error
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

SOCKET = "Stream removed (Socket closed)"
REFUSED = "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
DRAINED = "Cancelling all calls"
SILENT = "keepalive watchdog timeout"
BOMB = b"bomb"


def torn(details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@dataclass
class Replica:
    """An encoder and captioner that ends where it is given a bomb, with all that it holds, and comes back."""

    deaths: int = 0
    calls: list[int] = field(default_factory=list)
    away: int = 0
    """Calls that find nobody, after a death, until it is back."""
    comes_back_after: int = 2
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    work_s: float = 0.0
    say: str = SOCKET

    async def work(self, contents: Sequence[bytes]) -> None:
        if self.away:
            self.away -= 1
            raise torn(REFUSED)
        self.calls.append(len(contents))
        life = self.ends
        with_bomb = any(content.startswith(BOMB) for content in contents)
        if with_bomb:
            await asyncio.sleep(self.work_s / 2)
            if self.ends is life:
                self.die()
        else:
            try:
                async with asyncio.timeout(self.work_s):
                    await life.wait()
            except TimeoutError:
                return
        if life.is_set():
            raise torn(self.say)

    def die(self) -> None:
        self.deaths += 1
        self.away = self.comes_back_after
        self.ends.set()
        self.ends = asyncio.Event()

    async def EncodeImages(self, packed: bytes, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        request = encoder_pb2.EncodeImagesRequest.FromString(packed)
        await self.work([image.content for image in request.images])
        results = [encoder_pb2.EncodeResult(embedding=vector(image.content, SPACE)) for image in request.images]
        return encoder_pb2.EncodeImagesResponse(results=results)

    async def EncodeTexts(self, request: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        await self.work([text.encode() for text in request.texts])
        results = [encoder_pb2.EncodeResult(embedding=vector(text.encode(), SPACE)) for text in request.texts]
        return encoder_pb2.EncodeTextsResponse(results=results)

    def StreamCaption(self, request: Any, timeout: float) -> "Words":
        return Words(self, request)


class Words:
    """One StreamCaption."""

    def __init__(self, replica: Replica, request: Any) -> None:
        self._replica = replica
        self._request = request

    async def __aiter__(self) -> Any:
        await self._replica.work([self._request.image.content])
        yield caption_pb2.StreamCaptionResponse(delta="a")

    def cancel(self) -> None:
        pass


class Directory:
    def __init__(self, targets: tuple[str, ...]) -> None:
        self.serving = ModelTargets(targets, CallLimits(64, 1 << 20))

    async def encoders(self, space_id: str) -> ModelTargets:
        return self.serving

    async def captioners(self, model: str) -> ModelTargets:
        return self.serving

    async def default_caption_model(self) -> str:
        return "teller"


def fleet_of(replicas: Sequence[Replica], kind: Kind = Kind.ENCODER) -> Any:
    upstreams = [Upstream(f"replica:{n}", replica) for n, replica in enumerate(replicas)]
    return UpstreamPool(kind, upstreams, draining=asyncio.Event(), call_s=60, tries=4)


def encoders_of(*replicas: Replica) -> Encoders:
    made = fleet_of(replicas)
    return Encoders(made, Directory(made.targets))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as the work of these replicas."""
    monkeypatch.setattr(tries, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(pool, "SETTLE_S", 0.02)


PATIENT = Patience(away_s=30, busy_s=30)


async def encode(
    encoders: Encoders, contents: Sequence[bytes], patience: Patience = PATIENT, deadline: float | None = None
) -> list[encoder_pb2.EncodeResult]:
    return await encoders.images.run(
        [PackedImage.of(common_pb2.Image(content=content)) for content in contents],
        encoder_pb2.EncodeOptions(space_id=SPACE.id),
        CallScope(deadline, patience, "images[]"),
    )


def good(count: int) -> list[bytes]:
    return [f"image {n}".encode() for n in range(count)]


def check(contents: Sequence[bytes], results: Sequence[encoder_pb2.EncodeResult]) -> None:
    for index, (content, result) in enumerate(zip(contents, results, strict=True)):
        if content.startswith(BOMB):
            error = from_status(result.error)
            assert (error.reason, error.violations[0].field) == (Reason.IMAGE_TOO_COSTLY, f"images[{index}]")
            assert error.retry_after_s is None
        else:
            assert result.embedding == vector(content, SPACE)


@pytest.mark.parametrize("place", [0, 13, 31])
@pytest.mark.parametrize("replicas", [1, 2])
async def test_one_that_ends_replicas_is_refused_and_its_neighbours_are_done(replicas: int, place: int) -> None:
    contents = good(31)
    contents.insert(place, BOMB)
    all_of_them = [Replica() for _ in range(replicas)]
    encoders = encoders_of(*all_of_them)
    check(contents, await encode(encoders, contents))
    # Of 32, of 4, alone, and alone once more.
    assert sum(replica.deaths for replica in all_of_them) == 4
    # And it is known from then on.
    check(contents, await encode(encoders, contents, Patience()))
    assert sum(replica.deaths for replica in all_of_them) == 4


async def test_two_in_batches_side_by_side_do_not_blame_those_beside_them() -> None:
    """One replica has all of it in its hands: each death takes every call with it."""
    replica = Replica(work_s=0.02)
    encoders = encoders_of(replica)
    batches = [
        [f"{n} {m}".encode() if (n, m) not in ((1, 3), (2, 9)) else BOMB + bytes([n]) for m in range(16)]
        for n in range(4)
    ]
    for contents, results in zip(
        batches, await asyncio.gather(*(encode(encoders, one) for one in batches)), strict=True
    ):
        check(contents, results)
    # All of it, and each of the two in a part, and alone: there, the other one's losses count for neither.
    assert replica.deaths <= 1 + 2 * (1 + 4)


async def test_single_calls_beside_one_that_ends_replicas_are_done() -> None:
    """As callers of Ingest and Search make them: each item alone in its call, many at a time."""
    replica = Replica(work_s=0.02)
    encoders = encoders_of(replica)
    contents = [*good(12), BOMB]
    answers = await asyncio.gather(*(encode(encoders, [content]) for content in contents))
    for content, [result] in zip(contents, answers, strict=True):
        if content == BOMB:
            assert from_status(result.error).reason is Reason.IMAGE_TOO_COSTLY
        else:
            assert result.embedding == vector(content, SPACE)
    assert replica.deaths <= 4


async def test_a_caller_who_sends_the_same_again_ends_no_replica_for_ever() -> None:
    """A call without patience finds nobody after each death; its caller sends all of it again."""
    replica = Replica(comes_back_after=6)
    encoders = encoders_of(replica)
    contents = [*good(31), BOMB]
    for _ in range(30):
        replica.away = 0
        with contextlib.suppress(Unavailable):
            results = await encode(encoders, contents, Patience())
            break
    check(contents, results)
    assert replica.deaths == 4


async def test_a_text_that_ends_replicas_is_refused_too() -> None:
    replica = Replica()
    results = await encoders_of(replica).texts.run(
        ["a", "bomb", "b"],
        encoder_pb2.EncodeOptions(space_id=SPACE.id),
        CallScope(patience=PATIENT, field_path="texts[]"),
    )
    assert [result.HasField("embedding") for result in results] == [True, False, True]
    assert from_status(results[1].error).reason is Reason.MODEL_FAILED


async def test_an_image_that_ends_captioners_is_refused_in_a_stream_of_words() -> None:
    replica = Replica(comes_back_after=0)
    made = fleet_of([replica], Kind.CAPTIONER)
    captioners = Captioners(made, Directory(made.targets))  # type: ignore[arg-type]

    async def words(content: bytes) -> list[str]:
        request = caption_pb2.StreamCaptionRequest(image=common_pb2.Image(content=content))
        return [piece.delta async for piece in captioners.stream_caption(request, CallScope())]

    assert await words(b"good") == ["a"]
    for _ in range(2):
        with pytest.raises(LensmeshError) as caught:
            await words(BOMB)
        assert caught.value.reason is Reason.IMAGE_TOO_COSTLY
        assert replica.deaths == 2
    assert await words(b"another") == ["a"]


@pytest.mark.parametrize("say", [SOCKET, DRAINED, SILENT])
async def test_replicas_that_go_one_after_the_other_refuse_nothing(say: str) -> None:
    """Restarts, kills and cut networks while single images and batches are under way: each comes back in a moment."""
    replicas = [Replica(work_s=0.01, comes_back_after=1, say=say) for _ in range(3)]
    encoders = encoders_of(*replicas)
    rounds = dict.fromkeys([(1, 0), (1, 1), (1, 2), (8, 0), (32, 0)], 0)
    over = asyncio.Event()

    async def go() -> None:
        for number in range(12):
            before = dict(rounds)
            await until(lambda before=before: all(rounds[key] > before[key] for key in rounds), "all go on")  # type: ignore[misc]
            replicas[number % 3].die()
        over.set()

    async def keep_encoding(key: tuple[int, int]) -> None:
        while not over.is_set():
            contents = [f"{key} {rounds[key]} {n}".encode() for n in range(key[0])]
            check(contents, await encode(encoders, contents))
            rounds[key] += 1

    going = asyncio.create_task(go())
    await asyncio.gather(*map(keep_encoding, rounds))
    await going
    assert sum(replica.deaths for replica in replicas) == 12


LOST = {
    SOCKET: True,
    "recvmsg:Connection reset by upstream": True,
    "Broken pipe": True,
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination": True,
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure": False,
    REFUSED: False,
    "failed to connect to all addresses; last error: UNKNOWN: Connection reset by upstream": False,
    DRAINED: False,
    SILENT: False,
    "ping timeout": False,
    "": False,
}


@pytest.mark.parametrize("details", sorted(LOST))
def test_what_says_that_a_replica_ended(details: str) -> None:
    assert is_lost(torn(details)) == LOST[details]
    assert not is_lost(rpc_error(Unavailable(Reason.DRAINING, details or "x")))


async def test_suspects_are_forgotten_by_their_answer_and_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    suspects = ItemSuspects()
    suspects.lost([b"a", b"b"])
    assert (suspects.most_with(b"a"), suspects.most_with(b"c")) == (1, 0)
    suspects.answered([b"a", b"c"])
    assert suspects.most_with(b"a") == 0
    suspects.lost([b"b"], others=True)
    suspects.lost([b"b"], others=False)
    assert not suspects.refuses(b"b")
    suspects.lost([b"b"], others=False)
    assert suspects.refuses(b"b")
    monkeypatch.setattr("router_svc.upstreams.suspects.REFUSED_S", -1.0)
    suspects.lost([b"x"])
    assert not suspects.refuses(b"b")


async def test_whoever_waits_for_their_turn_has_a_deadline() -> None:
    suspects = ItemSuspects()
    async with suspects.one_at_a_time(CallScope()):
        with pytest.raises(DeadlineExceeded):
            async with suspects.one_at_a_time(CallScope(asyncio.get_running_loop().time() + 0.01)):
                pytest.fail("it is not its turn")
    async with suspects.one_at_a_time(CallScope()):
        pass
