"""The decoder and its two loops against transformers' own generate() on the same states: any batch, prompt, length and
number of beams."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from caption_svc.models.beams import search_beams
from caption_svc.models.decoder import Decoder
from caption_svc.models.generated import Generated
from caption_svc.models.greedy import decode_greedily
from tests.caption.fakes import END, WORDS

hub: Any = transformers
BEGIN, IMAGES = len(WORDS), 16
# After it, captions are of many lengths.
LONG = (5, 11, 24)


class Tiny:
    """The tiny network, states of sixteen images of noise, and what transformers makes of each alone."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.network = hub.BlipForConditionalGeneration.from_pretrained(folder).eval()
        noise = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(11)) * 4 - 2
        with torch.inference_mode():
            self.states = self.network.vision_model(pixel_values=noise).last_hidden_state
        self.decoder = Decoder(self.network.text_decoder)

    @torch.inference_mode()
    def ours(
        self, rows: Sequence[int], prompt: tuple[int, ...], max_tokens: int, beams: int, **changes: Any
    ) -> list[Generated]:
        states, start = self.states[list(rows)].clone(), (BEGIN, *prompt)
        if beams > 1:
            left: Callable[[int], bool] = changes.get("abandoned", lambda row: False)
            return search_beams(self.decoder, states, start, END, max_tokens, beams, left)
        return decode_greedily(self.decoder, states, start, END, max_tokens, changes.get("watch", lambda *_: True))

    @cache  # noqa: B019 - one object for one module of tests
    def theirs(self, row: int, prompt: tuple[int, ...], max_tokens: int, beams: int) -> Generated:
        starts = torch.tensor([[BEGIN, *prompt]])
        answer = self.network.text_decoder.generate(
            input_ids=starts,
            attention_mask=torch.ones_like(starts),
            encoder_hidden_states=self.states[row : row + 1],
            encoder_attention_mask=torch.ones(1, self.states.shape[1], dtype=torch.long),
            eos_token_id=END,
            pad_token_id=0,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=max_tokens,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
        )
        scores = self.network.text_decoder.compute_transition_scores(
            answer.sequences, answer.logits, answer.beam_indices if beams > 1 else None, normalize_logits=True
        )[0]
        known = Generated()
        for token, score in zip(answer.sequences[0, starts.shape[1] :].tolist(), scores.tolist(), strict=True):
            known.add(token, torch.tensor(score).exp().item(), END)
        return known


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Tiny:
    return Tiny(tiny_folder)


def alike(got: Generated, expected: Generated) -> None:
    assert got.tokens == expected.tokens
    assert got.ended == expected.ended
    assert got.probabilities == pytest.approx(expected.probabilities, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("prompt", [(), LONG])
def test_batches_of_any_size(tiny: Tiny, prompt: tuple[int, ...], beams: int) -> None:
    lengths = set()
    for size in range(1, IMAGES + 1):
        # Others in each batch, so that an image meets many neighbours.
        rows = [(size * 5 + place) % IMAGES for place in range(size)]
        for row, got in zip(rows, tiny.ours(rows, prompt, 14, beams), strict=True):
            alike(got, tiny.theirs(row, prompt, 14, beams))
            lengths.add(len(got.tokens))
    # Worth something only while images end at different steps.
    assert len(lengths) >= 3


@pytest.mark.parametrize("beams", [1, 3, 5])
@pytest.mark.parametrize("max_tokens", [1, 2, 5, 9])
def test_captions_that_are_cut(tiny: Tiny, max_tokens: int, beams: int) -> None:
    answers = tiny.ours(range(IMAGES), LONG, max_tokens, beams)
    for row, got in enumerate(answers):
        alike(got, tiny.theirs(row, LONG, max_tokens, beams))
    assert any(not answer.ended for answer in answers)


class Spied(Decoder):
    """Writes down how many rows each step has."""

    rows: list[int]

    def step(self, reading: Any, ids: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(ids))
        return super().step(reading, ids)


@pytest.mark.parametrize("beams", [1, 4])
def test_images_that_are_done_leave_the_batch(tiny: Tiny, beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spied = Spied(tiny.network.text_decoder)
    spied.rows = []
    monkeypatch.setattr(tiny, "decoder", spied)
    answers = tiny.ours(range(IMAGES), LONG, 14, beams)
    # A prompt is read once for each image, not once for each beam.
    first, *others = spied.rows
    assert first == IMAGES
    if beams == 1:
        longest = max(len(answer.tokens) for answer in answers)
        assert spied.rows == [sum(len(answer.tokens) > step for answer in answers) for step in range(longest)]
    else:
        assert all(rows % beams == 0 for rows in others)
        assert others == sorted(others, reverse=True)
        assert others[-1] < others[0] == IMAGES * beams


def test_an_image_that_nobody_waits_for_leaves_a_beam_search(tiny: Tiny) -> None:
    asked: list[int] = []

    def abandoned(row: int) -> bool:
        asked.append(row)
        return row == 4 and asked.count(4) == 2

    answers = tiny.ours(range(6), LONG, 14, 3, abandoned=abandoned)
    assert asked.count(4) == 2
    for row in (0, 1, 2, 3, 5):
        alike(answers[row], tiny.theirs(row, LONG, 14, 3))


@pytest.mark.parametrize("beams", [1, 3])
def test_an_image_without_numbers_spoils_no_other(tiny: Tiny, beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states = tiny.states.clone()
    states[2] = torch.nan
    monkeypatch.setattr(tiny, "states", states)
    answers = tiny.ours(range(6), LONG, 14, beams)
    assert [row for row in range(6) if answers[row].confidence != answers[row].confidence] == [2]
    monkeypatch.undo()
    for row in (0, 1, 3, 4, 5):
        alike(answers[row], tiny.theirs(row, LONG, 14, beams))
