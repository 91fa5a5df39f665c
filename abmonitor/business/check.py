"""Printed results against the formulas that they claim to follow. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

from abmonitor.business.calculate import Estimate, drawn, estimate, likely, steps
from abmonitor.business.case import Case


@dataclass(frozen=True, slots=True)
class Finding:
    """A printed result beside the computed ones."""

    result: str
    printed: float
    by_formula: Estimate
    """From the inputs, and from the printed results before it: what a reader would recompute."""
    from_inputs: Estimate
    """From the inputs alone, with no printed result in between."""
    contradicts: bool
    """Whether the printed number is not what its formula gives of the printed ones before it."""

    def document(self) -> dict[str, Any]:
        """The finding as plain data."""
        return asdict(self)


def check(case: Case, draws: int, seed: int) -> list[Finding]:
    """Each printed result of a case; none where it declares none.

    A printed number agrees if the computed one rounds to it at its last digit, or, where inputs are
    ranges, if it lies between p5 and p95. One that is unknown agrees with nothing.
    """
    printed = {} if case.printed is None else case.printed.given()
    values = {name: each.value for name, each in printed.items()}
    middle, inputs = likely(case), drawn(case, draws, seed)
    by_formula = [steps(case, each, values) for each in (middle, inputs)]
    from_inputs = [steps(case, each, {}) for each in (middle, inputs)]
    found = []
    for name, each in printed.items():
        computed = estimate(by_formula[0][name], by_formula[1][name])
        fits = _fits(each.value, each.half, computed)
        alone = estimate(from_inputs[0][name], from_inputs[1][name])
        found.append(Finding(name, each.value, computed, alone, contradicts=not fits))
    return found


def _fits(printed: float, half: float, computed: Estimate) -> bool:
    if computed.p5 is None:
        return False
    slack = half * (1 + 1e-9) + 1e-12 * abs(printed)  # binary fractions of what was decimal
    above = computed.p95 is not None and printed > computed.p95 + slack  # None: it never ends
    return printed >= computed.p5 - slack and not above
