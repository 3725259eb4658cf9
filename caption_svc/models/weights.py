"""The files of a BLIP captioner: where they lie, and how they are loaded.

Nothing in a folder is ever run: weights are safetensors, or are read with `weights_only`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensmesh_chassis.errors import LensmeshError, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason

_SMALL_FILES = ["*.json", "*.txt"]
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Parts:
    """A captioner as transformers loads it: float32, on the CPU, ready for inference.

    A BlipForConditionalGeneration, a PreTrainedTokenizerBase and a BaseImageProcessor; the types that transformers
    gives their methods differ from release to release and miss half of what they return.
    """

    network: Any
    tokenizer: Any
    image_processor: Any


def cached_folder(hub_name: str) -> Path | None:
    """Return the hub cache's newest complete copy of a model, or None where there is none. Asks no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError):
        return None
    return folder if has_weights(folder) else None


def fetch_folder(hub_name: str) -> Path:
    """Return the model's folder in the hub cache; download it first where it is not there.

    Raises ``NotFound`` where that fails.
    """
    from huggingface_hub import snapshot_download

    cached = cached_folder(hub_name)
    if cached is not None:
        return cached
    try:
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(hub_name, allow_patterns=[*_SMALL_FILES, weights]))
            if has_weights(folder):
                return folder
    except (OSError, ValueError) as error:
        raise NotFound(
            Reason.MODEL_NOT_SERVED,
            f"The weights of {hub_name!r} are not in the hub cache and cannot be downloaded ({type(error).__name__}): "
            f"run `hf download {hub_name}` on a machine with network, or set the model to a folder or to shapes.",
        ) from error
    raise NotFound(Reason.MODEL_NOT_SERVED, f"{hub_name!r} has no weights: neither {' nor '.join(_WEIGHTS)}.")


def has_weights(folder: Path) -> bool:
    """Return whether a folder has a configuration and weights, as transformers names them."""
    return (folder / "config.json").is_file() and any(next(folder.glob(name), None) for name in _WEIGHTS)


def load_parts(folder: Path) -> Parts:
    """Load a captioner from a folder, never from elsewhere.

    Raises ``NotFound`` where files are missing, and ``PreconditionFailed`` for a folder of another kind of model or
    with weights that do not fill it: transformers would fill the gaps with random numbers.
    """
    if not has_weights(folder):
        raise NotFound(
            Reason.MODEL_NOT_SERVED, f"{folder} is no model folder: it needs config.json and {' or '.join(_WEIGHTS)}."
        )
    try:
        return _load(folder)
    except LensmeshError:
        raise
    except Exception as error:
        # transformers, torch and safetensors each raise what they please, some of it many lines long.
        why = (str(error).strip().splitlines() or [""])[0]
        raise PreconditionFailed(
            Reason.MODEL_NOT_SERVED, f"{folder} cannot be loaded: {type(error).__name__}: {why[:300]}"
        ) from error


def _load(folder: Path) -> Parts:
    import torch
    import transformers

    hub: Any = transformers  # for the same reason as in Parts
    hub.utils.logging.disable_progress_bar()
    network, report = hub.BlipForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, weights_only=True, output_loading_info=True
    )
    if report["missing_keys"]:
        raise PreconditionFailed(
            Reason.MODEL_NOT_SERVED,
            f"{folder} is no BLIP captioner: {len(report['missing_keys'])} tensors are missing, "
            f"{min(report['missing_keys'])} among them.",
        )
    return Parts(
        network.eval(),
        hub.AutoTokenizer.from_pretrained(folder, local_files_only=True),
        # Pillow's resizing is what the models were trained with; torchvision's differs by some grey levels.
        hub.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil"),
    )
