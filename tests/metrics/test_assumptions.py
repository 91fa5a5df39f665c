import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.assumptions import QRange, Range, q_of, q_of_money, q_of_roi, ranks, rap_range
from metrics.candidates import Counts


LINES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=8)
QS = st.sampled_from([1.125, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 9.0, 33.0])


def counted(lines: list[tuple[int, int]], positives: float = 10) -> Counts:
    tp, fp = np.array(lines, np.float64).reshape(-1, 2).T
    return Counts(tp, fp, positives, 100, tuple(map(str, range(len(lines)))))


def rank_at(lines: list[tuple[int, int]], k: Fraction) -> list[int]:
    worth = [tp - k * fp for tp, fp in lines]
    return [1 + sum(other > mine for other in worth) for mine in worth]


def brute_ranks(lines: list[tuple[int, int]], assumed: QRange) -> list[tuple[int, int]]:
    """Exact ranks at all crossings within the range, between them, and at the ends that belong to it."""
    low = Fraction(0) if assumed.high is None else 1 / (Fraction(assumed.high) - 1)
    high = Fraction(10**6) if assumed.low is None else 1 / (Fraction(assumed.low) - 1)
    crossings = {Fraction(a - c, b - d) for a, b in lines for c, d in lines if b != d}
    inner = sorted(k for k in crossings if low < k < high)
    ends = [low, *inner, high]
    tried = [(one + other) / 2 for one, other in pairwise(ends)] + inner
    tried += [low] * (assumed.high is not None) + [high] * (assumed.low is not None)
    found = [rank_at(lines, k) for k in tried]
    return [(min(column), max(column)) for column in zip(*found, strict=True)]


@given(lines=LINES, ends=st.tuples(st.none() | QS, st.none() | QS))
@settings(deadline=None, max_examples=400)
def test_ranks_are_those_of_every_crossing_and_everything_between(
    lines: list[tuple[int, int]], ends: tuple[float | None, float | None]
) -> None:
    low, high = ends
    if low is not None and high is not None and low > high:
        low, high = high, low
    assumed = QRange(low, high)
    found = ranks(counted(lines), assumed)
    pairs = list(zip(found.best.tolist(), found.worst.tolist(), strict=True))
    assert pairs == brute_ranks(lines, assumed)


def test_three_lines_through_one_point_share_the_first_rank_there_only() -> None:
    # All are worth 4 at k = 1/3: an assumption that floats cannot write.
    lines = [(5, 3), (6, 6), (7, 9)]
    found = ranks(counted(lines), QRange(2.0, 10.0))
    assert found.best.tolist() == [1, 1, 1]
    assert found.worst.tolist() == [3, 2, 3]
    here = ranks(counted(lines), QRange(4.0, 4.0))
    assert here.worst.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("q", "typed"),
    [
        (Fraction(11, 5), 2.2),
        (Fraction(6, 5), 1.2),
        (Fraction(9, 7), 90 / 70),
        (Fraction(7, 5), 1.4),
    ],
)
def test_an_end_of_a_range_is_the_number_that_was_typed_not_the_float_next_to_it(
    q: Fraction, typed: float
) -> None:
    k = 1 / (q - 1)
    lines = [(0, 0), (k.numerator, k.denominator)]  # both earn nothing at q
    below, above = QRange(1.1, typed), QRange(typed, 10.0)
    assert below.k[0] == above.k[1] == float(k)
    for assumed in (below, above):
        assert ranks(counted(lines), assumed).best.tolist() == [1, 1]
    assert ranks(counted(lines), below).worst.tolist() == [1, 2]
    assert ranks(counted(lines), above).worst.tolist() == [2, 1]


def test_a_q_that_nobody_typed_is_taken_as_it_is() -> None:
    for q in (1 + 2**-52, 1 + 1e-9, math.pi, 1e300):
        assert QRange(q, q).k == pytest.approx((1 / (q - 1),) * 2, rel=1e-12)


def test_crossings_of_large_counts_are_told_apart() -> None:
    n = 2**25
    # The first is crossed by the second at k = (n-1)/n, by the third at (n-2)/(n-1), a hair before.
    lines = [(n, n), (1, 0), (2, 1)]
    k = Fraction(n - 2, n - 1), Fraction(n - 1, n)
    assert float(k[0]) < float(k[1])
    found = ranks(counted(lines, n), QRange(None, None))
    assert list(zip(found.best, found.worst, strict=True)) == brute_ranks(lines, QRange(None, None))


def test_equal_models_share_their_rank() -> None:
    found = ranks(counted([(5, 1), (5, 1), (4, 1)]), QRange(2.0, 3.0))
    assert (found.best.tolist(), found.worst.tolist()) == ([1, 1, 3], [1, 1, 3])


def test_certainty_says_what_holds_for_all_some_or_no_assumptions() -> None:
    found = ranks(counted([(9, 8), (6, 2), (1, 9)]), QRange(2.0, 9.0))
    assert found.certainty(1) == ["possible", "possible", "impossible"]
    assert found.certainty(3) == ["impossible", "impossible", "certain"]
    assert found.among(2) == ["certain", "certain", "impossible"]
    assert found.among(1) == ["possible", "possible", "impossible"]


@given(lines=LINES, low=QS, width=st.floats(0, 20), share=st.floats(0, 1))
@settings(deadline=None)
def test_rap_at_any_q_of_the_range_lies_within_its_range(
    lines: list[tuple[int, int]], low: float, width: float, share: float
) -> None:
    counts, assumed = counted(lines), QRange(low, low + width)
    least, most = rap_range(counts, assumed)
    inside = counts.rap(low + share * width)
    assert (least <= inside + 1e-9).all()
    assert (inside <= most + 1e-9).all()
    assert least == pytest.approx(counts.rap(low))
    assert most == pytest.approx(counts.rap(low + width))


def test_open_ends_give_the_recall_and_a_loss_without_bound() -> None:
    low, high = rap_range(counted([(5, 1), (5, 0)]), QRange(None, None))
    assert low.tolist() == [-math.inf, 0.5]
    assert high.tolist() == [0.5, 0.5]
    for ends in rap_range(counted([(0, 1), (0, 0)], positives=0), QRange(None, None)):
        assert np.isnan(ends).all()


@given(
    p0=st.tuples(st.floats(0.01, 0.4), st.floats(0, 0.4)),
    roi=st.tuples(st.floats(-0.1, 2), st.floats(0, 2)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_range_of_q_holds_every_combination_and_reaches_its_ends(
    p0: tuple[float, float], roi: tuple[float, float], at: tuple[float, float]
) -> None:
    precision, assumed = Range(p0[0], sum(p0)), Range(roi[0], sum(roi))
    found = q_of_roi(precision, assumed)
    q = (1 + roi[0] + at[0] * roi[1]) / (p0[0] + at[1] * p0[1])
    assert found.high == pytest.approx((1 + sum(roi)) / p0[0])
    assert (1.0 if found.low is None else found.low) - 1e-9 <= max(q, 1) <= (found.high or 0) + 1e-9
    assert found.clipped == ((1 + roi[0]) / sum(p0) <= 1)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (q_of_roi(Range.point(0.0278565), Range.point(0.0)), QRange(1 / 0.0278565, 1 / 0.0278565)),
        (q_of_roi(Range(None, 0.5), Range.point(0.0)), QRange(2.0, None)),
        (q_of_roi(Range(0.25, None), Range(0.5, 1.0)), QRange(1.5, 8.0)),
        (q_of_roi(Range.point(0.25), Range(None, 1.0)), QRange(None, 8.0, clipped=True)),
        (q_of_money(Range(90, None), Range.point(10)), QRange(9.0, None)),
        (q_of_money(Range.point(90), Range(10, None)), QRange(None, 9.0, clipped=True)),
        (q_of_money(Range.point(90), Range(None, 10)), QRange(9.0, None)),
        (q_of(Range(10, None)), QRange(10, None)),
        (q_of(Range(1, 3)), QRange(None, 3, clipped=True)),
    ],
)
def test_every_way_to_declare_a_range_has_its_ends(found: QRange, expected: QRange) -> None:
    assert found == expected
    assert (found.note is not None) == expected.clipped


def test_k_runs_against_q() -> None:
    assert QRange(2.0, 5.0).k == (0.25, 1.0)
    assert QRange(None, None).k == (0.0, math.inf)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: q_of(Range(0.2, 0.9)), "must be above 1 .* got at most 0.9"),
        (lambda: q_of_roi(Range.point(0.5), Range(-0.9, -0.5)), "got at most 1"),
        (lambda: q_of(Range(3, 2)), r"expected q to rise from low to high, got 3\.\.2"),
        (lambda: q_of(Range()), "expected q to have at least one end"),
        (lambda: q_of(Range(2, math.inf)), "the ends of q to be finite"),
        (lambda: q_of(Range(-1, 2)), "expected q to be above 0, got -1"),
        (
            lambda: q_of_roi(Range(0.5, 1.5), Range.point(0)),
            r"precision to be in \(0, 1\], got 1.5",
        ),
        (lambda: q_of_roi(Range(0.5, 1), Range.point(-1)), "ROI to be above -1, got -1"),
        (lambda: q_of_money(Range.point(0), Range.point(1)), "revenue to be above 0, got 0"),
        (lambda: q_of_money(Range.point(2), Range.point(-1)), "cost to be above 0, got -1"),
        (lambda: QRange(1.0, 2.0), r"above 1, got 1.0\.\.2.0"),
        (lambda: QRange(3.0, 2.0), "that rises"),
    ],
)
def test_bad_ranges_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
