"""An open_clip model that costs nothing: one layer of width 32 over the pixels that ViT-B-32 takes, random weights.

Its answers are as long as ViT-B-32's. It lies in the layout of a model on the hub, so that every server loads it alike.
"""

from __future__ import annotations

import json
from pathlib import Path

_FORM = "local-dir:"
CONFIG = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "patch_size": 32, "layers": 1, "width": 32, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"size": 224, "interpolation": "bicubic", "resize_mode": "shortest"},
}


def name_of(folder: Path) -> str:
    """Return the name of a model in that folder, as in LENSMESH_ENCODER_MODEL."""
    return f"{_FORM}{folder}"


def make_tower(name: str) -> None:
    """Write the model into its new folder. It takes open_clip, which takes seconds to import."""
    import open_clip
    import torch
    from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
    from safetensors.torch import save_file

    folder = Path(name.removeprefix(_FORM))
    folder.mkdir()
    (folder / HF_CONFIG_NAME).write_text(json.dumps(CONFIG))
    torch.manual_seed(7)
    model = open_clip.create_model(name, load_weights=False)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / HF_SAFE_WEIGHTS_NAME)
