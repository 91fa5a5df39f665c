from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.confusion import Cell, Cells, Confusion, ratio
from metrics.duration import Duration
from metrics.experiment import Labels


Observed = Literal["all", "acted", "explored"]
Missing = Literal["negative", "exclude"]

METRICS = ("precision", "recall", "specificity", "false_alarm_rate", "accuracy", "f_score")


def labels(observed: Observed = "all", when_missing: Missing = "negative") -> Labels:
    return Labels(horizon=Duration(1), observed=observed, when_missing=when_missing)


def confusion(**weights: int) -> Confusion:
    """Cells of so many predictions, each of weight 1."""
    return Confusion(**{name: Cell(n, 1_000 * n, 10**6 * n) for name, n in weights.items()})


def metrics(found: Confusion) -> dict[str, Any]:
    return {name: getattr(found, name) for name in METRICS}


@pytest.mark.parametrize(
    ("given_cells", "expected"),
    [
        (
            {"tp": 6, "fp": 2, "tn": 10, "fn": 2},
            {"precision": 0.75, "recall": 0.75, "accuracy": 0.8, "f_score": 0.75},
        ),
        (
            {"tp": 6, "fp": 2, "tn": 10, "fn": 2},
            {"specificity": 10 / 12, "false_alarm_rate": 2 / 12},
        ),
        (
            {"tp": 5},
            {"precision": 1, "recall": 1, "accuracy": 1, "f_score": 1, "specificity": None},
        ),
        ({"tn": 5}, {"precision": None, "recall": None, "accuracy": 1, "specificity": 1}),
        ({"fp": 5}, {"precision": 0, "recall": None, "accuracy": 0, "f_score": 0}),
        ({"fn": 5}, {"precision": None, "recall": 0, "accuracy": 0, "f_score": 0}),
    ],
)
def test_metrics_are_the_usual_ones(
    given_cells: Mapping[str, int], expected: Mapping[str, float | None]
) -> None:
    found = metrics(confusion(**given_cells))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_without_predictions_no_metric_is_known() -> None:
    assert set(metrics(Confusion()).values()) == {None}


@pytest.mark.parametrize(
    ("cell", "lowered"),
    [
        ("error_positive", {"recall", "accuracy", "f_score"}),
        ("error_other", {"specificity", "false_alarm_rate", "accuracy"}),
    ],
)
def test_a_failed_request_is_not_correct_and_counts_in_every_denominator(
    cell: str, lowered: set[str]
) -> None:
    before = metrics(confusion(tp=6, fp=2, tn=10, fn=2))
    after = metrics(confusion(tp=6, fp=2, tn=10, fn=2, **{cell: 3}))
    assert {name for name in METRICS if after[name] < before[name]} == lowered
    assert {name for name in METRICS if after[name] != before[name]} == lowered


def test_a_failed_request_is_neither_a_true_negative_nor_a_false_alarm() -> None:
    found = confusion(fp=1, tn=1, error_other=2)
    assert (found.specificity, found.false_alarm_rate) == (0.25, 0.25)


_counts = st.integers(0, 10**12)
cell_lists = st.lists(
    st.builds(Cell, _counts, _counts, _counts, _counts, _counts),
    min_size=len(Cells._fields),
    max_size=len(Cells._fields),
)
declared = st.builds(
    labels, st.sampled_from(["all", "acted", "explored"]), st.sampled_from(["negative", "exclude"])
)


@given(cell_lists.map(Cells._make), declared)
def test_every_prediction_ends_in_exactly_one_place(cells: Cells, declared: Labels) -> None:
    found = Confusion.of(cells, declared)
    parts = (
        found.tp,
        found.fp,
        found.tn,
        found.fn,
        found.error_positive,
        found.error_other,
        found.unknown,
        found.unknown_idle,
    )
    for field in range(len(Cell._fields)):
        assert sum(part[field] for part in parts) == sum(cell[field] for cell in cells)


@given(cell_lists.map(Cells._make), declared)
def test_metrics_are_shares(cells: Cells, declared: Labels) -> None:
    found = Confusion.of(cells, declared)
    assert all(value is None or 0 <= value <= 1 for value in metrics(found).values())
    known = found.tp, found.fp, found.tn, found.fn, found.error_positive, found.error_other
    assert found.total == sum(cell.w for cell in known)


MISSING = Cells(
    missing_acted_yes=Cell(1),
    missing_acted_no=Cell(10),
    missing_idle_yes=Cell(100),
    missing_idle_no=Cell(1_000),
)


@pytest.mark.parametrize(
    ("observed", "when_missing", "fp", "tn", "unknown", "unknown_idle"),
    [
        ("all", "negative", 101, 1_010, 0, 0),
        ("all", "exclude", 0, 0, 1_111, 0),
        ("acted", "negative", 1, 10, 0, 1_100),
        ("acted", "exclude", 0, 0, 11, 1_100),
        ("explored", "negative", 1, 10, 1_100, 0),
        ("explored", "exclude", 0, 0, 1_111, 0),
    ],
)
def test_a_missing_label_means_what_was_declared(
    observed: Observed, when_missing: Missing, fp: int, tn: int, unknown: int, unknown_idle: int
) -> None:
    found = Confusion.of(MISSING, labels(observed, when_missing))
    assert (found.fp.n, found.tn.n, found.unknown.n, found.unknown_idle.n) == (
        fp,
        tn,
        unknown,
        unknown_idle,
    )
    assert (found.tp.n, found.fn.n) == (0, 0)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_nothing_is_divided_by_nothing(numerator: float, denominator: float) -> None:
    found = ratio(numerator, denominator)
    assert (found is None) == (denominator == 0)


def test_weights_count_not_numbers() -> None:
    found = Confusion(tp=Cell(1, 3_000), fp=Cell(9, 1_000))
    assert found.precision == 0.75
