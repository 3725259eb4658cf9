"""One process under supervision: ready, restarted where it was, drained, killed where it does not listen."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmesh_chassis.process.server import running
from lensmesh_cli.console import Repeats
from lensmesh_local import process as local_process
from lensmesh_local.process import Managed, Spec, StartError, how_it_ended
from lensmesh_local.supervisor import serves
from tests.support.every_shape import FakeApp, settings
from tests.support.waiting import until


@pytest.fixture
def said() -> list[str]:
    """What the supervisor tells its user."""
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str]) -> Callable[..., Managed]:
    """A process with faults."""
    ready = tmp_path / "ready.json"
    root = str(Path(__file__).resolve().parents[2])

    def build(*faults: str, say: Callable[[str], None] = said.append, **more: float) -> Managed:
        spec = Spec(
            name="fake",
            module="tests.cli.fake_service",
            arguments=(str(ready), *faults),
            ready_file=ready,
            log_file=tmp_path / "fake.log",
            environment={"PYTHONPATH": root},
            pin=lambda told: {"FAKE_LISTEN": told["addresses"][0]},
            restarts="FAKE_RESTARTS",
            **more,  # type: ignore[arg-type]  # start_s, drain_s
        )
        return Managed(spec, say)

    return build


async def test_a_proxy_does_not_stand_between_it_and_its_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with running(settings(), FakeApp, "fake") as server:
        assert await serves({"addresses": [server.address]})


async def test_it_comes_back_where_it_was(make: Callable[..., Managed], said: list[str]) -> None:
    process = make()
    first = await process.start()
    pid = process.pid
    assert pid is not None
    assert process.memory_bytes() > 1_000_000
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.pid not in {None, pid} and "fake serves again" in said)
    assert process.ready["addresses"] == first["addresses"]
    assert process.ready["pid"] != first["pid"]
    assert process.restarts == 1
    assert said[0] == "fake was killed by SIGKILL; it is started again in 0.5 s"
    await process.stop()
    assert process.pid is None


async def test_one_that_cannot_start_says_why(make: Callable[..., Managed]) -> None:
    process = make("fails")
    with pytest.raises(StartError, match="the model is missing: fetch it") as caught:
        await process.start()
    assert "ended with code 1" in str(caught.value)
    assert "fake.log" in str(caught.value)
    await process.stop()


async def test_starts_that_fail_alike_are_told_once_with_a_count(
    make: Callable[..., Managed], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_process, "FIRST_DELAY_S", 0.001)
    repeats = Repeats(said.append)
    process = make("fails-again", say=repeats.say)
    await process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process.restarts >= 4)
    await process.stop()
    repeats.end()
    killed, failed, again, count = said
    assert killed == "fake was killed by SIGKILL; it is started again in 0.001 s"
    assert failed.startswith("fake ended with code 1\nthe model is missing: fetch it")
    assert again == "fake ended with code 1; it is started again in 0.002 s"
    assert count.startswith("(the same ")
    assert "times more, lastly: fake ended with code 1; it is started again in 0.0" in count


async def test_one_that_does_not_drain_is_killed(make: Callable[..., Managed], said: list[str]) -> None:
    process = make("stubborn", drain_s=0.3)
    await process.start()
    await process.stop()
    assert process.pid is None
    assert "did not end within 0.3 s" in said[-1]


async def test_stopping_is_no_crash(make: Callable[..., Managed], said: list[str]) -> None:
    process = make()
    await process.start()
    await process.stop()
    await process.stop()
    assert said == []
    assert process.restarts == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with code 0"),
        (70, "gave up, as its log says, with code 70"),
        (-9, "was killed by SIGKILL"),
        (-200, "was killed by signal 200"),
    ],
)
def test_how_it_ended(code: int, words: str) -> None:
    assert how_it_ended(code) == words
