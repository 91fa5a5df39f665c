import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metrics.advantage import Ahead, Standing, advantage, standing
from metrics.confusion import Cell, Confusion


COUNT = st.integers(0, 50) | st.sampled_from([0, 1, 10**12])


def arm(tp: int, fp: int, fn: int, failed_positives: int = 0) -> Confusion:
    cells = (Cell(n, 1_000 * n, 10**6 * n) for n in (tp, fp, 50, fn, failed_positives, 3))
    return Confusion(*cells)


ARM = st.builds(arm, COUNT, COUNT, COUNT, st.integers(0, 3))

CONTROL = arm(tp=50, fp=100, fn=50)
SIGN_CASES: list[tuple[str, Confusion, Ahead, float | None]] = [
    ("finds more, wastes less", arm(60, 90, 40), "always", None),
    ("finds more, wastes the same", arm(60, 100, 40), "always", None),
    ("finds the same, wastes less", arm(50, 90, 50), "always", None),
    ("finds less, wastes more", arm(40, 110, 60), "never", None),
    ("finds less, wastes the same", arm(40, 100, 60), "never", None),
    ("finds the same, wastes more", arm(50, 110, 50), "never", None),
    ("finds the same, wastes the same", arm(50, 100, 50), "level", None),
    ("finds more, wastes more", arm(60, 120, 40), "above", 3.0),
    ("finds less, wastes less", arm(45, 60, 55), "below", 9.0),
]


def rap(confusion: Confusion, q: Fraction) -> Fraction:
    """Independent of `metrics.value`, and exact."""
    return (confusion.tp.w - confusion.fp.w / (q - 1)) / Fraction(confusion.positives)


@pytest.mark.parametrize(
    ("treatment", "ahead", "end"),
    [case[1:] for case in SIGN_CASES],
    ids=[case[0] for case in SIGN_CASES],
)
def test_every_combination_of_signs_has_its_range(
    treatment: Confusion, ahead: Ahead, end: float | None
) -> None:
    found = advantage(treatment, CONTROL)
    assert found is not None
    assert (found.ahead, found.scale, found.floor) == (ahead, "q", 1)
    assert found.low == (pytest.approx(end) if ahead == "above" else None)
    assert found.high == (pytest.approx(end) if ahead == "below" else None)
    assert found.k == (None if end is None else pytest.approx(1 / (end - 1)))


@pytest.mark.parametrize("case", SIGN_CASES, ids=[case[0] for case in SIGN_CASES])
def test_a_reference_precision_tells_the_same_range_in_assumed_roi(
    case: tuple[str, Confusion, Ahead, float | None],
) -> None:
    _, treatment, ahead, end = case
    found = advantage(treatment, CONTROL, reference_precision=0.2)
    assert found is not None
    assert (found.ahead, found.scale, found.floor) == (ahead, "roi", 0.2 - 1)
    h = None if end is None else pytest.approx(0.2 * end - 1)
    assert found.low == (h if ahead == "above" else None)
    assert found.high == (h if ahead == "below" else None)


def test_the_end_of_the_range_is_p0_times_1_plus_1_over_k_less_1() -> None:
    found = advantage(arm(60, 120, 40), CONTROL, reference_precision=0.0278565)
    assert found is not None
    assert found.k == pytest.approx(0.1 / 0.2)
    assert found.low == pytest.approx(0.0278565 * (1 + 1 / 0.5) - 1)


def test_the_range_is_unknown_when_a_variant_has_no_positives() -> None:
    assert advantage(arm(0, 10, 0), CONTROL) is None
    assert advantage(CONTROL, arm(0, 10, 0)) is None


@given(treatment=ARM, control=ARM, q=st.floats(1.0001, 1e6), p0=st.none() | st.floats(1e-6, 1))
@settings(deadline=None, max_examples=400)
def test_the_sign_of_the_difference_agrees_with_the_range_at_any_assumption(
    treatment: Confusion, control: Confusion, q: float, p0: float | None
) -> None:
    found = advantage(treatment, control, p0)
    assume(found is not None)
    assert found is not None
    assumption = q if p0 is None else p0 * q - 1
    end = found.high if found.low is None else found.low
    size = 1 if p0 is None else p0  # an ROI is rounded relative to q, not to itself
    assume(end is None or abs(assumption - end) > 1e-9 * size * max(q, abs(end) / size))
    assume(assumption > found.floor)
    gain = rap(treatment, Fraction(q)) - rap(control, Fraction(q))
    assert found.ahead_at(assumption) == (gain > 0)
    assert (found.ahead == "level") == (gain == 0)


@given(treatment=ARM, control=ARM, p0=st.none() | st.sampled_from([1e-9, 0.5, 1.0]))
@settings(deadline=None)
def test_the_range_is_finite_and_told_in_words(
    treatment: Confusion, control: Confusion, p0: float | None
) -> None:
    found = advantage(treatment, control, p0)
    if found is None:
        assert not (treatment.positives and control.positives)
        return
    for number in (found.floor, found.low, found.high, found.k):
        assert number is None or math.isfinite(number)
    assert found.low is None or found.high is None
    told = found.describe()
    assert told.endswith(".")
    assert "nan" not in told
    assert "None" not in told


@given(one=ARM, other=ARM)
@settings(deadline=None)
def test_swapping_the_variants_swaps_the_range(one: Confusion, other: Confusion) -> None:
    swapped: dict[Ahead, Ahead] = {
        "always": "never",
        "never": "always",
        "above": "below",
        "below": "above",
        "level": "level",
    }
    there, back = advantage(one, other), advantage(other, one)
    assume(there is not None and back is not None)
    assert there is not None
    assert back is not None
    assert back.ahead == swapped[there.ahead]
    assert (back.low, back.high, back.k) == (there.high, there.low, there.k)


@pytest.mark.parametrize(
    ("treatment", "p0", "sentence"),
    [
        (
            arm(60, 90, 40),
            None,
            "The treatment is ahead however profitable acting is assumed to be.",
        ),
        (
            arm(40, 110, 60),
            None,
            "The control is ahead however profitable acting is assumed to be.",
        ),
        (arm(50, 100, 50), 0.5, "Neither is ahead, however profitable acting is assumed to be."),
        (
            arm(60, 120, 40),
            None,
            (
                "The treatment is ahead if unit profitability q is assumed to be above 3, "
                "the control below that."
            ),
        ),
        (
            arm(45, 60, 55),
            0.125,
            (
                "The treatment is ahead if the reference model is assumed to return below 12.5 %, "
                "the control above that."
            ),
        ),
    ],
)
def test_the_range_reads_as_one_sentence(
    treatment: Confusion, p0: float | None, sentence: str
) -> None:
    found = advantage(treatment, CONTROL, p0)
    assert found is not None
    assert found.describe() == sentence


@pytest.mark.parametrize("p0", [0.0, -0.5, 1.5, math.nan])
def test_a_reference_precision_that_is_no_precision_is_refused(p0: float) -> None:
    with pytest.raises(ValueError, match="reference precision"):
        advantage(CONTROL, CONTROL, p0)


@pytest.mark.parametrize(("p0", "assumption"), [(None, 1.0), (0.25, -0.75), (0.25, math.nan)])
def test_an_assumption_under_which_nothing_can_pay_is_refused(
    p0: float | None, assumption: float
) -> None:
    found = advantage(arm(60, 120, 40), CONTROL, p0)
    assert found is not None
    with pytest.raises(ValueError, match="able to pay"):
        found.ahead_at(assumption)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.001, 0.1, "proven"),
        (-0.1, -0.001, "behind"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (-0.1, 0.0, "undecided"),
        (None, None, "undecided"),
        (0.1, None, "proven"),
        (None, -0.1, "behind"),
    ],
)
def test_the_bounds_at_the_declared_q_prove_leave_open_or_refute(
    lower: float | None, upper: float | None, expected: Standing
) -> None:
    assert standing(lower, upper) == expected
