"""The benchmark of local features still runs."""

import pytest

from bench.duplicates import Drawn
from bench.features import ALTERED, MAKERS, report
from bench.files import load_photographs


def test_a_few_altered_images_are_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    report("photographs", Drawn([image.resize((320, 240)) for image in load_photographs()[2:4]], [0, 1]))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(MAKERS) * (1 + len(ALTERED))
    assert said[0].startswith("photographs, ORB: 2 images")
    assert all("1.000" in line for line in said[1 : 1 + len(ALTERED)])
