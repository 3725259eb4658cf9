"""Wordings and the parser that reads them back."""

from __future__ import annotations

import numpy as np
import pytest

from lensmesh_shapes import Facts, Group, caption, facts_of, same_facts
from lensmesh_shapes.captions import sample_wording, vocabulary, without_sizes
from lensmesh_shapes.facts import sample_facts

RED = Group(1, "small", "red", "circle")
BLUE = Group(2, "large", "blue", "cross")


def test_every_wording_reads_back_as_its_facts() -> None:
    rng = np.random.default_rng(0)
    words = set(vocabulary())
    for _ in range(5000):
        facts = sample_facts(rng)
        for text in (caption(facts), sample_wording(facts, rng)):
            assert same_facts(facts_of(text), facts), text
            assert set(text.rstrip(".").split()) <= words
        unsized = without_sizes(facts)
        assert same_facts(facts_of(sample_wording(unsized, rng)), unsized)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("a small red circle", Facts(RED)),
        ("A small red circle left of two large blue crosses.", Facts(RED, "left of", BLUE)),
        ("two big blue crosses to the right of one tiny red circle", Facts(RED, "left of", BLUE)),
        ("there are 2 large blue crosses below a little red circle", Facts(RED, "above", BLUE)),
        ("a small red circle with two large blue crosses above it", Facts(BLUE, "above", RED)),
        ("two large blue crosses with a small red circle to their left", Facts(RED, "left of", BLUE)),
        ("an orange star", Facts(Group(1, None, "orange", "star"))),
    ],
)
def test_known_wordings(text: str, facts: Facts) -> None:
    assert same_facts(facts_of(text), facts)


@pytest.mark.parametrize(
    "text",
    ["", "a cat", "red circles", "two red circle", "a small red circle left of", "a red circle near a blue star"],
)
def test_what_is_no_caption_reads_as_none(text: str) -> None:
    assert facts_of(text) is None


def test_mirrored_relations_are_the_same_fact_and_swapped_ones_are_not() -> None:
    told = Facts(RED, "left of", BLUE)
    assert same_facts(told, Facts(BLUE, "right of", RED))
    assert not same_facts(told, Facts(BLUE, "left of", RED))
    assert not same_facts(told, Facts(RED, "above", BLUE))
    assert not same_facts(told, without_sizes(told))
    assert not same_facts(told, None)


def test_the_captioners_wording_is_one_per_fact_and_names_only_canonical_relations() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        facts = sample_facts(rng)
        assert caption(facts) == caption(facts.mirrored())
        assert not {"right", "below"} & set(caption(facts).split())
