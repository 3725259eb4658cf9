"""Small models of open_clip's own classes with random weights, saved as people find them:

folders, hub caches, checkpoints.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import RobertaConfig

import lensmesh_shapes

CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
# As SigLIP is made: no causal mask, the last position pooled, a text tower of its own class, a logit bias.
SIGLIP: dict[str, Any] = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}
COCA: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16}
    | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    "text_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    | {"embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    | {"attn_pooler_heads": 4},
    "custom_text": True,
}
# As MobileCLIP is made: convolutions with branches that fold into one, a text tower without causal mask.
MOBILECLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"timm_model_name": "mobileone_s0", "timm_model_pretrained": False, "timm_pool": "avg"}
    | {"timm_proj": "linear", "image_size": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    | {"no_causal_mask": True},
    "custom_text": True,
}
PREPROCESS: dict[str, dict[str, Any]] = {
    "clip": {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
    "siglip": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"},
    "coca": {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "longest"},
    "mobileclip": {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "shortest"},
}
# The same with a text tower of a class of its own, as EVA's models have it.
CUSTOM: dict[str, Any] = {**CLIP, "custom_text": True}
CONFIGS = {"clip": CLIP, "custom": CUSTOM, "siglip": SIGLIP, "coca": COCA, "mobileclip": MOBILECLIP}
PREPROCESS["custom"] = PREPROCESS["clip"]


def write_config(folder: Path, model_config: dict[str, Any], preprocess: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def write_folder(folder: Path, kind: str = "clip", *, dtype: torch.dtype = torch.float32, seed: int = 1) -> Path:
    """A `local-dir:` folder with random weights of that seed."""
    write_config(folder, CONFIGS[kind], PREPROCESS[kind])
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def write_hub(cache: Path, repository: str, kind: str = "clip") -> Path:
    """A repository as huggingface_hub caches it: blobs are left out, the snapshot holds the files themselves."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    return write_folder(place / "snapshots" / revision, kind)


def write_hugging_face_folder(folder: Path) -> Path:
    """A `local-dir:` folder whose text tower is one of transformers' own, bidirectional, pooled over all tokens."""
    text = folder / "text"
    text.mkdir(parents=True)
    vocabulary = len(json.loads((lensmesh_shapes.CLIP_DIR / "tokenizer.json").read_text())["model"]["vocab"])
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    sizes |= {"vocab_size": vocabulary + 8, "max_position_embeddings": 40}
    RobertaConfig(**sizes).save_pretrained(text)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(lensmesh_shapes.CLIP_DIR / name, folder / name)
    CONFIGS[folder.name] = {
        "embed_dim": 24,
        "vision_cfg": CLIP["vision_cfg"],
        "text_cfg": {"hf_model_name": str(text), "hf_tokenizer_name": str(folder), "hf_model_pretrained": False}
        | {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler", "context_length": 20},
        "custom_text": True,
    }
    PREPROCESS[folder.name] = PREPROCESS["clip"]
    return write_folder(folder, folder.name)
