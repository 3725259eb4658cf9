"""The decoding loops themselves: rows that nobody waits for, and rows that end before others."""

from pathlib import Path

import pytest

from caption_svc.model import Caption, CaptionerInput
from caption_svc.models.blip import BlipCaptioner, load_blip
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.models import ModelKind
from tests.caption.fakes import ON_CPU


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> BlipCaptioner:
    return load_blip(tiny_folder, name="tiny", kind=ModelKind.LOCAL, compute=ON_CPU)


def jobs(model: BlipCaptioner, contents: list[bytes], max_tokens: int, beams: int = 1) -> list[CaptionerInput]:
    plan = model.plan("", max_tokens, beams)
    return [CaptionerInput(model.prepare(content, ImageDecoder(ImageLimits()), "image"), plan) for content in contents]


def describe(model: BlipCaptioner, batch: list[CaptionerInput]) -> list[Caption]:
    """By the first worker, where nothing fails."""
    answers = model.workers()[0](batch)
    return [answer for answer in answers if isinstance(answer, Caption)]


def test_rows_that_end_early_change_nothing_for_the_others(model: BlipCaptioner, contents: list[bytes]) -> None:
    together = describe(model, jobs(model, contents, 20))
    lengths = [caption.token_count for caption in together]
    # Some end so early that the batch is cut, more than once, and some last to the end.
    assert min(lengths) < 5
    assert max(lengths) == 20
    alone = [describe(model, jobs(model, [content], 20))[0] for content in contents]
    assert [caption.text for caption in together] == [caption.text for caption in alone]
    assert [caption.confidence for caption in together] == pytest.approx([caption.confidence for caption in alone])


def test_an_abandoned_row_stops_and_the_others_go_on(model: BlipCaptioner, contents: list[bytes]) -> None:
    expected = [caption.text for caption in describe(model, jobs(model, contents, 20))]
    longest = max(range(len(contents)), key=lambda row: len(expected[row]))
    batch = jobs(model, contents, 20)
    told: list[str] = []

    def leave_after_three(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            batch[longest].abandoned.set()

    batch[longest].on_text = leave_after_three
    captions = describe(model, batch)
    assert len(told) == 3
    assert captions[longest].token_count == 3
    others = [row for row in range(len(contents)) if row != longest]
    assert [captions[row].text for row in others] == [expected[row] for row in others]


@pytest.mark.parametrize("beams", [1, 4])
def test_a_batch_that_everybody_left_ends_at_once(model: BlipCaptioner, contents: list[bytes], beams: int) -> None:
    batch = jobs(model, contents, 20, beams)
    for job in batch:
        job.abandoned.set()
    assert max(caption.token_count for caption in describe(model, batch)) <= 2
