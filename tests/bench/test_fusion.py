"""Scenes and descriptions of bench/fusion.py: what is left out is all that tells a scene from its relatives."""

from dataclasses import replace

import pytest

from bench.fusion import Asked, asked, relatives, table, targets
from lensmesh_shapes import facts_of
from lensmesh_shapes.facts import Facts, is_held_out, same_facts

SCENES = targets(20)


def without(fact: str, facts: Facts) -> object:
    """Facts without the relation, or without the count of what has several."""
    groups = [group for group in (facts.first, facts.second) if group]
    if fact == "count":
        plain = [replace(group, count=min(group.count, 2)) for group in groups]
        return Facts(plain[0], facts.relation, plain[1]).canonical()
    return {(group.count, group.size, group.colour, group.shape) for group in groups}


def test_scenes_are_held_out_and_their_relatives_differ_in_one_fact() -> None:
    assert len({scene.facts for scene in SCENES}) == 20
    assert all(is_held_out(scene.facts) for scene in SCENES)
    for scene in SCENES:
        family = [*relatives(scene.facts)]
        assert len(family) == 5
        for facts in family:
            assert not same_facts(facts, scene.facts)
            assert [without(fact, facts) == without(fact, scene.facts) for fact in ("relation", "count")].count(
                True
            ) == 1


def test_a_scene_is_described_in_full_once_and_blurred_once() -> None:
    for scene in SCENES:
        searches = [*asked(scene, "one", turned=False)]
        assert [(each.fact, each.in_text) for each in searches] == [
            ("relation", True), ("relation", False), ("count", True), ("count", False),
        ]  # fmt: skip
        for each in searches:
            assert same_facts(facts_of(each.full), scene.facts)
            assert {each.text, each.words} == {each.full, each.blurred}
            assert facts_of(each.blurred) is None
    one, other = (next(asked(SCENES[0], "one", turned=turned)).blurred for turned in (False, True))
    assert one.split(" with ") == [*reversed(other.split(" with "))]


@pytest.mark.parametrize("in_text", [True, False])
def test_the_table_shows_shares(in_text: bool) -> None:
    search = Asked("one", "count", "full", "blurred", in_text)
    shown = table([(search, {"text": True, "rrf": True}), (search, {"text": False, "rrf": True})]).splitlines()
    assert shown[0] == "| left out | of | searches | text | rrf |"
    assert f"| count | the {'text' if in_text else 'words'} | 2 | 0.500 | 1.000 |" in shown
    assert shown[-1] == "| **either** | **one of them** | 2 | 0.500 | 1.000 |"
