"""What the measuring code makes of samples."""

import math

import pytest

from lensmesh_cli.load.figures import CallSample, ItemTimes, percentile, steady_rate, summarize


def test_percentiles_lie_between_neighbours() -> None:
    values = [40.0, 10.0, 30.0, 20.0]
    assert percentile(values, 0) == 10
    assert percentile(values, 0.5) == 25
    assert percentile(values, 0.99) == pytest.approx(39.7)
    assert percentile(values, 1) == 40
    assert percentile([7.0], 0.99) == 7


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_a_percentile_of_nothing_is_an_error(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"share|values"):
        percentile(values, share)


def test_the_rate_of_batches_does_not_depend_on_where_the_window_cuts() -> None:
    # 32 items every 2 s, answered within 3 ms: 16 a second, whatever begin and end the window has.
    ends = [(2.0 * batch + 0.0001 * item, 1) for batch in range(12) for item in range(32)]
    for begin, end in ((0.0, 23.0), (0.5, 21.9), (1.9, 10.1)):
        inside = [(at, count) for at, count in ends if begin <= at <= end]
        assert steady_rate(inside) == pytest.approx(16, rel=0.01)


def test_the_rate_of_single_answers() -> None:
    assert steady_rate([(0.1 * number, 1) for number in range(50)]) == pytest.approx(10)
    assert steady_rate([(0.5 * number, 8) for number in range(5)]) == pytest.approx(16)


def test_too_little_has_no_rate() -> None:
    assert steady_rate([]) == 0
    assert steady_rate([(1.0, 32)]) == 0
    assert steady_rate([(1.0, 1), (1.0, 1)]) == 0


def test_a_summary_counts_what_ended_inside_the_window() -> None:
    step = ItemTimes(queue_s=0.2, decode_s=0.01, forward_s=0.5, batch=16, cached=False)
    samples = [
        CallSample(0.0, 0.9, 1, steps=(step,)),
        *(CallSample(1.0 + number, 2.0 + number, 1, steps=(step,)) for number in range(4)),
        CallSample(1.0, 3.5, 2, errors=("QUEUE_FULL",), steps=(step,)),
        CallSample(1.0, 3.6, 1, errors=("DEADLINE_EXCEEDED",)),
        CallSample(5.0, 99.0, 1, steps=(step,)),
    ]
    found = summarize(samples, 1.0, 6.0)
    assert found.items == 5
    assert found.errors == {"QUEUE_FULL": 1, "DEADLINE_EXCEEDED": 1}
    assert found.latency_ms is not None
    # What failed as a whole has no latency: it would make an overloaded service look quick.
    assert (found.latency_ms.p50, found.latency_ms.max) == (1000, 2500)
    assert found.split_ms is not None
    assert found.split_ms.queue == pytest.approx(200)
    assert found.split_ms.batch == 16


def test_cached_answers_are_told() -> None:
    step = ItemTimes(queue_s=0, decode_s=0, forward_s=0, batch=0, cached=True)
    assert summarize([CallSample(0, 1, 2, steps=(step, step))], 0, 2).cached == 2


def test_answers_without_groups_are_counted_over_the_window() -> None:
    # Two calls that rode in one batch, and nothing else: not 64 items in three milliseconds.
    pair = [CallSample(0.0, 5.0, 32), CallSample(0.0, 5.003, 32)]
    assert summarize(pair, 1.0, 11.0).rate == 6.4
    quick = [CallSample(0.001 * number, 0.001 * number + 0.01, 1) for number in range(10_000)]
    assert summarize(quick, 1.0, 9.0).rate == pytest.approx(1000, rel=0.01)
    # One hiccup near the end makes no groups of them.
    late = [CallSample(0.0, sample.ended + (0.008 if sample.ended > 8.9 else 0.0), 1) for sample in quick]
    assert summarize(late, 1.0, 9.0).rate == pytest.approx(1000, rel=0.01)


def test_a_service_too_slow_for_the_window_has_a_rough_rate() -> None:
    late = summarize([CallSample(0.0, 8.0, 16)], 1.0, 6.0)
    assert (late.items, late.rate) == (16, 2)
    one_batch = summarize([CallSample(0.0, 4.0, 16), CallSample(2.0, 8.0, 16)], 1.0, 6.0)
    assert (one_batch.items, one_batch.rate) == (16, 3.2)
    assert summarize([], 0.0, 1.0).rate == 0


def test_nothing_answered_is_no_latency() -> None:
    found = summarize([CallSample(0, 1, 1, errors=("UNAVAILABLE",))], 0, 2)
    assert (found.rate, found.latency_ms, found.split_ms) == (0, None, None)
    assert math.isfinite(found.rate)
