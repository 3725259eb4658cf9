"""From a name in a setting to a model: every form, every trap, and what `auto` means."""

from __future__ import annotations

import json
import logging
import random
import string
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file

import lensmesh_shapes
from encoder_svc.model import EncoderModel
from encoder_svc.models.description import preprocessing_facts
from encoder_svc.models.load import load_model, load_models
from encoder_svc.models.locate import Located, locate
from encoder_svc.models.sources import FORMS, Form, parse_source
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_inference.digest import weights_digest
from lensmesh_inference.models import ModelKind, split_names
from tests.encoder.tiny import CONFIGS, PREPROCESS, write_config, write_folder
from tests.support.hugging_face import roberta_like, wrapped

SETTINGS = EncoderSettings(precision="float32", allow_download=False)


@pytest.fixture
def tiny_architecture(tmp_path: Path) -> str:
    """The name of an architecture that open_clip knows and a test can afford."""
    config = tmp_path / "lensmesh-tiny.json"
    config.write_text(json.dumps(CONFIGS["clip"]))
    open_clip.add_model_config(config)
    return config.stem


@pytest.mark.parametrize(
    ("name", "form", "architecture", "where"),
    [
        ("mock", Form.MOCK, "", ""),
        ("mock-768", Form.MOCK, "", ""),
        ("shapes", Form.SHAPES, "", ""),
        ("ViT-B-32/laion2b_s34b_b79k", Form.TAG, "ViT-B-32", "laion2b_s34b_b79k"),
        ("hf-hub:org/name", Form.HUB, "", "org/name"),
        ("local-dir:/models/x", Form.FOLDER, "", "/models/x"),
        ("ViT-B-32@/models/x.pt", Form.CHECKPOINT, "ViT-B-32", "/models/x.pt"),
        ("ViT-B-32/random", Form.RANDOM, "ViT-B-32", ""),
    ],
)
def test_names(name: str, form: Form, architecture: str, where: str) -> None:
    source = parse_source(name)
    assert (source.form, source.architecture, source.where) == (form, architecture, where)


@pytest.mark.parametrize("name", ["ViT-B-32", "", "/x", "x/", "local-dir:", "hf-hub:", "@/x", "ViT-B-32@"])
def test_a_name_without_weights_is_refused_and_never_random(name: str) -> None:
    with pytest.raises(PreconditionFailed, match="ARCH/TAG"):
        parse_source(name)


def test_several_names() -> None:
    assert split_names(" shapes, mock ,", FORMS) == ["shapes", "mock"]
    for wrong in ("", " , ", "mock,shapes,mock"):
        with pytest.raises(PreconditionFailed):
            split_names(wrong, FORMS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoSuchArch/x", "architecture"),
        ("ViT-B-32/no_such_tag", "laion2b_s34b_b79k"),
        ("ViT-B-32/laion2b_s34b_b79k", "not on this machine"),
        ("hf-hub:lensmesh/no-such-model", "not on this machine"),
        ("local-dir:/nowhere", "open_clip_config.json"),
        ("ViT-B-32@/nowhere.pt", "no file"),
        ("NoSuchArch/random", "architecture"),
    ],
)
def test_what_cannot_be_served_says_why(name: str, said: str) -> None:
    with pytest.raises(PreconditionFailed, match=said):
        load_model(name, SETTINGS)


def test_folders_that_lack_something(tmp_path: Path) -> None:
    write_config(tmp_path / "bare", CONFIGS["clip"], PREPROCESS["clip"])
    with pytest.raises(PreconditionFailed, match="no weights"):
        load_model(f"local-dir:{tmp_path / 'bare'}", SETTINGS)
    folder = write_folder(tmp_path / "broken")
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(PreconditionFailed, match="model_cfg"):
        load_model(f"local-dir:{folder}", SETTINGS)
    folder = write_folder(tmp_path / "other")
    write_config(folder, {**CONFIGS["clip"], "embed_dim": 25}, PREPROCESS["clip"])
    with pytest.raises(PreconditionFailed, match="cannot be loaded"):
        load_model(f"local-dir:{folder}", SETTINGS)


def space(model: EncoderModel) -> str:
    return model.facts.spaces[0].id


def test_the_space_is_the_models_and_not_the_files(tmp_path: Path) -> None:
    one = load_model(f"local-dir:{write_folder(tmp_path / 'one')}", SETTINGS)
    copy = load_model(f"local-dir:{write_folder(tmp_path / 'copy')}", SETTINGS)
    other = load_model(f"local-dir:{write_folder(tmp_path / 'other', seed=2)}", SETTINGS)
    assert space(one) == space(copy)
    assert one.facts.weights_digest == weights_digest(load_file(tmp_path / "one" / "open_clip_model.safetensors"))
    assert space(one) != space(other)
    squash = {**PREPROCESS["clip"], "resize_mode": "squash"}
    write_config(tmp_path / "copy", CONFIGS["clip"], squash)
    squashed = load_model(f"local-dir:{tmp_path / 'copy'}", SETTINGS)
    assert squashed.facts.weights_digest == one.facts.weights_digest
    assert space(squashed) != space(one)


def test_the_seeded_model_has_a_golden_space(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIGS["clip"], PREPROCESS["clip"])
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    # Numbers that no random generator has a say in.
    tensors = {
        name: torch.arange(tensor.numel(), dtype=torch.float32).remainder(97).div(1000).reshape(tensor.shape)
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    facts = load_model(f"local-dir:{tmp_path}", SETTINGS).facts
    assert [facts.weights_digest, *(one.id for one in facts.spaces)] == [
        "dfabaeb8423ef05f2ad5f3d68dbec7d6833aab9316f059d68d814c1f95975f79",
        "vs1-76ce6ac4d2d414cd070c998b4526fdb5",
        "vs1-00540dbe0cc36650ad84a36b910f7c17",
        # On white.
        "vs1-9460c8a6800ea54473cb2bff1d991056",
        "vs1-8574a097cbf1c15e8cc6ee66bc1fa572",
    ]


def test_checkpoints_load_safely(tmp_path: Path, tiny_architecture: str) -> None:
    torch.manual_seed(3)
    state = open_clip.create_model(tiny_architecture).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "trained.pt")
    save_file(state, tmp_path / "plain.safetensors")
    trained = load_model(f"{tiny_architecture}@{tmp_path / 'trained.pt'}", SETTINGS)
    plain = load_model(f"{tiny_architecture}@{tmp_path / 'plain.safetensors'}", SETTINGS)
    assert space(trained) == space(plain)
    assert trained.facts.name == f"{tiny_architecture}@{tmp_path / 'trained.pt'}"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"state_dict": state, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(PreconditionFailed, match="cannot be loaded"):
        load_model(f"{tiny_architecture}@{tmp_path / 'evil.pt'}", SETTINGS)
    assert not (tmp_path / "owned").exists()


def test_random_weights_only_by_name_and_the_same_every_time(
    tiny_architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = load_model(f"{tiny_architecture}/random", SETTINGS)
    assert "random weights" in caplog.text
    assert space(one) == space(load_model(f"{tiny_architecture}/random", SETTINGS))


def test_quick_gelu_is_corrected_where_the_tag_tells_and_warned_of_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def by_tag(name: str) -> Located:
        return locate(parse_source(name), allow_download=False, cached=lambda *_: tmp_path / "weights.safetensors")

    located = by_tag("ViT-B-32/openai")
    assert located.quick_gelu
    assert "QuickGELU" in caplog.text
    assert located.model_config == by_tag("ViT-B-32-quickgelu/openai").model_config
    assert not by_tag("ViT-B-32-quickgelu/openai").quick_gelu
    assert not by_tag("ViT-B-32/laion2b_s34b_b79k").quick_gelu
    caplog.clear()
    openai = tmp_path / "openai.pt"
    openai.write_bytes(b"")
    locate(parse_source(f"ViT-B-32@{openai}"), allow_download=False)
    assert "ViT-B-32-quickgelu" in caplog.text


def test_auto_takes_the_real_model_where_it_is_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    name = f"local-dir:{write_folder(tmp_path / 'real')}"
    (model,) = load_models(SETTINGS.model_copy(update={"real_model": name}))
    assert (model.facts.name, model.facts.kind) == (name, ModelKind.LOCAL)
    assert f"model auto: {name}" in caplog.text


def test_auto_takes_the_shapes_pack_where_the_real_weights_are_missing(caplog: pytest.LogCaptureFixture) -> None:
    # allow_download is for models that are named: auto asks no network whatever it says.
    (model,) = load_models(EncoderSettings(allow_download=True, real_model="hf-hub:lensmesh/no-such-model"))
    assert (model.facts.name, model.facts.kind) == ("shapes", ModelKind.DEMONSTRATION)
    assert model.facts.requested_device == "auto"
    assert "drawn scenes only" in caplog.text
    assert "not on this machine" in caplog.text


def test_weights_that_answer_nan_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "nan")
    file = folder / "open_clip_model.safetensors"
    tensors = load_file(file)
    tensors["visual.proj"][:] = float("nan")
    save_file(tensors, file)
    with pytest.raises(PreconditionFailed, match="its weights are damaged"):
        load_model(f"local-dir:{folder}", SETTINGS)


def test_an_endless_word_is_cut_before_it_costs_seconds_and_tokens_stay_open_clips_own(tmp_path: Path) -> None:
    model = load_model(f"local-dir:{write_folder(tmp_path / 'clip')}", SETTINGS)
    letters = "".join(random.Random(4).choices(string.ascii_lowercase, k=1500))
    prepared = model.prepare_text(f"a cat {letters} and a dog")
    assert prepared.truncated
    assert prepared.data.tolist() == open_clip.get_tokenizer("ViT-B-32")([f"a cat {letters} and a dog"])[0].tolist()
    assert not model.prepare_text("a cat and a dog").truncated


def test_another_normalizer_or_other_merges_of_one_vocabulary_make_another_space(tmp_path: Path) -> None:
    names: list[dict[str, str]] = []
    changes: list[dict[str, Any]] = [{}, {"normalizer": {"type": "Lowercase"}}, {"merges": True}]
    for change in changes:
        folder = tmp_path / str(len(names))
        wrapped(roberta_like()).save_pretrained(str(folder))
        file = folder / "tokenizer.json"
        state = json.loads(file.read_text())
        if change.pop("merges", None):
            state["model"]["merges"].reverse()
        file.write_text(json.dumps(state | change))
        names.append(preprocessing_facts(PREPROCESS["clip"] | {"size": 32}, HFTokenizer(str(folder)))["text"])
    assert len({facts["vocabulary"] for facts in names}) == 1
    assert len({facts["tokenization"] for facts in names}) == 3


def test_what_the_spaces_of_the_bundled_and_of_plain_models_are_made_of_stays() -> None:
    """Their ids are those of before a tokenizer's other parts were looked at."""
    config = PREPROCESS["clip"] | {"size": 32}
    bundled = HFTokenizer(str(lensmesh_shapes.CLIP_DIR), context_length=20)
    assert preprocessing_facts(config, bundled)["text"] == {
        "tokenizer": "HFTokenizer",
        "vocabulary": "96a210e1de42c08ca328a4f84c027a107a9a17383a1727208ca71f116a5d66e5",
        "context": 20,
    }
    assert set(preprocessing_facts(config, open_clip.get_tokenizer("ViT-B-32"))["text"]) == {
        "tokenizer", "vocabulary", "context"
    }  # fmt: skip
