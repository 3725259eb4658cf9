"""Decoding in processes: the same pixels and errors as in a thread, and limits that end a process and no service."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from lensmesh_chassis.errors import InternalFault, InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.counts import DecodeCounts
from lensmesh_inference.images.decoder import ImageDecoder, choose_processes
from lensmesh_inference.images.interpreter import Interpreter
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.messages import DecodeRequest
from lensmesh_inference.images.processes import DecodeProcesses
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency
from tests.inference.images import service_main
from tests.inference.images.costly import Deadly, Endless, Greedy, Hanging
from tests.inference.images.encoded import encoded, noise
from tests.support.hostile_images import tiff
from tests.support.waiting import wait_until

LIMITS = ImageLimits(max_pixels=20_000_000)
TRANSFORM = Transform(32, 40, "longest", "bicubic", 117)
ASKED = DecodeRequest(TRANSFORM, LIMITS, "images[7]", scaled=True)
SMALL = encoded(noise(), "JPEG")
MEMORY = 200 * 1024**2
COUNTS = DecodeCounts()


@pytest.fixture(scope="module")
def processes() -> Iterator[DecodeProcesses]:
    processes = DecodeProcesses(2, "pillow", cpu_s=20, counts=COUNTS)
    yield processes
    pids = processes.pids
    processes.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.fixture
def brief() -> Iterator[DecodeProcesses]:
    """One process that may take a fifth of a second for an image."""
    processes = DecodeProcesses(1, "pillow", cpu_s=0.2, answer_s=60, counts=COUNTS)
    yield processes
    processes.close()


def asked(kind: type[Transform]) -> DecodeRequest:
    return DecodeRequest(kind(32, 40, "squash", "bicubic"), LIMITS, "images[7]", scaled=True)


def refused(processes: DecodeProcesses, kind: type[Transform]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        processes.decode(SMALL, asked(kind), memory_bytes=MEMORY)
    assert caught.value.reason is Reason.IMAGE_TOO_COSTLY
    assert caught.value.violations[0].field == "images[7]"
    return caught.value


def test_the_same_pixels_as_in_a_thread(processes: DecodeProcesses) -> None:
    contents = [SMALL, encoded(noise("P"), "GIF"), encoded(noise(size=(700, 500)), "JPEG")]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda one: processes.decode(one, ASKED, memory_bytes=MEMORY)[1], contents * 3))
    expected = [ImageDecoder(LIMITS).prepare(content, TRANSFORM).pixels.numpy() for content in contents] * 3
    for one, other in zip(results, expected, strict=True):
        # Pillow resizes there, torch here.
        assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("content", [b"no image", SMALL[:600], encoded(noise(size=(1, 201)))])
def test_the_same_errors_as_in_a_thread(processes: DecodeProcesses, content: bytes) -> None:
    with pytest.raises(InvalidInput) as here:
        ImageDecoder(LIMITS).prepare(content, TRANSFORM, "images[7]")
    with pytest.raises(InvalidInput) as there:
        processes.decode(content, ASKED, memory_bytes=MEMORY)
    for name in ("reason", "message", "violations", "metadata"):
        assert getattr(there.value, name) == getattr(here.value, name)


def test_the_policy_of_transparency_and_what_was_seen(processes: DecodeProcesses) -> None:
    clear = encoded(Image.new("RGBA", (40, 32), (9, 9, 9, 0)))
    on_white = DecodeRequest(TRANSFORM, LIMITS, "image", scaled=True, transparency=Transparency.WHITE)
    answer, pixels = processes.decode(clear, on_white, memory_bytes=MEMORY)
    assert (pixels == 255).all()
    assert (answer.fully_transparent, answer.low_content) == (True, True)


def test_what_ends_outlives_or_overfills_its_process_is_refused_and_tried_once(
    processes: DecodeProcesses, brief: DecodeProcesses, caplog: pytest.LogCaptureFixture
) -> None:
    before = COUNTS.refused
    assert "ended the process" in refused(processes, Deadly).message
    assert caplog.text.count("was lost (code -11)") == 1
    assert "takes more memory" in refused(processes, Greedy).message
    late = refused(brief, Endless)
    assert "takes more than 0.2 s" in late.message
    assert late.metadata == {"max_decode_seconds": "0.2"}
    assert caplog.text.count("was lost") == 2
    more = {cause: number - before[cause] for cause, number in COUNTS.refused.items()}
    assert more == {"time": 1, "memory": 1, "crashed": 1, "known": 0}
    for one in (processes, brief):
        assert one.decode(SMALL, ASKED, memory_bytes=MEMORY)[1].shape == (3, 32, 40)


def test_a_bug_ends_no_process(processes: DecodeProcesses) -> None:
    processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    pids = processes.pids
    bad = DecodeRequest(Transform(0, 0, "squash", "bicubic"), LIMITS, "image", scaled=True)
    with pytest.raises(RuntimeError, match="a decoding process failed: Traceback"):
        processes.decode(SMALL, bad, memory_bytes=MEMORY)
    assert processes.pids == pids


def test_a_process_killed_while_it_waits_costs_no_image(processes: DecodeProcesses) -> None:
    processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    for pid in processes.pids:
        os.kill(pid, signal.SIGKILL)
    assert processes.decode(SMALL, ASKED, memory_bytes=MEMORY)[1].shape == (3, 32, 40)


def test_a_process_that_hangs_without_working_is_ended() -> None:
    processes = DecodeProcesses(1, "pillow", cpu_s=0.1, answer_s=0.5)
    assert "takes more than 0.1 s" in refused(processes, Hanging).message
    assert processes.pids == []
    processes.close()


def test_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    processes = DecodeProcesses(1, "pillow", cpu_s=1)
    with pytest.raises(InternalFault, match="No decoding process starts"):
        processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    assert processes.pids == []


def test_signals_for_the_whole_group_are_for_the_service_alone(processes: DecodeProcesses) -> None:
    processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    pids = processes.pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert processes.decode(SMALL, ASKED, memory_bytes=MEMORY)[1].shape == (3, 32, 40)
    assert processes.pids == pids


def test_what_libraries_write_is_one_line_of_the_log(
    processes: DecodeProcesses, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Tags that libtiff does not know, each of them worth a line to it.
    odd = [(number, 3, 1, 1) for number in range(40_000, 43_000)]
    content = tiff(
        [
            *((256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (273, 4, 1, 8)),
            *((277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 9), *odd),
        ]
    )
    caplog.set_level("INFO")
    before = COUNTS.dropped_lines
    with pytest.raises(InvalidInput):
        processes.decode(content, ASKED, memory_bytes=MEMORY)
    assert len(caplog.records) <= 1
    processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    assert len(caplog.records) == 1
    assert "lines of its libraries are dropped" in caplog.text
    assert COUNTS.dropped_lines > before
    assert capfd.readouterr() == ("", "")


def test_what_libraries_write_is_read_before_the_next_image(
    processes: DecodeProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process tells a damaged TIFF by lines that become more: one reader too late, and it was taken for good."""
    said, free = Interpreter.said, []

    def watched(process: Interpreter) -> tuple[int, str]:
        free.append(process in processes._idle)
        return said(process)

    monkeypatch.setattr(Interpreter, "said", watched)
    processes.decode(SMALL, ASKED, memory_bytes=MEMORY)
    assert free == [False]


def test_processes_that_know_torch_resize_with_it_and_nothing_is_left_of_a_service_that_was_killed() -> None:
    root = Path(__file__).resolve().parents[3]
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.inference.images.service_main"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with service:
        assert service.stdout is not None
        digest, *pids = service.stdout.readline().split()
        here = ImageDecoder(ImageLimits()).prepare(service_main.CONTENT, service_main.TRANSFORM).pixels.numpy()
        assert digest == hashlib.sha256(here.tobytes()).hexdigest()
        assert len(pids) == 2
        assert all(psutil.pid_exists(int(pid)) for pid in pids)
        service.kill()
        service.wait()
        wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids))


def test_a_process_knows_no_model_library_and_a_small_one_no_torch() -> None:
    code = (
        "import sys, lensmesh_inference.images.child as child; child._settle(sys.argv[1]);"
        "import lensmesh_inference.images.raster, lensmesh_inference.images.header;"
        "sys.exit(', '.join(set(sys.argv[2:]) & set(sys.modules)) or None)"
    )
    heavy = ["open_clip", "transformers", "torchvision", "grpc", "torch"]
    done = subprocess.run([sys.executable, "-c", code, "pillow", *heavy], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_process_is_started_for_what_is_cheap() -> None:
    decoder = ImageDecoder(LIMITS)
    decoder.check(SMALL)
    assert torch.equal(decoder.prepare(SMALL, TRANSFORM).pixels, decoder.prepare(SMALL, TRANSFORM).pixels)
    assert decoder.pids == []
    decoder.close()


@pytest.mark.parametrize(
    ("requested", "on_gpu", "cores", "expected"),
    [(-1, False, 64, 0), (-1, True, 8, 0), (-1, True, 16, 12), (-1, True, 224, 32), (3, False, 2, 3), (0, True, 64, 0)],
)
def test_how_many_unless_told(requested: int, on_gpu: bool, cores: int, expected: int) -> None:
    assert choose_processes(requested, on_gpu=on_gpu, cores=cores) == expected
