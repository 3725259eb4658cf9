"""What several watchers find is told as one."""

from lensmesh_inference.health_reasons import HealthReasons


def test_all_of_it_is_told_until_nothing_is_left() -> None:
    told: list[str] = []
    reasons = HealthReasons(told.append)
    reasons.report("a", "a is blind")
    reasons.report("b", "b is lost")
    reasons.report("a", "a is blind")
    reasons.report("a", "")
    reasons.report("b", "")
    assert told == ["a is blind", "a is blind; b is lost", "b is lost", ""]


def test_nothing_is_told_of_what_was_never_wrong() -> None:
    told: list[str] = []
    HealthReasons(told.append).report("a", "")
    assert told == []
