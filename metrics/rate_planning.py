"""Planning of rate tests: how many predictions they need to find a harm, and to pass an equal treatment. Pure.

What half of the cases need is said by `metrics.rate_bounds`. For 80 % the logarithm of each bet's evidence, a
sum over predictions, is taken as normal; see `metrics.planning`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from metrics.experiment import Expected
from metrics.planning import Z_80, Z_90, Need, Plan, checked_rho, first, shares_of, smallest
from metrics.rate_bounds import predictions_needed, predictions_to_pass
from metrics.rates import HALF_AT_EQUAL, Floats, RateTest, Tally


LEAST_SHARE: Final = 1e-9
"""What a share of events that is expected to be 0 is taken for."""


def share_of(metric: str, expected: Expected) -> float:
    """The share of the control's predictions that fail, are slow, or are acted on.

    Raises KeyError for a metric that is no share of what arrives.
    """
    per_prediction = shares_of(expected, expected.recall, expected.false_alarm_rate)
    return {
        "error_rate": expected.error_rate,
        "slow_rate": expected.slow_rate,
        "selection_rate": per_prediction["tp"] + per_prediction["fp"],
    }[metric]


def plan_rate(
    test: RateTest,
    share: float,
    rho: float,
    *,
    alpha: float,
    alpha_pass: float,
    detect: float | None,
    planned: float,
) -> Plan:
    """Plan a test of a share of what arrives, which is `share` of the control's predictions.

    `detect` is a difference of shares beyond the margin, `planned` predictions an arm: see `plan`. The harmed
    treatment's share is higher, also where either direction is harm.
    """
    rates = _Rates(test, max(share, LEAST_SHARE), checked_rho(rho), alpha)
    harmed = _harmed_share(rates, detect, planned)
    passing = Need(
        predictions_to_pass(test, rates.share, rho, alpha_pass), rates.passing(alpha_pass)
    )
    if harmed is None:
        return Plan(detect, Need(), passing)
    effect = harmed / rates.share if test.margin is None else harmed - rates.share
    half = predictions_needed(test, rates.share, effect, rho, alpha)
    need = Need(half, None if half is None else smallest(rates.found(harmed)))
    return Plan(detect or harmed - rates.edge, need, passing)


@dataclass(frozen=True, slots=True)
class _Rates:
    """A test of a share, and what is expected of the control."""

    test: RateTest
    share: float
    rho: float
    alpha: float

    @property
    def edge(self) -> float:
        """The highest share of the treatment that is within the margin."""
        if self.test.relative_margin is not None:
            return self.share * (1 + self.test.relative_margin)
        return self.share + (self.test.margin or 0.0)

    def found(self, harmed: float) -> Callable[[float], bool]:
        """Whether harm is proven in 80 % of the cases, of the first start of weight 1/2."""
        mean, spread = self._growth(self.test.harm_growth, harmed)
        mean, spread = mean.ravel(), spread.ravel()
        weights = np.full(mean.size, -math.log(2 * mean.size))
        return lambda n: _after(n, mean, spread, weights, Z_80) >= -math.log(self.alpha)

    def passing(self, alpha_pass: float) -> int | None:
        """Predictions until an equal treatment passes in 80 % of the cases.

        Where either direction is harm each of two has to be shown, so that each is in 90 %.
        """
        mean, spread = self._growth(self.test.safe_growth, self.share)
        z = Z_80 if mean.shape[0] == 1 else Z_90
        sides = [
            smallest(
                lambda n, mean=one, spread=its: (  # type: ignore[misc]
                    _after(n, mean, spread, HALF_AT_EQUAL, z) >= -math.log(alpha_pass)
                )
            )
            for one, its in zip(mean, spread, strict=True)
        ]
        known = [side for side in sides if side is not None]
        return max(known) if len(known) == len(sides) else None

    def _growth(
        self, growth: Callable[[Tally, npt.ArrayLike], Floats], harmed: float
    ) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what one prediction adds to each bet, shape (sides, bets)."""
        ours, theirs = self.rho * harmed, (1 - self.rho) * self.share
        # One prediction each: an event of the treatment, none of it, and the same of the control.
        each = Tally.checked([1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], self.rho)
        chances = np.array([ours, self.rho - ours, theirs, 1 - self.rho - theirs])
        logs = growth(each, ours + theirs)
        mean = np.tensordot(chances, logs, axes=1)
        variance = np.tensordot(chances, np.square(logs - mean), axes=1)
        return mean, np.sqrt(variance)


def _after(n: float, mean: Floats, spread: Floats, weights: Floats, z: float) -> float:
    """Log of the mixture of bets after n predictions, at its quantile z: all bets have luck together."""
    return float(np.logaddexp.reduce(weights + n * mean - z * math.sqrt(n) * spread))


def _harmed_share(rates: _Rates, detect: float | None, planned: float) -> float | None:
    """The share of the treatment that a plan is about; None where none can be."""
    if detect is not None:
        return rates.edge + detect if rates.edge + detect <= 1 else None
    n = planned / (2 * rates.rho * (1 - rates.rho))
    return None if rates.edge >= 1 else first(lambda bad: rates.found(bad)(n), rates.edge, 1.0)
