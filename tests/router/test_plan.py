"""What one image still needs, for every state the store can be in."""

from dataclasses import replace

import pytest

from router_svc.ingest.plan import CaptionSource, PlanOptions, StoredItem, Wanted, plan

DIGEST = b"d" * 32
OPTIONS = PlanOptions(("image", "second"), captions=True)
WANTED = Wanted("me", DIGEST, {"a": 1})
OWN = StoredItem("me", DIGEST, {"a": 1}, frozenset(("image", "second")), "a cat", "teller@1", "s3://p")
OTHER = replace(OWN, id="other")
WRITTEN = replace(OWN, caption_model="")
REPLACE = replace(OPTIONS, merges_metadata=False)


def test_nothing_there_needs_everything() -> None:
    made = plan(WANTED, OPTIONS, None, ())
    assert not made.unchanged
    assert (made.encode, dict(made.take), made.caption) == (("image", "second"), {}, CaptionSource.MODEL)


def test_all_there_needs_nothing() -> None:
    made = plan(WANTED, OPTIONS, OWN, [OTHER])
    assert made.unchanged
    assert (made.encode, made.caption) == ((), CaptionSource.STORED)


CHANGES = {
    "another value in the metadata": (replace(WANTED, metadata={"a": 2}), OPTIONS, OWN),
    "one more field of metadata": (replace(WANTED, metadata={"b": 2}), OPTIONS, OWN),
    "no metadata, to replace what is there": (replace(WANTED, metadata={}), REPLACE, OWN),
    "less metadata, to replace what is there": (WANTED, REPLACE, replace(OWN, metadata={"a": 1, "b": 2})),
    "a caller's caption": (replace(WANTED, caption="mine"), OPTIONS, OWN),
    "an address": (replace(WANTED, image_uri="s3://q"), OPTIONS, OWN),
    "a missing vector": (WANTED, OPTIONS, replace(OWN, spaces=frozenset(("image",)))),
    "a missing caption": (WANTED, OPTIONS, replace(OWN, caption=None, caption_model="")),
    "another caption model": (WANTED, replace(OPTIONS, caption_model="poet"), OWN),
    "another prompt": (WANTED, replace(OPTIONS, caption_prompt="an oil painting of"), OWN),
    "another image": (WANTED, OPTIONS, replace(OWN, digest=b"e" * 32)),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_difference_is_written(name: str) -> None:
    wanted, terms, own = CHANGES[name]
    assert not plan(wanted, terms, own, ()).unchanged


SAME = {
    "no metadata": (replace(WANTED, metadata={}), OPTIONS, OWN),
    "a part of the metadata": (WANTED, OPTIONS, replace(OWN, metadata={"a": 1, "b": 2})),
    "the same metadata, to replace what is there": (WANTED, REPLACE, OWN),
    "a caption that somebody wrote": (WANTED, OPTIONS, WRITTEN),
    "a written caption that nobody asks for": (WANTED, replace(OPTIONS, captions=False), WRITTEN),
    "a written caption, and a model asked for": (WANTED, replace(OPTIONS, caption_model="poet"), WRITTEN),
    "the same caption again": (
        replace(WANTED, caption="mine"),
        OPTIONS,
        replace(OWN, caption="mine", caption_model=""),
    ),
    "the same address": (replace(WANTED, image_uri="s3://p"), OPTIONS, OWN),
    "no captions asked for, one there": (WANTED, replace(OPTIONS, captions=False), OWN),
    "no captions asked for, none there": (
        WANTED,
        replace(OPTIONS, captions=False),
        replace(OWN, caption=None, caption_model=""),
    ),
    "the model that wrote it": (WANTED, replace(OPTIONS, caption_model="teller"), OWN),
    "the prompt it begins with": (WANTED, replace(OPTIONS, caption_prompt="A cat"), OWN),
    "fewer spaces asked for": (WANTED, replace(OPTIONS, spaces=("image",)), OWN),
}


@pytest.mark.parametrize("name", sorted(SAME))
def test_what_makes_no_difference_is_unchanged(name: str) -> None:
    wanted, terms, own = SAME[name]
    assert plan(wanted, terms, own, ()).unchanged


def test_another_items_vectors_and_caption_are_taken() -> None:
    made = plan(WANTED, OPTIONS, None, [replace(OTHER, spaces=frozenset(("image",)))])
    assert not made.unchanged
    assert (made.encode, dict(made.take)) == (("second",), {"image": "other"})
    assert (made.caption, made.caption_from) == (CaptionSource.STORED, "other")


def test_another_items_spaces_that_nobody_asked_for_stay_there() -> None:
    made = plan(WANTED, replace(OPTIONS, spaces=("image",)), None, [OTHER])
    assert dict(made.take) == {"image": "other"}


def test_a_caption_that_somebody_wrote_for_another_item_is_not_taken() -> None:
    made = plan(WANTED, OPTIONS, None, [replace(OTHER, caption_model="")])
    assert made.caption is CaptionSource.MODEL


def test_changed_metadata_keeps_everything_that_belongs_to_the_image() -> None:
    made = plan(replace(WANTED, metadata={"b": 2}), replace(OPTIONS, spaces=("image",)), OWN, ())
    assert dict(made.take) == {"image": "me", "second": "me"}
    assert (made.caption_from, made.keep_uri) == ("me", "s3://p")


def test_another_image_keeps_nothing() -> None:
    made = plan(replace(WANTED, digest=b"e" * 32), OPTIONS, OWN, ())
    assert (made.encode, dict(made.take), made.keep_uri) == (("image", "second"), {}, "")
    assert made.caption is CaptionSource.MODEL
