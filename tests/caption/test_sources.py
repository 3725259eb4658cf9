"""What the names in the settings mean, and weights that are refused."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from caption_svc.models.sources import ModelChoice, choose_models, load_model
from lensmesh_chassis.errors import LensmeshError, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.models import ModelKind
from lensmesh_inference.options import ComputeOptions
from lensmesh_shapes import CAPTIONER_DIR
from tests.caption.fakes import ON_CPU


def load(folder: Path) -> object:
    return load_model(ModelChoice("m", ModelKind.LOCAL, folder), ON_CPU, allow_download=False)


def test_names_in_their_order(tiny_folder: Path) -> None:
    names = f" mock, shapes,acme/some-blip , local-dir:{tiny_folder},{tiny_folder}"
    assert [(one.name, one.kind, one.folder) for one in choose_models(names, "")] == [
        ("mock", ModelKind.MOCK, None),
        ("shapes", ModelKind.DEMONSTRATION, CAPTIONER_DIR),
        ("acme/some-blip", ModelKind.LOCAL, None),
        (f"local-dir:{tiny_folder}", ModelKind.LOCAL, tiny_folder),
        (str(tiny_folder), ModelKind.LOCAL, tiny_folder),
    ]


def test_auto_takes_a_folder_too(tiny_folder: Path) -> None:
    (choice,) = choose_models("auto", f"local-dir:{tiny_folder}")
    assert choice.folder == tiny_folder
    assert choice.name == f"local-dir:{tiny_folder}"
    assert "auto" in choice.why


@pytest.mark.parametrize("names", ["", " , ", "mock,mock", "/no/such/folder", "local-dir:/no/such", "a b", "x/y/z"])
def test_names_that_mean_nothing_are_refused(names: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        choose_models(names, "acme/none")
    assert caught.value.reason is Reason.OPTION_INVALID
    assert caught.value.violations[0].field == "model"


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def test_a_folder_without_weights(tmp_path: Path, tiny_folder: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFound, match=r"config\.json and"):
        load(folder)


def test_a_missing_tensor_is_not_made_up(tmp_path: Path, tiny_folder: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_model.embeddings.position_embedding"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PreconditionFailed, match=r"vision_model\.embeddings\.position_embedding"):
        load(folder)


def test_another_kind_of_model(tmp_path: Path, tiny_folder: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PreconditionFailed, match="'bert'"):
        load(folder)


class Trap:
    """What a hostile checkpoint would run while it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(LensmeshError, match="cannot be loaded"):
        load(folder)
    assert not (tmp_path / "mark").exists()


def test_a_checkpoint_of_tensors_alone_is_loaded(tmp_path: Path, tiny_folder: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with_pickle, with_safetensors = load(folder), load(tiny_folder)
    assert with_pickle.facts.weights_digest == with_safetensors.facts.weights_digest  # type: ignore[attr-defined]


def test_a_device_that_is_not_there_is_refused(tiny_folder: Path) -> None:
    choice = ModelChoice("m", ModelKind.LOCAL, tiny_folder)
    with pytest.raises(PreconditionFailed) as caught:
        load_model(choice, ComputeOptions(device="cuda:31"), allow_download=False)
    assert caught.value.violations[0].field == "device"
