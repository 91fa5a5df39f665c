import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.latency import CAP_MS, FINEST_MS, Histogram, bucket_of, summed, value_of


TOLERANCE = 0.01

latencies = st.floats(FINEST_MS, CAP_MS, exclude_min=True)
many = st.lists(latencies | st.sampled_from([0.0, FINEST_MS, 0.5, 10, CAP_MS]), max_size=60)


def histogram(values: Sequence[float]) -> Histogram:
    return Histogram.of(bucket_of(np.array(values, dtype=np.float64)))


def nearest_rank(values: Sequence[float], probability: float) -> float:
    """The smallest value that at least that share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(probability * len(ordered))) - 1]


@given(values=st.lists(latencies, min_size=1, max_size=80), probability=st.floats(0, 1))
def test_quantiles_are_within_one_per_cent_of_the_exact_ones(
    values: list[float], probability: float
) -> None:
    (found,) = histogram(values).quantiles(probability)
    assert found == pytest.approx(nearest_rank(values, probability), rel=TOLERANCE)


@pytest.mark.parametrize("spread", [0.1, 1, 3])
def test_quantiles_of_many_likely_latencies_are_within_one_per_cent(spread: float) -> None:
    rng = np.random.default_rng(5)
    values = np.clip(rng.lognormal(3, spread, 50_000), FINEST_MS * 1.1, CAP_MS)
    probabilities = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
    found = Histogram.of(bucket_of(values)).quantiles(*probabilities)
    exact = [nearest_rank(values.tolist(), probability) for probability in probabilities]
    assert found == pytest.approx(exact, rel=TOLERANCE)


@given(st.integers(1, 1_046))
def test_every_bucket_stands_for_what_is_in_it(bucket: int) -> None:
    low, high = FINEST_MS * 1.02 ** (bucket - 1), FINEST_MS * 1.02**bucket
    value = value_of(bucket)
    assert low < value <= high
    assert value / low - 1 <= TOLERANCE
    assert 1 - value / high <= TOLERANCE
    inside = np.array([low * (1 + 1e-9), (low + high) / 2, high * (1 - 1e-9)])
    assert bucket_of(inside).tolist() == [bucket] * 3


@given(a=latencies, b=latencies)
def test_longer_latencies_never_come_into_lower_buckets(a: float, b: float) -> None:
    low, high = bucket_of(np.array(sorted([a, b]))).tolist()
    assert low <= high


@pytest.mark.parametrize("latency", [0.0, 1e-9, FINEST_MS])
def test_latencies_too_short_to_matter_are_none_at_all(latency: float) -> None:
    assert histogram([latency]).quantiles(0.5) == (0.0,)


@pytest.mark.parametrize("latency", [CAP_MS, CAP_MS + 1, 1e15])
def test_latencies_beyond_the_cap_count_as_the_cap(latency: float) -> None:
    (found,) = histogram([latency]).quantiles(1.0)
    assert found == pytest.approx(CAP_MS, rel=TOLERANCE)


@given(values=many, edges=st.lists(latencies, min_size=1, max_size=5))
def test_as_many_are_up_to_an_edge_as_are_not_above_it(
    values: list[float], edges: list[float]
) -> None:
    found = histogram(values)
    within = found.up_to(bucket_of(np.array(edges, dtype=np.float64))).tolist()
    assert within == [found.total - found.above(edge) for edge in edges]
    for edge, count in zip(edges, within, strict=True):
        surely = sum(value <= edge for value in values)
        perhaps = sum(FINEST_MS < value <= edge * 1.0201 for value in values)
        assert surely <= count <= max(surely, perhaps + sum(v <= FINEST_MS for v in values))


def test_without_latencies_no_quantile_is_known() -> None:
    assert Histogram().up_to(np.array([1, 900])).tolist() == [0, 0]
    assert Histogram().quantiles(0.5, 0.99) == (None, None)
    assert histogram([]).quantiles(0.5) == (None,)
    assert Histogram().quantiles() == ()
    assert Histogram().total == 0


def test_quantiles_are_those_of_the_nearest_rank() -> None:
    found = histogram([1, 10, 100, 1000]).quantiles(0, 0.25, 0.2501, 0.5, 0.75, 1)
    assert found == pytest.approx([1, 1, 10, 10, 100, 1000], rel=TOLERANCE)


@given(many, many, many)
def test_merging_is_counting_together_in_any_order(
    a: list[float], b: list[float], c: list[float]
) -> None:
    whole = histogram([*a, *b, *c])
    first, second, third = histogram(a), histogram(b), histogram(c)
    assert first.plus(second).plus(third) == whole
    assert first.plus(second.plus(third)) == whole
    assert third.plus(first).plus(second) == whole
    assert summed([first, second, third]) == whole
    assert whole.total == len(a) + len(b) + len(c)


@given(many)
def test_merging_changes_neither_side(values: list[float]) -> None:
    first, second = histogram(values), histogram([1, 50, 2_000])
    before = first.pack(), second.pack()
    first.plus(second)
    second.plus(first)
    assert (first.pack(), second.pack()) == before


@given(values=many, offset=st.integers(0, 5))
def test_a_histogram_reads_back_as_it_was_packed(values: list[float], offset: int) -> None:
    found = histogram(values)
    packed = bytes(offset) + found.pack() + b"more"
    assert Histogram.unpack(packed, offset) == found


def test_a_packed_histogram_holds_counts_of_sixty_four_bits() -> None:
    found = Histogram(3, np.array([2**62, 1], dtype=np.int64))
    assert Histogram.unpack(found.pack()) == found


def test_nothing_and_nothing_are_equal() -> None:
    assert Histogram() == Histogram(5)
    assert Histogram() != histogram([1])
    assert histogram([1]) != histogram([2])
    assert Histogram() != "nothing"
