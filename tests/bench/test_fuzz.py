"""A short run of the fuzzer, in CI: the long one is `make fuzz`."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from bench.fuzz.__main__ import fuzz, memory_limits, p99
from bench.fuzz.callers import Answers
from bench.fuzz.hostile import hostile
from bench.fuzz.mutants import MUTATIONS, mutants
from bench.fuzz.seeds import seeds

pytestmark = pytest.mark.slow


def test_mutants_are_many_different_and_the_same_again() -> None:
    made = dict(mutants(seeds(), 500))
    assert len(set(made.values())) == 500
    assert dict(mutants(seeds(), 500)) == made
    assert dict(mutants(seeds(), 500, seed=11)) != made
    assert set(Counter(name.rsplit(", ", 1)[1] for name in made)) == set(MUTATIONS)
    assert len({name.split(": ")[1].rsplit(", ", 1)[0] for name in made}) >= 35


def test_the_manifests_limits_are_read() -> None:
    assert set(memory_limits()) == {"router", "encoder", "caption", "search"}
    assert all(limit >= 128 for limit in memory_limits().values())


def test_the_slowest_in_a_hundred() -> None:
    assert p99([]) == 0
    assert p99([0.1] * 50 + [9.0]) > 4


def test_damaged_and_hostile_images_hurt_nobody(tmp_path: Path) -> None:
    """Every item one answer, no process lost, memory below the manifests' limits; speed is for `make fuzz` to judge."""
    items = [*mutants(seeds(), 210), *hostile().items()]
    verdict = asyncio.run(fuzz(items, "shapes", tmp_path, Console(quiet=True)))
    assert [fault for fault in verdict.faults if "p99" not in fault] == []
    for answers in verdict.answers.values():
        assert isinstance(answers, Answers)
        assert answers.outcomes.total() == len(items)
        assert answers.outcomes["ok"] > 0
        assert answers.outcomes["IMAGE_UNDECODABLE"] > 0
