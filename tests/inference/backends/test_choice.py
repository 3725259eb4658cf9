"""Which backend and which numbers: by name, by measurement, from an earlier start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_inference.backends import choice, openvino_import, openvino_tower, torch_backend
from lensmesh_inference.backends.choice import open_towers
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.tower import Placement, TowerSpec
from tests.inference.backends.networks import PLACE, Moody, network


@pytest.fixture
def folder(tmp_path: Path) -> CompiledFolder:
    return CompiledFolder(tmp_path / "compiled")


@pytest.fixture(autouse=True)
def worth_converting(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small these networks are."""
    monkeypatch.setattr(choice, "_WORTH_CONVERTING", 1)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that were converted, in order."""
    seen: list[str] = []
    real = openvino_tower.convert

    def convert(spec: TowerSpec) -> object:
        seen.append(spec.digest)
        return real(spec)

    monkeypatch.setattr(openvino_tower, "convert", convert)
    return seen


@pytest.mark.parametrize(
    ("backend", "precision"), [("torch", "float32"), ("openvino", "float32"), ("torch", "bfloat16")]
)
def test_every_backend_computes_the_same(backend: str, precision: str, folder: CompiledFolder) -> None:
    net = network()
    (tower,) = open_towers(net, backend, precision, [PLACE], folder)
    assert (tower.name, tower.backend, tower.precision) == ("image", backend, precision)
    with torch.no_grad():
        expected = net.module(net.example).numpy()
    for rows in (1, 3, 4):
        output = tower.run(net.example[:rows])
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected[:rows], atol=1e-5 if precision == "float32" else 0.03)


def test_an_answer_is_the_callers_own(folder: CompiledFolder) -> None:
    """A backend that gives out its own buffer would change earlier answers."""
    net = network()
    (tower,) = open_towers(net, "openvino", "float32", [PLACE], folder)
    first = tower.run(net.example)
    kept = first.copy()
    tower.run(255 - net.example)
    np.testing.assert_array_equal(first, kept)


def test_scaling_stays_exact_in_bfloat16() -> None:
    module = network().module
    scale = module.get_buffer("scale").clone()
    low = module.to(torch.bfloat16)
    assert low.get_buffer("scale").dtype == torch.float32
    torch.testing.assert_close(low.get_buffer("scale"), scale, rtol=0, atol=0)


def test_auto_measures_says_so_and_remembers(folder: CompiledFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        (tower,) = open_towers(network(), "auto", "auto", [PLACE], folder)
    assert f"image tower: {tower.backend} {tower.precision}, by measurement" in caplog.text
    assert "openvino float32" in caplog.text
    assert "torch float32" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        (again,) = open_towers(network(), "auto", "auto", [PLACE], folder)
    assert (again.backend, again.precision) == (tower.backend, tower.precision)
    assert "as measured at an earlier start" in caplog.text
    assert "by measurement" not in caplog.text


def test_small_networks_are_not_worth_a_conversion(
    folder: CompiledFolder, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    size = sum(weight.numel() for weight in net.module.parameters())
    for least, made in ((size + 1, []), (size, [net.digest])):
        monkeypatch.setattr(choice, "_WORTH_CONVERTING", least)
        open_towers(net, "auto", "float32", [PLACE], folder)
        assert conversions == made


def test_auto_takes_the_fastest(folder: CompiledFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for winner in ("torch", "openvino"):
        monkeypatch.setattr(
            choice,
            "_fastest",
            lambda towers, batch, winner=winner: {one: 1.0 if one.backend == winner else 2.0 for one in towers},
        )
        (tower,) = open_towers(network(digest=winner), "auto", "auto", [PLACE], folder)
        assert tower.backend == winner


def test_a_restart_converts_nothing(folder: CompiledFolder, conversions: list[str]) -> None:
    for digest in ("one", "one", "two"):
        open_towers(network(digest=digest), "openvino", "float32", [PLACE, PLACE], folder)
    assert conversions == ["one", "two"]


def test_a_damaged_model_is_converted_again(tmp_path: Path, conversions: list[str]) -> None:
    folder = CompiledFolder(tmp_path)
    open_towers(network(), "openvino", "float32", [PLACE], folder)
    (weights,) = tmp_path.glob("image-openvino-*/model.bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    (tower,) = open_towers(network(), "openvino", "float32", [PLACE], folder)
    assert len(conversions) == 2
    assert np.isfinite(tower.run(network().example)).all()


def test_what_cannot_be_converted_falls_back_under_auto(
    folder: CompiledFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (tower,) = open_towers(network(Moody), "auto", "float32", [PLACE], folder)
    assert tower.backend == "torch"
    assert "openvino float32 cannot be used" in caplog.text


def test_what_cannot_be_converted_is_an_error_by_name(folder: CompiledFolder) -> None:
    with pytest.raises(PreconditionFailed, match="Set it to auto or torch") as caught:
        open_towers(network(Moody), "openvino", "float32", [PLACE], folder)
    assert len(caught.value.message) < 1000
    assert "Traceback" not in caught.value.message


def test_openvino_by_name_where_it_is_not_installed(folder: CompiledFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_import, "installed", lambda: False)
    with pytest.raises(PreconditionFailed, match=r"lensmesh\[openvino\]"):
        open_towers(network(), "openvino", "auto", [PLACE], folder)
    (tower,) = open_towers(network(), "auto", "float32", [PLACE], folder)
    assert tower.backend == "torch"


def test_numbers_that_come_out_wrong_are_not_chosen(
    folder: CompiledFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = torch_backend.open_torch

    def wrong(net: TowerSpec, precision: str, places: Sequence[Placement], *, record: bool) -> list[object]:
        return [*real(net, precision, places)] if precision == "float32" else [Zero()]

    class Zero:
        name, backend, precision = "image", "torch", "bfloat16"

        def run(self, batch: torch.Tensor) -> np.ndarray:
            return np.full((len(batch), 6), np.nan, np.float32)

    monkeypatch.setattr(choice, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(torch_backend, "open_torch", wrong)
    (tower,) = open_towers(network(), "torch", "auto", [PLACE], folder)
    assert tower.precision == "float32"
    assert "torch bfloat16 is not used, its cosine to float32 is nan" in caplog.text


def test_bfloat16_is_no_candidate_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has, numbers in ((False, {"float32"}), (True, {"float32", "bfloat16"})):
        monkeypatch.setattr(choice, "cpu_has_bfloat16", lambda has=has: has)
        assert {one.precision for one in choice.possible("auto", "auto", [cpu])} == numbers
