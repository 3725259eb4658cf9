"""Training of the bundled CLIP: an open_clip model, with scene supervision beside its own loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lensmesh_shapes.data import IMAGE_PX, MEAN, PATCH_PX, STD, Batch, batches, pixels
from lensmesh_shapes.loop import Losses, TrainingPlan, train
from lensmesh_shapes.supervision import PatchHeads, SceneHeads
from lensmesh_shapes.tokens import save_tokenizer, words

WIDTH, HEAD_WIDTH, EMBEDDING = 160, 32, 160
CONTEXT = 20
"""Tokens of a text; the longest training wording needs 18."""


def model_cfg() -> dict[str, Any]:
    """Return the `model_cfg` of open_clip_config.json."""
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "image_size": IMAGE_PX,
            "patch_size": PATCH_PX,
            "layers": 5,
            "width": WIDTH,
            "head_width": HEAD_WIDTH,
            # BLIP's vision tower has no norm before its layers; without one here, the
            # captioner can start from this tower.
            "no_ln_pre": True,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(words()),
            "width": WIDTH,
            "heads": WIDTH // HEAD_WIDTH,
            "layers": 3,
            "hf_tokenizer_name": "lensmesh-shapes",
        },
    }


def preprocess_cfg() -> dict[str, object]:
    """Return the `preprocess_cfg` of open_clip_config.json."""
    return {
        "size": IMAGE_PX,
        "mode": "RGB",
        "mean": MEAN,
        "std": STD,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }


def new_model() -> CLIP:
    """Make an untrained CLIP of the pack's shape."""
    cfg = model_cfg()
    text_cfg = {key: value for key, value in cfg["text_cfg"].items() if key != "hf_tokenizer_name"}
    return CLIP(EMBEDDING, CLIPVisionCfg(**cfg["vision_cfg"]), CLIPTextCfg(**text_cfg))


class ClipTraining(nn.Module):
    """The model and the heads that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = new_model()
        self.clip.visual.output_tokens = True
        self.patch_heads = PatchHeads(WIDTH)
        self.scene_heads = SceneHeads(EMBEDDING)


def export(clip: CLIP, folder: Path) -> None:
    """Write the folder that open_clip's `local-dir:` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().contiguous() for name, weight in clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {"model_cfg": model_cfg(), "preprocess_cfg": preprocess_cfg()}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_tokenizer(folder, CONTEXT)


def train_clip(plan: TrainingPlan, compiled: bool) -> None:
    """Train, or go on training, and export into the plan's folder at every checkpoint."""
    torch.manual_seed(plan.seed)
    training = ClipTraining()
    clip = training.clip
    see = torch.compile(clip.visual) if compiled else clip.visual
    read = torch.compile(clip.encode_text) if compiled else clip.encode_text
    plan.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(plan.folder / "model", CONTEXT)

    def losses_of(batch: Batch) -> Losses:
        ids = tokenizer(
            batch.texts,
            padding="max_length",
            max_length=CONTEXT,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        seen, tokens = see(pixels(batch.images))
        said = read(ids)
        everything = torch.ones_like(batch.sizes_said)
        return {
            "contrast": contrast(seen, said, clip.logit_scale.clamp(max=4.6)),
            "patches": training.patch_heads.loss(tokens, batch),
            "image": training.scene_heads.loss(seen, batch, everything),
            "text": training.scene_heads.loss(said, batch, batch.sizes_said),
        }

    train(
        training,
        losses_of,
        lambda step: batches(plan.seed * 1_000_003 + step, plan.batch, 0.5, "many"),
        lambda: export(clip, plan.folder / "model"),
        plan,
    )


def contrast(seen: Tensor, said: Tensor, log_scale: Tensor) -> Tensor:
    """Return CLIP's symmetric loss over a batch of image and text embeddings, each [B, width]."""
    logits = log_scale.exp() * normalize(seen) @ normalize(said).T
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
