"""Metadata and filters as Hypothesis draws them: few values, so that tests meet them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from search_svc.filters import All, Equals, Exists, Filter, Not, NumberRange, Some, TimeRange
from search_svc.model import FieldType

INDEXES = {
    "k": FieldType.KEYWORD,
    "n": FieldType.NUMBER,
    "b": FieldType.BOOL,
    "t": FieldType.TIME,
    "k.n": FieldType.NUMBER,
}
BASE = datetime(2026, 1, 31, 12, tzinfo=UTC)
times = st.builds(lambda hours: BASE + timedelta(hours=hours), st.integers(-2, 2)) | st.sampled_from(
    [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
offsets = st.sampled_from(["Z", "z", "+00:00", "-03:30", "+15:59"])


@st.composite
def time_texts(draw: st.DrawFn) -> str:
    moment = draw(times)
    if moment.year == BASE.year:
        moment += timedelta(microseconds=draw(st.sampled_from([0, 0, 500_000])))
    return moment.isoformat().replace("+00:00", draw(offsets)).replace("T", draw(st.sampled_from("Tt")))


# Few values, so that tests meet them; among them those that a careless store takes for one another.
strings = st.sampled_from(["", "a", "b", "1", "true", "null", "é", "A", "a b", '"', "\\", "%", "2026-02-30T00:00:00Z"])
numbers = st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0, -1.0, 0.1, 1e22, 1e-7, 1e300, 5e-324])
scalars: st.SearchStrategy[Any] = strings | time_texts() | numbers | st.booleans()
levels = st.sampled_from(["k", "n", "b", "t", "0", "a"])
leaves: st.SearchStrategy[Any] = st.none() | scalars
values: st.SearchStrategy[Any] = st.recursive(
    leaves | st.lists(st.lists(scalars, max_size=2), max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(levels, inner, max_size=3),
    max_leaves=4,
)
metadata = st.dictionaries(levels, values, max_size=4)
paths = st.lists(levels, min_size=1, max_size=2).map(tuple) | st.sampled_from([("k",), ("n",), ("b",), ("t",)])
own = st.sampled_from([("$id",), ("$caption",), ("$content_digest",)])


@st.composite
def interval(draw: st.DrawFn, bounds: st.SearchStrategy[Any]) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["at_least", "above", "at_most", "below"]), unique=True, max_size=3))
    return {name: draw(bounds) for name in names}


conditions: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equals, paths, st.lists(scalars, max_size=3).map(tuple)),
    st.builds(Equals, own, st.lists(st.sampled_from(["a", "i1", "00", "ff", "FF", 1.0, True]), max_size=2).map(tuple)),
    st.builds(lambda path, bounds: NumberRange(path, **bounds), paths | own, interval(numbers)),
    st.builds(lambda path, bounds: TimeRange(path, **bounds), paths | own, interval(times)),
    st.builds(Exists, paths | own),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Some, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)

# The same examples every time: a test that fails now and then helps nobody.
thorough = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],
)
