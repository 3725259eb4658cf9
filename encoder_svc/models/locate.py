"""The places of an open_clip model's configuration, weights and tokenizer. Imports open_clip, and so torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import open_clip
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

import lensmesh_shapes
from encoder_svc.models.sources import Form, Source, cached_on_hub
from lensmesh_inference.models import model_error

_SUFFIXES: Final = (".pt", ".pth", ".bin", ".safetensors")
_log = logging.getLogger(__name__)
CachedFile: TypeAlias = Callable[..., Path | None]


@dataclass(frozen=True)
class Located:
    """The arguments of `open_clip.create_model`. `model_config` is open_clip's own description of the two towers."""

    create_name: str
    pretrained: str | None
    model_config: dict[str, Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    tokenizer_folder: Path | None = None
    random: bool = False


def locate(source: Source, *, allow_download: bool, cached: CachedFile = cached_on_hub) -> Located:
    """Find a model on this machine, or fetch it where that is allowed. Raises ``PreconditionFailed`` with the fix.

    `cached` looks into the hub's cache. It takes a repository and names of its files, and returns the first that is
    there.
    """
    match source.form:
        case Form.SHAPES:
            return _in_folder(source, Path(lensmesh_shapes.CLIP_DIR))
        case Form.FOLDER:
            return _in_folder(source, Path(source.where))
        case Form.HUB:
            return _on_hub(source, allow_download, cached)
        case Form.TAG:
            return _by_tag(source, allow_download, cached)
        case Form.CHECKPOINT:
            return _by_checkpoint(source)
        case Form.RANDOM:
            _log.warning("%s has random weights, as its name asks: its vectors mean nothing", source.name)
            return Located(source.architecture, None, _architecture(source), random=True)
    raise model_error(f"{source.name!r} is no open_clip model.")


def _in_folder(source: Source, folder: Path) -> Located:
    config = folder / HF_CONFIG_NAME
    if not config.is_file():
        raise model_error(f"{source.name}: {config} is missing; an open_clip folder holds it beside the weights.")
    if not any(path.suffix in _SUFFIXES for path in folder.iterdir()):
        raise model_error(f"{source.name}: {folder} holds no weights (*.safetensors, *.bin, *.pth).")
    return Located(f"local-dir:{folder}", None, _read_config(config), tokenizer_folder=folder)


def _on_hub(source: Source, allow_download: bool, cached: CachedFile) -> Located:
    files = [cached(source.where, name) for name in (HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)]
    config, weights = files[0], files[1] or files[2]
    if config is None or weights is None:
        if not allow_download:
            raise model_error(_not_here(source))
        try:
            config = Path(download_pretrained_from_hf(source.where, filename=HF_CONFIG_NAME))
            weights = Path(download_pretrained_from_hf(source.where))
        except Exception as error:
            raise model_error(f"{source.name} cannot be fetched: {error}") from error
    if config.parent != weights.parent:
        raise model_error(f"{source.name}: the cache holds its files in different revisions; remove it from the cache.")
    # From here on it is a folder like any other, and nothing asks the network. The tokenizer may be another
    # repository's.
    return Located(f"local-dir:{config.parent}", None, _read_config(config))


def _by_tag(source: Source, allow_download: bool, cached: CachedFile) -> Located:
    model_config = _architecture(source)
    facts = open_clip.get_pretrained_cfg(source.architecture, source.where)
    if not facts:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(source.architecture)) or "none"
        raise model_error(f"{source.name}: open_clip knows no such weights of {source.architecture}; it knows: {tags}.")
    weights = cached_weights(facts, cached)
    if weights is None:
        if not allow_download:
            raise model_error(_not_here(source))
        try:
            weights = Path(open_clip.download_pretrained(facts))
        except Exception as error:
            raise model_error(f"{source.name} cannot be fetched: {error}") from error
    quick_gelu = bool(facts.get("quick_gelu")) and not model_config.get("quick_gelu")
    if quick_gelu:
        # open_clip only warns here, and its vectors are then subtly wrong.
        _log.warning("%s was trained with QuickGELU, which its name lacks: it is loaded with QuickGELU", source.name)
        model_config["quick_gelu"] = True
    # What open_clip itself would take from the tag, had it found the weights; the model knows its own size.
    preprocess = {key: facts[key] for key in ("mean", "std", "interpolation", "resize_mode") if facts.get(key)}
    return Located(source.architecture, str(weights), model_config, preprocess, quick_gelu)


def _by_checkpoint(source: Source) -> Located:
    model_config = _architecture(source)
    path = Path(source.where)
    if not path.is_file():
        raise model_error(f"{source.name}: there is no file {path}.")
    if path.suffix not in _SUFFIXES:
        raise model_error(f"{source.name}: the name of a checkpoint ends in one of {', '.join(_SUFFIXES)}.")
    if "openai" in path.name.lower() and not model_config.get("quick_gelu"):
        _log.warning("%s: OpenAI's weights need QuickGELU; use %s-quickgelu", source.name, source.architecture)
    return Located(source.architecture, str(path), model_config)


def cached_weights(facts: Mapping[str, Any], cached: CachedFile) -> Path | None:
    """Return the weights' file of one of open_clip's pretrained tags; None where it is not here. Asks no network."""
    if facts.get("hf_hub"):
        repository, _, filename = str(facts["hf_hub"]).rpartition("/")
        filename = filename or HF_WEIGHTS_NAME
        safe = HF_SAFE_WEIGHTS_NAME if filename == HF_WEIGHTS_NAME else str(Path(filename).with_suffix(".safetensors"))
        return cached(repository, safe, filename)
    if facts.get("url"):
        # open_clip's own cache for what lies on no hub.
        path = Path("~/.cache/clip").expanduser() / Path(str(facts["url"])).name
        return path if path.is_file() else None
    return Path(str(facts["file"])) if facts.get("file") else None


def make_tokenizer(located: Located, *, allow_download: bool) -> Any:
    """Make the tokenizer that open_clip would make for this model, from files of this machine if they are there.

    Raises ``PreconditionFailed`` where they are not and may not be downloaded.
    """
    text = located.model_config["text_cfg"]
    name = text.get("hf_tokenizer_name")
    if not name:
        # Reads nothing but its own package, except for SigLIP models of old that name no tokenizer.
        return open_clip.get_tokenizer(located.create_name)
    place = str(located.tokenizer_folder or name)
    arguments = {
        "context_length": text.get("context_length", DEFAULT_CONTEXT_LENGTH),
        "tokenizer_mode": text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    }
    try:
        return HFTokenizer(place, **arguments, local_files_only=True)
    except OSError as error:
        if located.tokenizer_folder is not None or not allow_download:
            raise model_error(f"The tokenizer {place} is not on this machine: {error}") from error
        return HFTokenizer(place, **arguments)


def _architecture(source: Source) -> dict[str, Any]:
    model_config = open_clip.get_model_config(source.architecture)
    if model_config is None:
        raise model_error(f"{source.name}: open_clip knows no architecture {source.architecture!r}.")
    return dict(model_config)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        model_config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise model_error(f"{path} is no open_clip configuration: that is JSON with a key model_cfg.") from error
    if not isinstance(model_config, dict):
        raise model_error(f"{path} is no open_clip configuration: model_cfg is not an object.")
    return model_config


def _not_here(source: Source) -> str:
    return (
        f"The weights of {source.name} are not on this machine: allow the download, or put them into the hub's cache "
        "(HF_HOME) or a folder and name that as local-dir:/PATH."
    )
