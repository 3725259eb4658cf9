"""Memory that is bounded by bytes: against a model of it, and against what Python really takes."""

import os
import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from lensmesh_inference.cache.lru import ENTRY_BYTES, ByteLru

KEYS = st.sampled_from("abcdefgh")
VALUES = st.binary(max_size=400)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, VALUES),
        st.tuples(st.just("get"), KEYS, st.just(b"")),
        st.tuples(st.sampled_from(["drop", "clear"]), KEYS, st.just(b"")),
    ),
    max_size=60,
)


def size(value: bytes) -> int:
    return 1 + len(value) + ENTRY_BYTES


@given(limit=st.integers(0, 3 * (ENTRY_BYTES + 401)), steps=STEPS)
def test_it_keeps_what_was_used_last_and_never_exceeds_its_limit(
    limit: int, steps: list[tuple[str, str, bytes]]
) -> None:
    lru, model = ByteLru(limit), OrderedDict[str, bytes]()
    evicted = 0
    for step, key, value in steps:
        if step == "put":
            lru.put(key, value)
            model.pop(key, None)
            if size(value) <= limit:
                model[key] = value
                while sum(map(size, model.values())) > limit:
                    model.popitem(last=False)
                    evicted += 1
        elif step == "clear":
            lru.clear()
            model.clear()
        elif step == "drop":
            lru.drop(key)
            model.pop(key, None)
        else:
            assert lru.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        assert lru.held_bytes == sum(map(size, model.values())) <= limit
        assert (len(lru), lru.evictions) == (len(model), evicted)
    for key in "abcdefgh":
        assert lru.get(key) == model.get(key)


def test_what_it_counts_is_what_python_takes() -> None:
    """While entries come and go: half of them are evicted."""
    lru = ByteLru(4 * 1024**2)
    tracemalloc.start()
    try:
        for number in range(20_000):
            lru.put(f"lensmesh:1:vs1-0123456789abcdef0123456789abcdef:image:{number:064}", os.urandom(100))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lru.evictions > 5_000
    assert 0.8 * lru.limit_bytes < taken <= lru.limit_bytes


def test_a_value_larger_than_the_limit_is_not_kept_and_the_old_one_is_not_served() -> None:
    lru = ByteLru(ENTRY_BYTES + 100)
    lru.put("a", b"old")
    lru.put("a", bytes(101))
    assert lru.get("a") is None
    assert (len(lru), lru.held_bytes, lru.evictions) == (0, 0, 0)


def test_a_limit_of_nothing_keeps_nothing() -> None:
    lru = ByteLru(0)
    lru.put("a", b"")
    assert lru.get("a") is None
