"""What several watchers find is told as one."""

from lensmesh_inference.troubles import Troubles


def test_all_of_it_is_told_until_nothing_is_left() -> None:
    told: list[str] = []
    troubles = Troubles(told.append)
    troubles.hear("a", "a is blind")
    troubles.hear("b", "b is lost")
    troubles.hear("a", "a is blind")
    troubles.hear("a", "")
    troubles.hear("b", "")
    assert told == ["a is blind", "a is blind; b is lost", "b is lost", ""]


def test_nothing_is_told_of_what_was_never_wrong() -> None:
    told: list[str] = []
    Troubles(told.append).hear("a", "")
    assert told == []
