"""Cutting texts to what their tower looks at changes nothing, and is done only where that is so."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from encoder_svc.model import EncoderInput
from encoder_svc.models.tokens import Tokens
from encoder_svc.models.towers import CausalTextTower, ImageTower, TextTower, text_tower, used_tokens
from tests.encoder.tiny import CLIP, COCA, SIGLIP

TEXTS = ["a cat", "", "two small red squares left of a blue circle", "! ! !", "ein Gruß, 日本語", "word " * 100]


def build(config: dict[str, Any], **text: Any) -> Any:
    """A model of open_clip's own classes, random weights."""
    kind = open_clip.CoCa if "multimodal_cfg" in config else None
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    arguments["text_cfg"] = {**config["text_cfg"], **text}
    if kind is None:
        kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    torch.manual_seed(11)
    return kind(**arguments).eval()


def tokens_of(text: str, context: int) -> torch.Tensor:
    tokens: torch.Tensor = open_clip.get_tokenizer("ViT-B-32")([text], context_length=context)[0]
    return tokens


@pytest.mark.parametrize("custom", [False, True], ids=["in the model", "of a class of its own"])
@pytest.mark.parametrize(
    "pool", [{"pool_type": "argmax"}, {"pool_type": "eos", "eos_id": 49407}, {"pool_type": "first"}]
)
def test_a_causal_tower_cut_is_exact(custom: bool, pool: dict[str, Any]) -> None:
    model = build({**CLIP, "custom_text": custom}, **pool)
    tower = text_tower(model)
    assert isinstance(tower, CausalTextTower)
    with torch.inference_mode():
        for text in TEXTS:
            tokens = tokens_of(text, 77)
            whole = model.encode_text(tokens[None], normalize=False)
            used = tower.used(tokens)
            for length in (used, min(77, used + 1), 77):
                torch.testing.assert_close(tower(tokens[None, :length]), whole, rtol=1e-4, atol=1e-5)
    assert tower.used(tokens_of("a cat", 77)) == (1 if pool["pool_type"] == "first" else 4)
    assert tower.used(tokens_of("word " * 100, 77)) == (1 if pool["pool_type"] == "first" else 77)


def test_one_token_too_few_is_another_vector() -> None:
    """The test above would see a cut that goes too far."""
    tower = text_tower(build(CLIP))
    tokens = tokens_of("a cat", 77)
    with torch.inference_mode():
        assert not torch.allclose(tower(tokens[None, :3]), tower(tokens[None, :4]), atol=1e-3)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (SIGLIP, {}),
        (COCA, {}),
        (CLIP, {"no_causal_mask": True}),
        (CLIP, {"pool_type": "last"}),
        ({**CLIP, "custom_text": True}, {"no_causal_mask": True}),
        ({**CLIP, "custom_text": True}, {"embed_cls": True, "output_tokens": True}),
    ],
    ids=["siglip", "coca", "bidirectional", "last", "custom bidirectional", "class token"],
)
def test_no_other_tower_is_cut(config: dict[str, Any], text: dict[str, Any]) -> None:
    model = build(config, **text)
    tower = text_tower(model)
    assert isinstance(tower, TextTower)
    context = config["text_cfg"]["context_length"]
    tokens = tokens_of("a cat", context)
    assert used_tokens(tower)(tokens) == context
    with torch.inference_mode():
        expected = model.encode_text(tokens[None], normalize=False)
        expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(tower(tokens[None]), expected)


@pytest.mark.parametrize("config", [CLIP, SIGLIP, COCA], ids=["clip", "siglip", "coca"])
def test_the_image_tower(config: dict[str, Any]) -> None:
    model = build(config)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ImageTower(model)(pixels), model.encode_image(pixels, normalize=False))


def test_texts_share_batches_with_texts_of_their_length() -> None:
    groups = [EncoderInput("text", None, length=length).group for length in (2, 8, 9, 16, 32, 33, 77)]
    assert len(set(groups)) == 4
    assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4] != groups[5] == groups[6]
    assert EncoderInput("image", None).group not in groups


class Counting:
    """A tokenizer that counts its calls."""

    def __init__(self, context: int) -> None:
        self._inner = open_clip.tokenizer.SimpleTokenizer(context_length=context)
        self.context_length = context
        self.calls = 0

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        self.calls += 1
        tokens: torch.Tensor = self._inner(texts, context_length=context_length)
        return tokens


@pytest.mark.parametrize("context", [8, 16, 77])
def test_tokens_are_open_clips_own_and_made_once_where_they_fit(context: int) -> None:
    tokenizer = Counting(context)
    tokens = Tokens(tokenizer)
    assert tokens.brief_chars == 0, "a short text may wait for a long one in another thread"
    for words in range(100):
        text = "cat ! " * (words // 2) + "dog" * (words % 2)
        tokenizer.calls = 0
        mine, cut = tokens(text)
        assert mine.tolist() == tokens_of(text, context).tolist()
        # A begin and an end mark stand around the words.
        assert cut == (words + 2 > context)
        assert tokenizer.calls == (2 if cut else 1)
        assert np.asarray(mine).shape == (context,)
