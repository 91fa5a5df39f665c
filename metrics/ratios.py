"""The metrics that are ratios: what a prediction in each confusion cell adds above and below the line.

Every metric here is v = sum(w*y) / sum(w*x), with y and x constant within a cell, so that the cells' sums
say everything about its value and its variance.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from metrics.value import checked_q


CELLS = ("tp", "fp", "tn", "fn", "error_positive", "error_other", "unknown", "unknown_idle")
"""The cells of `metrics.confusion.Confusion`, in the order that coefficients have."""

Coefficients = tuple[float, ...]


class Ratio(NamedTuple):
    """Coefficients by cell (see `CELLS`)."""

    above: Coefficients
    below: Coefficients


def _by_cell(**given: float) -> Coefficients:
    return tuple(given.get(cell, 0.0) for cell in CELLS)


_POSITIVES = _by_cell(tp=1, fn=1, error_positive=1)
_NEGATIVES = _by_cell(fp=1, tn=1, error_other=1)
_ACTED = _by_cell(tp=1, fp=1)
_KNOWN = _by_cell(tp=1, fp=1, tn=1, fn=1, error_positive=1, error_other=1)
_EARNING = _by_cell(tp=1, fp=1, tn=1, fn=1, error_positive=1, error_other=1, unknown_idle=1)

_PLAIN: Mapping[str, Ratio] = {
    "precision": Ratio(_by_cell(tp=1), _ACTED),
    "recall": Ratio(_by_cell(tp=1), _POSITIVES),
    "specificity": Ratio(_by_cell(tn=1), _NEGATIVES),
    "false_alarm_rate": Ratio(_by_cell(fp=1), _NEGATIVES),
    "accuracy": Ratio(_by_cell(tp=1, tn=1), _KNOWN),
    "f_score": Ratio(_by_cell(tp=2), _by_cell(tp=2, fp=1, fn=1, error_positive=1)),
}

_PRICED: Mapping[str, Callable[[float], Ratio]] = {
    "rap": lambda q: Ratio(_by_cell(tp=1, fp=-1 / (q - 1)), _POSITIVES),
    "roi": lambda q: Ratio(_by_cell(tp=q - 1, fp=-1), _ACTED),
    "profit_per_prediction": lambda q: Ratio(_by_cell(tp=q - 1, fp=-1), _EARNING),
}

RATIOS = frozenset({*_PLAIN, *_PRICED})
"""The names of all metrics that are ratios."""


def ratio_of(metric: str, q: float | None = None) -> Ratio:
    """The coefficients of `metric`; `q` is unit profitability, for those that depend on it.

    A failed request that was truly positive is a false negative. Raises KeyError for a metric that is
    no ratio, and ValueError for q <= 1 or a missing q.

    >>> ratio_of("rap", q=5.0).above[:2]
    (1, -0.25)
    """
    if metric not in RATIOS:
        raise KeyError(metric)
    if metric in _PLAIN:
        return _PLAIN[metric]
    if q is None:
        raise ValueError(f"{metric} needs unit profitability q")
    return _PRICED[metric](checked_q(q))
