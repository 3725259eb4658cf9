"""Wordings of facts in plain English, and their reading.

The captioner learns `caption`, one wording for each fact set. CLIP learns `sample_wording`, which mirrors relations and
varies words, so that a search may be phrased freely. `facts_of` reads all of them.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from lensmesh_shapes.facts import COLOURS, SHAPES, Facts, Group

NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}

COUNT_WORDS = {1: ("a", "a", "one", "1"), 2: ("two", "two", "2"), 3: ("three", "three", "3"),
               4: ("four", "four", "4")}  # fmt: skip
SIZE_WORDS = {"small": ("small", "small", "small", "little", "tiny"),
              "large": ("large", "large", "large", "big")}  # fmt: skip
RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath", "underneath"),
}
# 'A with B <words>' says where B is, as seen from A.
TRAILING_WORDS = {
    "left of": ("on the right", "to {its} right"),
    "right of": ("on the left", "to {its} left"),
    "above": ("below", "underneath", "below {it}", "under {it}"),
    "below": ("above", "above {it}", "over {it}"),
}
OPENINGS = ("a picture of", "an image of", "a photo of", "a drawing of", "a scene with",
            "there is", "there are", "an image with", "a picture with", "show me")  # fmt: skip

SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
COUNT_OF = {word: count for count, words in COUNT_WORDS.items() for word in words} | {"an": 1}
SHAPE_OF = {name: shape for shape in SHAPES for name in (shape, PLURALS[shape])}
RELATION_OF = {word: relation for relation, words in RELATION_WORDS.items() for word in words}
TRAILING_OF = {
    form.format(its=its, it=it): relation
    for relation, forms in TRAILING_WORDS.items()
    for form in forms
    for its, it in (("its", "it"), ("their", "them"))
}

_GROUP = re.compile(
    rf"^(?:(?P<count>{'|'.join(COUNT_OF)}) )?(?:(?P<size>{'|'.join(SIZE_OF)}) )?"
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPE_OF)})$"
)
_OPENING = re.compile(rf"^(?:{'|'.join(OPENINGS)}) ")
_RELATION = re.compile(
    rf"^(?P<one>.+?) (?:(?:is|are) )?(?P<relation>{'|'.join(sorted(RELATION_OF, key=len)[::-1])})"
    r" (?P<other>.+)$"
)
_TRAILING = re.compile(rf"^(?P<one>.+?) with (?P<other>.+?) (?P<where>{'|'.join(sorted(TRAILING_OF, key=len)[::-1])})$")


def _group_words(group: Group, count: str, size: str | None) -> str:
    noun = group.shape if group.count == 1 else PLURALS[group.shape]
    if count == "a" and size is None and group.colour == "orange":
        count = "an"
    return " ".join(word for word in (count, size, group.colour, noun) if word)


def caption(facts: Facts) -> str:
    """Return the captioner's one wording: 'two small red circles left of a large blue star'."""
    facts = facts.canonical()
    one = _group_words(facts.first, NUMBERS[facts.first.count], facts.first.size)
    if facts.second is None or facts.relation is None:
        return one
    other = _group_words(facts.second, NUMBERS[facts.second.count], facts.second.size)
    return f"{one} {facts.relation} {other}"


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _vary_group(rng: np.random.Generator, group: Group) -> str:
    size = None if group.size is None else _pick(rng, SIZE_WORDS[group.size])
    return _group_words(group, _pick(rng, COUNT_WORDS[group.count]), size)


def sample_wording(facts: Facts, rng: np.random.Generator) -> str:
    """Draw one of the many ways to state exactly these facts, at times with a full stop."""
    return _wording(facts, rng) + ("." if rng.random() < 0.1 else "")


def _wording(facts: Facts, rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        facts = facts.mirrored()
    opening = f"{_pick(rng, OPENINGS)} " if rng.random() < 0.25 else ""
    one = _vary_group(rng, facts.first)
    if facts.second is None or facts.relation is None:
        return opening + one
    other = _vary_group(rng, facts.second)
    manner = rng.random()
    if manner < 0.2:
        alone = facts.first.count == 1
        its, it = ("its", "it") if alone else ("their", "them")
        where = _pick(rng, TRAILING_WORDS[facts.relation]).format(its=its, it=it)
        return f"{opening}{one} with {other} {where}"
    verb = ""
    if manner < 0.45 and not opening:
        verb = "is " if facts.first.count == 1 else "are "
    return f"{opening}{one} {verb}{_pick(rng, RELATION_WORDS[facts.relation])} {other}"


def without_sizes(facts: Facts) -> Facts:
    """Return the same facts with sizes left unsaid, as a search would often leave them."""
    second = None if facts.second is None else replace(facts.second, size=None)
    return Facts(replace(facts.first, size=None), facts.relation, second)


def _group_of(words: str) -> Group | None:
    match = _GROUP.match(words)
    if match is None:
        return None
    shape = SHAPE_OF[match["shape"]]
    plural = match["shape"] != shape
    if match["count"] is None:
        # 'red circles' leaves the count open; 'red circle' can only be one.
        if plural:
            return None
        count = 1
    else:
        count = COUNT_OF[match["count"]]
    if plural != (count > 1):
        return None
    return Group(count, SIZE_OF.get(match["size"] or ""), match["colour"], shape)


def facts_of(text: str) -> Facts | None:
    """Read the facts that a caption states, or None where it is no caption of this domain.

    A size left unsaid is None in the group, and so differs from every drawn scene's size.
    """
    words = " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower()).split())
    words = _OPENING.sub("", words)
    alone = _group_of(words)
    if alone is not None:
        return Facts(alone)
    for pattern, key, relations in (
        (_TRAILING, "where", TRAILING_OF),
        (_RELATION, "relation", RELATION_OF),
    ):
        match = pattern.match(words)
        if match is not None:
            one, other = _group_of(match["one"]), _group_of(match["other"])
            if one is not None and other is not None:
                return Facts(one, relations[match[key]], other)
    return None


def vocabulary() -> list[str]:
    """Return every word of every wording, sorted."""
    phrases = [*OPENINGS, *RELATION_OF, *TRAILING_OF, *COUNT_OF, *SIZE_OF, *COLOURS, *SHAPE_OF]
    return sorted({word for phrase in phrases for word in phrase.split()} | {"is", "are", "with"})
