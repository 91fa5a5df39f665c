"""Shares: the exact tests of failed, acted-on and slow predictions, and of the sample ratio. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics import rates
from metrics.rates import RateTest
from metrics.srm import sample_ratio

from .looks import first_true
from .runs import Effort, Row, chance_of, quantile, share


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LIMIT = -np.log(0.05)


@dataclass(frozen=True, slots=True)
class Case:
    """Shares of both arms, and the traffic: (looks, share of the treatment, total a look) each."""

    name: str
    test: RateTest
    control: float
    treatment: float
    traffic: tuple[tuple[int, float, int], ...] = ((400, 0.5, 100),)
    good_for: int = 0
    """Looks with equal arms first."""


SPLIT = ((400, 0.01, 5_000),)
RAMP = ((100, 0.01, 2_000), (100, 0.1, 1_000), (200, 0.5, 200))
ERRORS = RateTest("rising", relative_margin=0.2)
ACTED = RateTest("either", relative_margin=0.1)
SLOW = RateTest("rising", margin=0.01)

NULLS = (
    *(
        Case(f"{metric}, {split}", test, *shares, traffic)
        for split, traffic in (
            ("50/50", ((400, 0.5, 100),)),
            ("99/1", SPLIT),
            ("ramp 1-10-50 %", RAMP),
        )
        for metric, test, shares in (
            ("error rate 1 %, up to 1.2 times", ERRORS, (0.01, 0.012)),
            ("error rate 0.1 %, up to 1.2 times", ERRORS, (0.001, 0.0012)),
            ("selection rate 10 %, at 1.1 times", ACTED, (0.1, 0.11)),
            ("selection rate 10 %, at 1/1.1 times", ACTED, (0.1, 0.1 / 1.1)),
            ("slow rate 5 %, 1 point more", SLOW, (0.05, 0.06)),
        )
    ),
)
FAULTS = (
    Case("error rate 1 % to 2 %", ERRORS, 0.01, 0.02),
    Case("error rate 1 % to 5 %", ERRORS, 0.01, 0.05),
    Case("error rate 1 % to 5 %, late", ERRORS, 0.01, 0.05, ((600, 0.5, 100),), 200),
    Case("selection rate 10 % to 100 %", ACTED, 0.1, 1.0, ((400, 0.5, 4),)),
    Case("selection rate 10 % to 13 %", ACTED, 0.1, 0.13),
    Case("selection rate 10 % to 0", ACTED, 0.1, 0.0),
    Case("slow rate 5 % to 10 %", SLOW, 0.05, 0.10),
)


def rate_rows(effort: Effort) -> Iterator[Row]:
    """False rollbacks and passes at the edge of the margin; delays of faults."""
    for case in NULLS:
        alarm, passed = _watched(case, effort.experiments)
        found = {"false_rollbacks": share(alarm), "false_passes": share(passed)}
        yield {"case": case.name, "looks": _looks(case), **found}
    for case in FAULTS:
        alarm, _ = _watched(case, effort.few)
        waited = (alarm[alarm > case.good_for] - case.good_for) * case.traffic[0][2] / 2
        middle = {"median": quantile(waited, 0.5), "p95": quantile(waited, 0.95)}
        yield {"case": case.name, "power": share(waited), **middle}


def _looks(case: Case) -> int:
    return sum(looks for looks, _, _ in case.traffic)


def _watched(case: Case, experiments: int) -> tuple[Floats, Floats]:
    """At which look there was an alarm, and at which harm was ruled out first."""
    chance = chance_of(case.name)
    state = case.test.start((experiments,))
    alarm: list[npt.NDArray[np.bool_]] = []
    safe: list[npt.NDArray[np.bool_]] = []
    for looks, treated, total in case.traffic:
        for _ in range(looks):
            now = case.control if len(alarm) < case.good_for else case.treatment
            n_t = chance.binomial(total, treated, experiments)
            n_c = total - n_t
            x_t, x_c = chance.binomial(n_t, now), chance.binomial(n_c, case.control)
            state = case.test.look(state, x_t, n_t, x_c, n_c, treated)
            alarm.append(state.peak >= LIMIT)
            safe.append(rates.log_safe(state) >= LIMIT)
    return first_true(np.array(alarm), 0), first_true(np.array(safe), 0)


def sample_ratio_rows(effort: Effort) -> Iterator[Row]:
    """How often a right split is called wrong when it is looked at a hundred times."""
    for treated, total in ((0.5, 400), (0.01, 20_000)):
        chance = chance_of(f"sample ratio {treated}")
        ours = chance.binomial(total, treated, (effort.few, 100)).cumsum(axis=1)
        theirs = total * np.arange(1, 101) - ours
        split = {"treatment": treated, "control": 1 - treated}
        first = [_first_mismatch(*counts, split) for counts in zip(ours, theirs, strict=True)]
        yield {"case": f"sample ratio, {treated:g} treated", "looks": 100, "false": share(first)}


def _first_mismatch(ours: Ints, theirs: Ints, split: dict[str, float]) -> float:
    for look, (n_t, n_c) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True), 1):
        found = sample_ratio({"treatment": n_t, "control": n_c}, split)
        if found is not None and found.p_value <= 0.05:
            return look
    return float("inf")
