"""Decoding in processes: the same pixels and the same errors, and none of their deaths is noticed by a caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.pictures.decoder import PictureDecoder, choose_processes
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.messages import Asked
from lensmesh_inference.pictures.processes import DecodeProcesses
from lensmesh_inference.pictures.transform import Transform
from lensmesh_inference.pictures.transparency import Transparency
from tests.inference.pictures.encoded import encoded, noise

LIMITS = ImageLimits(max_pixels=20_000_000)
TRANSFORM = Transform(32, 40, "longest", "bicubic", 117)
SMALL = encoded(noise(), "JPEG")
# Long enough to decode that a test finds the process at it.
LARGE = encoded(noise(size=(2000, 1500)))


def until(condition: Callable[[], bool]) -> None:
    """Importing torch takes minutes on a machine that does much else."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(LIMITS, processes=2)
    yield decoder
    pids = decoder.pids
    decoder.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def in_thread() -> PictureDecoder:
    return PictureDecoder(LIMITS)


def test_the_same_pixels_as_in_a_thread(decoder: PictureDecoder) -> None:
    contents = [
        SMALL,
        encoded(noise("P"), "GIF"),
        encoded(noise(size=(700, 500)), "JPEG"),
        encoded(noise("CMYK"), "JPEG"),
    ]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda content: decoder.prepare(content, TRANSFORM).pixels, contents * 5))
    expected = [in_thread().prepare(content, TRANSFORM).pixels for content in contents] * 5
    assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))
    assert results[0].is_contiguous()


@pytest.mark.parametrize("content", [b"", b"no picture", b"%PDF", SMALL[:600], encoded(noise(size=(1, 201)))])
def test_the_same_errors_as_in_a_thread(decoder: PictureDecoder, content: bytes) -> None:
    with pytest.raises(InvalidInput) as here:
        in_thread().prepare(content, TRANSFORM, "images[3].content")
    with pytest.raises(InvalidInput) as there:
        decoder.prepare(content, TRANSFORM, "images[3].content")
    for name in ("reason", "message", "violations", "metadata"):
        assert getattr(there.value, name) == getattr(here.value, name)
    assert there.value.violations[0].field == "images[3].content"


def test_other_limits_by_the_same_processes(decoder: PictureDecoder) -> None:
    strict = decoder.within(ImageLimits(max_pixels=100))
    with pytest.raises(InvalidInput) as caught:
        strict.prepare(SMALL, TRANSFORM)
    assert caught.value.reason is Reason.IMAGE_TOO_MANY_PIXELS
    assert strict.pids == decoder.pids


def test_a_bug_ends_no_process(decoder: PictureDecoder) -> None:
    pids = decoder.pids
    with pytest.raises(RuntimeError, match="a decoding process failed: Traceback"):
        decoder.prepare(SMALL, Transform(0, 0, "squash", "bicubic"))
    assert decoder.pids == pids
    assert decoder.prepare(SMALL, TRANSFORM).pixels.shape == (3, 32, 40)


def busy(pids: list[int]) -> int:
    """The process that decodes: it alone uses its processor."""
    before = {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids}
    found: list[int] = []

    def one_has_worked() -> bool:
        found[:] = [pid for pid in pids if sum(psutil.Process(pid).cpu_times()[:2]) > before[pid] + 0.02]
        return bool(found)

    until(one_has_worked)
    return found[0]


def test_a_killed_process_is_replaced_and_its_picture_done_again(decoder: PictureDecoder) -> None:
    decoder.prepare(SMALL, TRANSFORM)
    pids = sorted(decoder.pids)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(decoder.prepare, LARGE, TRANSFORM)
        os.kill(busy(pids), signal.SIGKILL)
        assert torch.equal(job.result(300).pixels, in_thread().prepare(LARGE, TRANSFORM).pixels)
    assert len(decoder.pids) == 2
    assert sorted(decoder.pids) != pids


def test_processes_take_the_policy_of_transparency_and_tell_what_they_saw(decoder: PictureDecoder) -> None:
    clear = encoded(Image.new("RGBA", (40, 32), (9, 9, 9, 0)))
    made = decoder.prepare(clear, TRANSFORM, transparency=Transparency.WHITE)
    assert (made.pixels == 255).all()
    assert (made.fully_transparent, made.low_content) == (True, True)
    seen = decoder.prepare(SMALL, TRANSFORM)
    assert (seen.fully_transparent, seen.low_content) == (False, False)


def test_a_process_killed_while_it_waits(decoder: PictureDecoder) -> None:
    os.kill(decoder.pids[0], signal.SIGKILL)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: decoder.prepare(SMALL, TRANSFORM).pixels, range(8)))
    assert all(torch.equal(one, results[0]) for one in results)


class Deadly(Transform):
    """Ends the process that is asked for it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_picture_that_ends_whoever_decodes_it_is_refused(
    decoder: PictureDecoder, caplog: pytest.LogCaptureFixture
) -> None:
    decoder.prepare(SMALL, TRANSFORM)
    with pytest.raises(InvalidInput, match="did not live to answer") as caught:
        decoder.prepare(SMALL, Deadly(32, 32, "squash", "bicubic"), "images[7]")
    assert caught.value.reason is Reason.IMAGE_UNDECODABLE
    assert caught.value.violations[0].field == "images[7]"
    assert caplog.text.count("was lost") == 2
    assert decoder.prepare(SMALL, TRANSFORM).pixels.shape == (3, 32, 40)


def test_a_process_that_hangs_is_replaced() -> None:
    processes = DecodeProcesses(1, picture_s=3)
    asked = Asked(TRANSFORM, LIMITS, "image", scaled=True)
    expected = processes.prepare(SMALL, asked).pixels
    (hanging,) = processes.pids
    os.kill(hanging, signal.SIGSTOP)
    assert torch.equal(processes.prepare(SMALL, asked).pixels, expected)
    assert not psutil.pid_exists(hanging)
    processes.close()


def test_signals_for_the_whole_group_are_for_the_service_alone(decoder: PictureDecoder) -> None:
    decoder.prepare(SMALL, TRANSFORM)
    pids = decoder.pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert decoder.prepare(SMALL, TRANSFORM).pixels.shape == (3, 32, 40)
    assert decoder.pids == pids


def test_nothing_is_left_of_a_service_that_was_killed() -> None:
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.inference.pictures.service_main"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=environment,
    )
    with service:
        assert service.stdout is not None
        pids = [int(pid) for pid in service.stdout.readline().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
        service.kill()
        service.wait()
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_process_knows_torch_and_no_model_library() -> None:
    code = (
        "import sys, lensmesh_inference.pictures.child, lensmesh_inference.pictures.prepare;"
        "sys.exit(', '.join({'open_clip', 'transformers', 'torchvision', 'grpc'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_process_is_started_for_who_only_checks() -> None:
    decoder = PictureDecoder(LIMITS, processes=3)
    decoder.check(SMALL)
    assert decoder.pids == []
    assert decoder.threads > 3
    decoder.close()


@pytest.mark.parametrize(
    ("requested", "on_gpu", "cores", "expected"),
    [(-1, False, 64, 0), (-1, True, 8, 0), (-1, True, 16, 12), (-1, True, 224, 32), (3, False, 2, 3), (0, True, 64, 0)],
)
def test_how_many_unless_told(requested: int, on_gpu: bool, cores: int, expected: int) -> None:
    assert choose_processes(requested, on_gpu=on_gpu, cores=cores) == expected
