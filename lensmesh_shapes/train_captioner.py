"""Training of the bundled BLIP captioner, whose image tower starts from the trained CLIP's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    GenerationConfig,
)

from lensmesh_shapes import CLIP_DIR
from lensmesh_shapes.data import IMAGE_PX, MEAN, PATCH_PX, STD, Batch, batches, pixels
from lensmesh_shapes.loop import Losses, TrainingPlan, train
from lensmesh_shapes.supervision import PatchHeads
from lensmesh_shapes.tokens import END, PAD, START, save_tokenizer, words
from lensmesh_shapes.train_clip import HEAD_WIDTH, WIDTH

CAPTION_TOKENS = 13
"""Tokens of the longest caption, with its start and end."""


def config() -> BlipConfig:
    """Return the configuration of a BLIP of the bundled CLIP's width, with three decoder layers."""
    ids = {word: number for number, word in enumerate(words())}
    heads = WIDTH // HEAD_WIDTH
    shared = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": heads}
    return BlipConfig(
        text_config=shared
        | {
            "encoder_hidden_size": WIDTH,
            "vocab_size": len(ids),
            "num_hidden_layers": 3,
            "max_position_embeddings": 20,
            "bos_token_id": ids[START],
            "eos_token_id": ids[END],
            "sep_token_id": ids[END],
            "pad_token_id": ids[PAD],
        },
        vision_config=shared | {"image_size": IMAGE_PX, "patch_size": PATCH_PX, "num_hidden_layers": 5},
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
    )


def image_tower(clip_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return CLIP's image weights under the names that BLIP's image tower gives them."""
    visual = {
        name.removeprefix("visual."): weight for name, weight in clip_weights.items() if name.startswith("visual.")
    }
    tower = {
        "embeddings.class_embedding": visual["class_embedding"][None, None],
        "embeddings.position_embedding": visual["positional_embedding"][None],
        "embeddings.patch_embedding.weight": visual["conv1.weight"],
        # CLIP's patches have no bias.
        "embeddings.patch_embedding.bias": torch.zeros(WIDTH),
        "post_layernorm.weight": visual["ln_post.weight"],
        "post_layernorm.bias": visual["ln_post.bias"],
    }
    renamed = (
        ("attn.in_proj_weight", "self_attn.qkv.weight"),
        ("attn.in_proj_bias", "self_attn.qkv.bias"),
        ("attn.out_proj.", "self_attn.projection."),
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    )
    for name, weight in visual.items():
        if name.startswith("transformer.resblocks."):
            target = name.replace("transformer.resblocks.", "encoder.layers.")
            for theirs, ours in renamed:
                target = target.replace(theirs, ours)
            tower[target] = weight
    return tower


class CaptionerTraining(nn.Module):
    """The model and the patch heads that only training uses."""

    def __init__(self, clip_folder: Path) -> None:
        super().__init__()
        self.blip = BlipForConditionalGeneration(config())
        weights = load_file(clip_folder / "open_clip_model.safetensors")
        self.blip.vision_model.load_state_dict(image_tower(weights))
        self.patch_heads = PatchHeads(WIDTH)


def export(blip: BlipForConditionalGeneration, folder: Path) -> None:
    """Write the folder that transformers' `from_pretrained` loads."""
    settings: Any = blip.config.text_config
    length: int = settings.max_position_embeddings
    ends = {name: getattr(settings, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    blip.generation_config = GenerationConfig.from_dict({"max_length": length, **ends})
    blip.save_pretrained(folder)
    tokenizer = save_tokenizer(folder, length)
    images = BlipImageProcessor(
        size={"height": IMAGE_PX, "width": IMAGE_PX}, image_mean=list(MEAN), image_std=list(STD)
    )
    processor: Any = BlipProcessor
    processor(images, tokenizer).save_pretrained(folder)
    # Loaders of the image processor alone look for a file of its own.
    images.save_pretrained(folder)


def train_captioner(plan: TrainingPlan, compiled: bool, clip_folder: Path = CLIP_DIR) -> None:
    """Train, or go on training, and export into the plan's folder at every checkpoint."""
    torch.manual_seed(plan.seed)
    training = CaptionerTraining(clip_folder)
    blip = training.blip
    see = torch.compile(blip.vision_model) if compiled else blip.vision_model
    tell = torch.compile(blip.text_decoder) if compiled else blip.text_decoder
    tokenizer = save_tokenizer(plan.folder / "model", CAPTION_TOKENS)

    pad = words().index(PAD)

    def losses_of(batch: Batch) -> Losses:
        ids = tokenizer(batch.texts, padding="max_length", max_length=CAPTION_TOKENS, return_tensors="pt").input_ids
        tokens = see(pixels(batch.images)).last_hidden_state
        told = tell(
            input_ids=ids,
            attention_mask=(ids != pad).long(),
            encoder_hidden_states=tokens,
            labels=ids.masked_fill(ids == pad, -100),
        )
        return {"words": told.loss, "patches": training.patch_heads.loss(tokens[:, 1:], batch)}

    train(
        training,
        losses_of,
        lambda step: batches(plan.seed * 2_000_003 + step, plan.batch, 0.0, "one"),
        lambda: export(blip, plan.folder / "model"),
        plan,
    )
