"""Readable filters, as the contracts have them."""

import pytest
from google.protobuf import json_format

from lensmesh.search.v1 import search_pb2
from lensmesh_client import parse_filter
from lensmesh_client.errors import InvalidInput, Reason


def condition(**test: object) -> dict[str, object]:
    return {"condition": test}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("artist=Monet", condition(field="artist", equals="Monet")),
        ("title = Water Lilies", condition(field="title", equals="Water Lilies")),
        ("year=1870", condition(field="year", equals=1870.0)),
        ('year="1870"', condition(field="year", equals="1870")),
        ("sold=true", condition(field="sold", equals=True)),
        ("camera.iso>=400", condition(field="camera.iso", range={"atLeast": 400.0})),
        ("iso>400", condition(field="iso", range={"above": 400.0})),
        ("iso<=400", condition(field="iso", range={"atMost": 400.0})),
        ("iso<400", condition(field="iso", range={"below": 400.0})),
        (
            "$create_time>=2024-01-01T00:00:00Z",
            condition(field="$create_time", range={"atLeast": "2024-01-01T00:00:00Z"}),
        ),
        ('colour=["red", "blue"]', condition(field="colour", oneOf=["red", "blue"])),
        ("artist!=Monet", {"not": condition(field="artist", equals="Monet")}),
        ("artist=*", condition(field="artist", exists=True)),
        ("artist!=*", condition(field="artist", exists=False)),
        ("$caption!=*", condition(field="$caption", exists=False)),
        ("$low_content=true", condition(field="$low_content", equals=True)),
        ("$caption=~old bridge", condition(field="$caption", matches="old bridge")),
        ('title =~ "old bridge" bri*', condition(field="title", matches='"old bridge" bri*')),
        ("formula=a=b", condition(field="formula", equals="a=b")),
        ("artist=", condition(field="artist", equals="")),
        ('{"any": {"filters": []}}', {"any": {}}),
        (["a=1", "b=2"], {"all": {"filters": [condition(field="a", equals=1.0), condition(field="b", equals=2.0)]}}),
        ([], {"all": {}}),
    ],
)
def test_forms(text: str | list[str], expected: dict[str, object]) -> None:
    assert json_format.MessageToDict(parse_filter(text)) == expected


def test_text_that_is_not_unicode_is_no_filter() -> None:
    for text in ("a=caf\udce9", "caf\udce9=1", '{"condition": {"field": "caf\udce9"}}'):
        with pytest.raises(InvalidInput, match="not Unicode") as caught:
            parse_filter(text)
        assert caught.value.reason is Reason.FILTER_INVALID


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_a_number_is_a_word(word: str) -> None:
    assert parse_filter(f"name={word}").condition.equals.string_value == word


def test_a_contracts_filter_passes() -> None:
    given = search_pb2.Filter(any=search_pb2.FilterList())
    assert parse_filter(given) is given


@pytest.mark.parametrize(
    "text",
    [
        *["Monet", "=3", "a>true", "a>=[1]", "a={}", "a=null", "a>*", '{"nonsense": 1}', "{", ""],
        # What Python reads, and no message holds.
        *["a=" + "9" * 400, '{"condition": {"field": "\\ud800"}}', '{"not": ' * 200 + "{}" + "}" * 200],
    ],
)
def test_what_is_no_filter_says_the_forms(text: str) -> None:
    with pytest.raises(InvalidInput, match="key=value") as caught:
        parse_filter(text)
    assert caught.value.reason is Reason.FILTER_INVALID


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("year==2020", "year=2020"),
        ("year=>2020", "year>=2020"),
        ("year =< 2020", "year<=2020"),
        ("year<>2020", "year!=2020"),
        ("year=!2020", "year!=2020"),
        ("year!==2020", "year!=2020"),
        ("year > = 2020", "year>=2020"),
        ("year<\t=2020", "year<=2020"),
    ],
)
def test_comparisons_of_other_languages_are_refused_with_the_right_form(written: str, right: str) -> None:
    with pytest.raises(InvalidInput, match=f"write {right}[;:]") as raised:
        parse_filter(written)
    assert raised.value.reason is Reason.FILTER_INVALID
    assert parse_filter('year="=2020"').condition.equals.string_value == "=2020"


@pytest.mark.parametrize("text", ["year=[1", 'name="x', "a={b", "a=" + "[" * 100_000])
def test_a_value_that_begins_as_json_and_is_none_is_refused(text: str) -> None:
    """As a string it would find nothing, and say nothing else."""
    with pytest.raises(InvalidInput, match="begins as JSON does and is none") as raised:
        parse_filter(text)
    assert raised.value.reason is Reason.FILTER_INVALID
    assert parse_filter('year="[1"').condition.equals.string_value == "[1"
