"""Limits are refused with the limit and the fix."""

import pytest

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_items, check_size, transport_bytes
from lensmesh_chassis.reasons import Reason


@pytest.mark.parametrize("count", [1, 256])
def test_counts_within_the_limit(count: int) -> None:
    check_items(count, 256, "images")


@pytest.mark.parametrize(("count", "reason"), [(0, Reason.NO_ITEMS), (257, Reason.TOO_MANY_ITEMS)])
def test_counts_outside(count: int, reason: Reason) -> None:
    with pytest.raises(InvalidInput, match="256") as caught:
        check_items(count, 256, "images")
    assert caught.value.reason is reason
    assert caught.value.violations[0].field == "images"


def test_messages() -> None:
    check_size(1003, 1003)
    with pytest.raises(InvalidInput, match="limit is 1000") as caught:
        check_size(1003, 1000, "image")
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
    assert caught.value.metadata == {"size_bytes": "1003", "limit_bytes": "1000"}


def test_the_transport_takes_a_quarter_more() -> None:
    assert transport_bytes(1000) == 1250
