"""Predictions from what was measured: a line for each group, warm-up and stalls left out."""

from __future__ import annotations

import pytest

from lensmesh_inference.batching.costs import MOST_GROUPS, SURPRISE, Costs


def warm(costs: Costs, group: object = "image", *sizes: int) -> None:
    for size in sizes or (1, 2, 4, 8, 16, 32):
        costs.learn(0, group, size, 30.0)


def test_nothing_measured_nothing_predicted() -> None:
    costs = Costs()
    assert costs.seconds("image", 8) == 0
    assert costs.queue_seconds("image", 100, 8) == 0
    assert costs.quickest_s("image") == 0
    assert costs.extra_bulk_items("image", 1, 1.25) is None
    assert not costs.has_run(0, "image", 1)


def test_fixed_and_per_item_seconds_are_found() -> None:
    costs = Costs()
    warm(costs)
    for items in (1, 16, 4, 8, 2, 16, 1):
        costs.learn(0, "image", items, 0.3 + 0.1 * items)
    assert costs.seconds("image", 12) == pytest.approx(1.5)
    assert costs.seconds("image", 0) == 0
    # Three batches: twice 16 and once 8.
    assert costs.queue_seconds("image", 40, 16) == pytest.approx(3 * 0.3 + 4.0)
    # A quarter more time than one item takes leaves none of 0.1 s each much room; than sixteen, for four.
    assert costs.extra_bulk_items("image", 1, 1.25) == 1
    assert costs.extra_bulk_items("image", 16, 1.25) == 4


def test_a_device_that_does_not_care_takes_any_number_of_guests() -> None:
    costs = Costs()
    warm(costs)
    for items in (1, 8, 2, 16):
        costs.learn(0, "image", items, 0.004)
    assert costs.seconds("image", 32) == pytest.approx(0.004)
    assert costs.extra_bulk_items("image", 1, 1.25) is None


def test_batches_of_one_size_say_nothing_of_what_is_fixed() -> None:
    costs = Costs()
    warm(costs)
    for _ in range(5):
        costs.learn(0, "image", 8, 0.8)
    assert costs.seconds("image", 16) == pytest.approx(1.6)


# As a processor with two cores did them while it decoded images: 0.08 s an item, a little besides, and chance.
SMALL = [(4, 0.56), (4, 0.32), (4, 0.33), (5, 0.44), (5, 0.38), (4, 0.44), (5, 0.39), (4, 0.35), (5, 0.45), (5, 0.36)]
LARGE = [(32, 2.77), (32, 2.47), (14, 1.09), (16, 1.22), (17, 1.22), (18, 1.54), (17, 1.29), (32, 2.55), (25, 1.95)]


def test_chance_is_not_taken_for_fixed_seconds() -> None:
    costs = Costs()
    warm(costs)
    for items, seconds in SMALL + LARGE + SMALL:
        costs.learn(0, "image", items, seconds)
        assert costs.seconds_besides("image") < 0.12
        assert costs.items_in("image", 0.5) in (3, 4, 5, 6)
    assert costs.seconds("image", 32) == pytest.approx(2.6, rel=0.1)


def test_sizes_that_have_not_come_for_long_still_tell_what_is_fixed() -> None:
    costs = Costs()
    warm(costs)
    for items in (1, 32) * 5:
        costs.learn(0, "image", items, 0.3 + 0.1 * items)
    for items, chance in ((4, 1.1), (5, 0.9)) * 100:
        costs.learn(0, "image", items, chance * (0.3 + 0.1 * items))
    assert costs.seconds_besides("image") == pytest.approx(0.3, rel=0.3)
    assert costs.seconds("image", 32) == pytest.approx(3.5, rel=0.15)


def test_sizes_that_never_come_again_are_forgotten_in_the_end() -> None:
    costs = Costs()
    warm(costs)
    for items in (1, 2, 4, 8, 16):
        costs.learn(0, "image", items, 0.3 + 0.1 * items)
    for number in range(5_000):
        costs.learn(0, "image", 32, 3.4 if number % 2 else 3.6)
        assert 0 <= costs.seconds_besides("image") < 0.4
        assert costs.seconds("image", 32) == pytest.approx(3.5, rel=0.1)
    assert costs.seconds_besides("image") == 0
    assert costs.seconds("image", 16) == pytest.approx(1.75, rel=0.05)


def test_the_first_of_a_size_on_a_device_warms_it_up_and_teaches_nothing() -> None:
    costs = Costs()
    costs.learn(0, "image", 4, 20.0)
    assert costs.seconds("image", 4) == 20.0
    assert costs.has_run(0, "image", 3)
    assert not costs.has_run(0, "image", 2)
    assert not costs.has_run(1, "image", 4)
    costs.learn(0, "image", 4, 0.4)
    assert costs.seconds("image", 4) == pytest.approx(0.4)
    costs.learn(1, "image", 4, 20.0)
    assert costs.seconds("image", 4) == pytest.approx(0.4)


def test_one_stall_of_the_machine_is_no_news_and_a_slow_machine_is_believed_soon() -> None:
    costs = Costs()
    warm(costs)
    for _ in range(10):
        costs.learn(0, "image", 4, 0.4)
    costs.learn(0, "image", 4, 60.0)
    assert costs.seconds("image", 4) < SURPRISE * 0.4
    for _ in range(30):
        costs.learn(0, "image", 4, 4.0)
    assert costs.seconds("image", 4) == pytest.approx(4.0, rel=0.1)
    for _ in range(40):
        costs.learn(0, "image", 4, 0.4)
    assert costs.seconds("image", 4) == pytest.approx(0.4, rel=0.2)


def test_a_clock_too_coarse_to_see_the_first_batches_does_no_harm() -> None:
    costs = Costs()
    warm(costs)
    costs.learn(0, "image", 4, 0.0)
    for _ in range(30):
        costs.learn(0, "image", 4, 0.4)
    assert costs.seconds("image", 4) == pytest.approx(0.4, rel=0.1)


def test_the_quickest_batch_bounds_what_can_be_met() -> None:
    costs = Costs()
    for seconds in (20.0, 0.5, 0.3, 9.0):
        costs.learn(0, "image", 1, seconds)
    assert costs.quickest_s("image") == 0.3


def test_neither_a_first_batch_nor_a_large_one_shuts_out_what_is_in_a_hurry() -> None:
    costs = Costs()
    costs.learn(0, "text", 1, 20.0)
    assert costs.quickest_s("text") == 0
    for _ in range(2):
        costs.learn(0, "image", 32, 1.6)
    assert costs.quickest_s("image") == pytest.approx(0.05)


def test_an_unknown_group_is_taken_for_an_average_one_and_old_groups_are_forgotten() -> None:
    costs = Costs()
    warm(costs, "one", 2)
    costs.learn(0, "one", 2, 0.5)
    assert costs.seconds("other", 4) == pytest.approx(1.0)
    for number in range(MOST_GROUPS):
        costs.learn(0, number, 1, 1.0)
    assert not costs.has_run(0, "one", 2)
    assert costs.has_run(0, 0, 1)
