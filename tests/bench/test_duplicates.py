"""The benchmark of near-duplicates still runs."""

import pytest

from bench.duplicates import ALTERED, photographs, report, scenes


def test_copies_of_a_few_images_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    report("scenes", scenes(6))
    report("photographs", photographs(2))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("scenes: 6 images")
    assert len([line for line in said if "found" in line]) >= 2 * len(ALTERED)
    assert "unlike pairs, all: 0 of 15" in "\n".join(said)
