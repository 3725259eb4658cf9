"""The budget of decoded bytes: never more at a time, nobody overtaken for ever, what never fits refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.budget import DecodeBudget


def test_never_more_than_the_budget_is_held() -> None:
    budget, most = DecodeBudget(100), 0

    def decode(size: int) -> None:
        nonlocal most
        with budget.hold(size, "image"):
            most = max(most, budget.held_bytes)
            threading.Event().wait(0.001)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decode, [60, 30, 100, 10, 50, 50, 1, 99] * 4))
    assert 50 <= most <= 100
    assert budget.held_bytes == 0


def test_what_waits_longest_is_next() -> None:
    budget, order = DecodeBudget(100), list[int]()

    def decode(size: int) -> None:
        with budget.hold(size, "image"):
            order.append(size)

    with ThreadPoolExecutor(3) as threads:
        with budget.hold(20, "image"):
            large = threads.submit(decode, 90)
            while not budget._waiting:
                threading.Event().wait(0.001)
            small = threads.submit(decode, 10)
            while len(budget._waiting) < 2:
                threading.Event().wait(0.001)
            assert order == []
        large.result(30)
        small.result(30)
    assert order == [90, 10]


def test_what_does_not_fit_alone_is_refused_and_the_limit_named() -> None:
    with (
        pytest.raises(InvalidInput, match=r"images\[2\] takes 101 bytes to decode, the limit is 100") as caught,
        DecodeBudget(100).hold(101, "images[2]"),
    ):
        pass
    assert caught.value.reason is Reason.IMAGE_TOO_COSTLY
    assert caught.value.metadata == {"decode_bytes": "101", "max_decode_bytes": "100"}
    assert caught.value.violations[0].field == "images[2]"
