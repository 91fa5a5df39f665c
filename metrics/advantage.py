"""For which assumptions about profitability a treatment is ahead of its control.

RAP is linear in k = 1/(q - 1): RAP = recall - k*FP/P with P = TP + FN. So the difference of two variants
changes sign at most once, at k* = (difference of recalls)/(difference of FP/P), however often or rarely
acting pays. One number, the assumed profitability, is what people argue about most; the range answers them
before they ask.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

from metrics.confusion import Confusion


Ahead = Literal["always", "above", "below", "never", "level"]
Scale = Literal["roi", "q"]
Standing = Literal["proven", "undecided", "behind"]


@dataclass(frozen=True, slots=True)
class Advantage:
    """The open range of assumptions for which the treatment's RAP is above the control's.

    `scale` says in what the range is told: assumed ROI h of the reference model, as a share, or unit
    profitability q. Everything starts at `floor`, below which no action can pay. `low` and `high` are
    the ends of the range, None where it is open: `low` is None when it starts at the floor, `high` when
    it never ends. Where `ahead` is "never" (the control is ahead everywhere) or "level" (neither ever is)
    there is no range, and both are None.
    """

    ahead: Ahead
    scale: Scale
    floor: float
    low: float | None = None
    high: float | None = None
    k: float | None = None
    """k* = 1/(q* - 1) at the end of the range, None when there is no such end."""

    def ahead_at(self, assumption: float) -> bool:
        """Whether the treatment is ahead at this ROI or q (see `scale`).

        Raises ValueError at or below `floor`.
        """
        if not assumption > self.floor:
            raise ValueError(
                f"expected {self.scale} to be above {self.floor:g}, where acting starts to be able "
                f"to pay, got {assumption:g}"
            )
        if self.ahead in ("never", "level"):
            return False
        above = self.low is None or assumption > self.low
        return above and (self.high is None or assumption < self.high)

    def describe(self) -> str:
        """One sentence for people who decide."""
        match self.ahead:
            case "always":
                return "The treatment is ahead however profitable acting is assumed to be."
            case "never":
                return "The control is ahead however profitable acting is assumed to be."
            case "level":
                return "Neither is ahead, however profitable acting is assumed to be."
            case "above":
                return f"The treatment is ahead {self._told('above', self.low)}, the control below that."
            case "below":
                return f"The treatment is ahead {self._told('below', self.high)}, the control above that."
            case unknown:
                assert_never(unknown)

    def _told(self, side: str, end: float | None) -> str:
        if end is None:
            return "everywhere"
        if self.scale == "roi":
            return f"if the reference model is assumed to return {side} {100 * end:.4g} %"
        return f"if unit profitability q is assumed to be {side} {end:.4g}"


def advantage(
    treatment: Confusion, control: Confusion, reference_precision: float | None = None
) -> Advantage | None:
    """Find the assumptions for which the treatment is ahead; None when a variant has no positives.

    With dr and df, the differences of recall and of FP/P: always ahead for dr >= 0 and df <= 0 (not both
    0), never for dr <= 0 and df >= 0, above q* = 1 + df/dr when both are positive, below it when both
    are negative. With the reference model's precision p0 the range is told in its assumed ROI,
    h = p0*q - 1, whose domain is h > p0 - 1; without it in q > 1.

    Raises ValueError unless p0 is None or in (0, 1].

    >>> from metrics.confusion import Cell
    >>> bold = Confusion(tp=Cell(8, 8_000, 0), fp=Cell(6, 6_000, 0), fn=Cell(2, 2_000, 0))
    >>> shy = Confusion(tp=Cell(6, 6_000, 0), fp=Cell(2, 2_000, 0), fn=Cell(4, 4_000, 0))
    >>> advantage(bold, shy)
    Advantage(ahead='above', scale='q', floor=1.0, low=3.0, high=None, k=0.5)
    >>> print(advantage(bold, shy, reference_precision=0.5).describe())
    The treatment is ahead if the reference model is assumed to return above 50 %, the control below that.
    """
    p0 = reference_precision
    if p0 is not None and not 0 < p0 <= 1:
        raise ValueError(
            f"expected the reference precision to be above 0 and at most 1, got {p0:g}"
        )
    ours, theirs = treatment.positives, control.positives
    if not ours or not theirs:
        return None
    # Both differences over their common denominator: whole numbers, whose signs cannot be rounded away.
    recall = treatment.tp.w * theirs - control.tp.w * ours
    false_alarms = treatment.fp.w * theirs - control.fp.w * ours
    ahead = _sign_case(recall, false_alarms)
    scale: Scale = "q" if p0 is None else "roi"
    floor = 1.0 if p0 is None else p0 - 1
    if ahead not in ("above", "below"):
        return Advantage(ahead, scale, floor)
    end = floor + (1 if p0 is None else p0) * (false_alarms / recall)
    return Advantage(
        ahead,
        scale,
        floor,
        low=end if ahead == "above" else None,
        high=end if ahead == "below" else None,
        k=recall / false_alarms,
    )


def _sign_case(recall: int, false_alarms: int) -> Ahead:
    if recall == 0 and false_alarms == 0:
        return "level"
    if recall >= 0 and false_alarms <= 0:
        return "always"
    if recall <= 0 and false_alarms >= 0:
        return "never"
    return "above" if recall > 0 else "below"


def standing(lower: float | None, upper: float | None) -> Standing:
    """Judge the bounds of the difference of RAP (treatment minus control) at the declared q.

    `proven` ahead when the lower bound is above 0, `behind` when the upper bound is below 0, otherwise,
    and without bounds, `undecided`. Good at every look only if the bounds are.

    >>> standing(0.01, 0.05), standing(-0.01, 0.05), standing(-0.05, -0.01), standing(None, None)
    ('proven', 'undecided', 'behind', 'undecided')
    """
    if lower is not None and lower > 0:
        return "proven"
    return "behind" if upper is not None and upper < 0 else "undecided"
