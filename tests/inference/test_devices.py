"""Devices and precision: what is there is used, what is not there is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_inference.devices import (
    choose_devices,
    choose_precision,
    cpu_has_bfloat16,
    describe_cpu,
    describe_device,
    parse_devices,
    threads_each,
)


def test_auto_takes_cuda_where_torch_sees_it() -> None:
    assert choose_devices("auto")[0].type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert list(choose_devices("cpu")) == [torch.device("cpu")]


@pytest.mark.parametrize("requested", ["cuda:99", "tpu", "meta", "cpu:x", "cpu:", "cpu,cuda:99"])
def test_a_device_that_is_not_there_is_an_error_and_no_silent_fall(requested: str) -> None:
    with pytest.raises(PreconditionFailed, match="auto"):
        choose_devices(requested)


@pytest.mark.parametrize(
    ("requested", "workers"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("cpu:2", ("cpu", "cpu")),
        ("cuda", ("cuda:0",)),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("cuda:3,cpu:2", ("cuda:3", "cpu", "cpu")),
    ],
)
def test_a_setting_names_one_worker_or_several(requested: str, workers: tuple[str, ...]) -> None:
    assert parse_devices(requested) == workers


@pytest.mark.parametrize(
    ("requested", "fix"),
    [
        ("", "use auto, cpu, cpu:N"),
        ("auto,cpu", "use auto, cpu, cpu:N"),
        ("cuda:-1", "use auto, cpu, cpu:N"),
        ("cpu:0", "the limit is 1 to 256"),
        ("cpu:1000", "the limit is 1 to 256"),
        ("cpu,cpu", "name each once"),
        ("cuda,cuda:0", "name each once"),
    ],
)
def test_a_setting_that_names_no_worker_or_one_twice_is_refused_with_the_fix(requested: str, fix: str) -> None:
    with pytest.raises(PreconditionFailed, match=fix) as caught:
        parse_devices(requested)
    assert caught.value.violations[0].field == "device"


def test_cpu_workers_share_the_cores() -> None:
    assert choose_devices("cpu:2") == (torch.device("cpu"), torch.device("cpu"))
    assert threads_each(8, parse_devices("cpu:2")) == 4
    assert threads_each(1, parse_devices("cpu:2")) == 1
    assert threads_each(8, parse_devices("cuda:0,cpu")) == 8


def test_precision_by_hardware() -> None:
    expected = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    assert choose_precision(torch.device("cpu"), "auto") == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_explicit_precision_is_obeyed(precision: str) -> None:
    assert choose_precision(torch.device("cpu"), precision) == getattr(torch, precision)


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(PreconditionFailed, match="bfloat16"):
        choose_precision(torch.device("cpu"), "int8")


def test_the_cpu_describes_itself() -> None:
    facts = describe_device(torch.device("cpu"))
    assert (facts.id, facts.threads) == ("cpu", torch.get_num_threads())
    assert facts.name
    assert 0 < facts.memory_used < facts.memory_total
    assert describe_cpu(3).threads == 3


def test_none_of_the_shared_modules_needs_torch() -> None:
    modules = ("images.decoder", "batching.batcher", "images.pool", "devices", "digest", "canary")
    imports = ", ".join(f"lensmesh_inference.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules or 'grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
