"""The PromQL of the dashboards: one experiment, its variants, and monitors that all say the same. Pure.

Every monitor exposes every experiment, those that stand by too. So replicas are reduced by `max`, never
added or averaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from style import HELD, INTAKES, PHASES, STATES


EXPERIMENT = 'experiment="$experiment"'
VARIANTS = f'{EXPERIMENT},variant=~"$variant"'
TREATMENT = f'{EXPERIMENT},variant="$treatment"'
WINDOW = f'{VARIANTS},window="$window"'
RATE = "$__rate_interval"

ROLLED = "rollback|would_roll_back|rolled_back|rollback_failed|escalated|traffic_returned|accepted|rearm|pass"
"""Decisions that a person wants to see as a line through all panels."""

QUANTILES = (0.5, 0.99)
WIDEST = 5


@dataclass(frozen=True, slots=True)
class Query:
    """One question of a panel, and how its answer is called."""

    expr: str
    legend: str = ""
    properties: Mapping[str, object] = field(default_factory=dict)
    """Of the lines of this query (see `style.properties`)."""
    heatmap: bool = False


def of_now(expr: str) -> str:
    """Of what monitors say now: one that lost Redis goes on saying what it knew, and states are no maxima.

    As rules/recording.yml has it; dashboards do without rules.
    """
    ticks = "abmonitor_tick_timestamp_seconds"
    return f"({expr}) and on (job, instance) ({ticks} > scalar(max({ticks})) - 30)"


def by_variant(metric: str, where: str = VARIANTS, *more: str) -> str:
    """One line a variant, and for each value of further labels."""
    return f"max by ({', '.join(('variant', *more))}) ({metric}{{{where}}})"


def of_treatment(metric: str, where: str) -> str:
    """The one line of the treatment whose band is drawn."""
    return f"max({metric}{{{TREATMENT},{where}}})"


def band_of(metric: str, end: str) -> str:
    """`estimate`, `lower` or `upper` of the treatment's band, without the time when it was far too wide.

    The first labels make bands that say nothing, and on whose scale nothing can be seen. Where the newest
    width is not known, all is shown.
    """
    return settled(of_treatment(metric, f'metric="{end}"'), metric)


def settled(expr: str, metric: str) -> str:
    """A line of one series only while the band of `metric` is at most WIDEST times as wide as it is now."""
    upper, lower = (f'{metric}{{{TREATMENT},metric="{end}"}}' for end in ("upper", "lower"))
    width = f"(max({upper}) - max({lower}))"
    now = f"(max({upper} @ end()) - max({lower} @ end()))"
    return f"({expr} and on () ({width} <= {WIDEST} * {now})) or ({expr} unless on () {now})"


def controls(expr: str) -> str:
    """Of series with a variant only the control's: what has no state as a treatment."""
    return f"({expr}) unless on (variant) {_treatments()}"


def treatments(expr: str) -> str:
    """Of series with a variant only the treatments'."""
    return f"({expr}) and on (variant) {_treatments()}"


def _treatments() -> str:
    return f"abmonitor_treatment_state{{{EXPERIMENT}}}"


def rate_by_variant(metric: str, where: str = VARIANTS, *more: str) -> str:
    """Events a second of each variant."""
    labels = ", ".join(("variant", *more))
    return f"max by ({labels}) (rate({metric}{{{where}}}[{RATE}]))"


def states(where: str = "", by: str = "variant") -> str:
    """The state of each treatment as a number (`style.STATES`)."""
    also = f"{where}," if where else ""
    parts = [
        f'{code} * (abmonitor_treatment_state{{{also}state="{state.value}"}} == 1)'
        for state, code in STATES.items()
    ]
    return f"max by ({by}) ({of_now(' or '.join(parts))})"


def phases() -> str:
    """The phase of each guardrail of the chosen treatment as a number (`style.PHASES`)."""
    parts = [
        f'{code} * (abmonitor_guardrail_phase{{{TREATMENT},state="{phase.value}"}} == 1)'
        for phase, code in PHASES.items()
    ]
    return f"max by (guardrail) ({of_now(' or '.join(parts))})"


def holds() -> str:
    """The causes for which the chosen treatment is held, while it is."""
    causes = of_now(f"abmonitor_treatment_hold_cause{{{TREATMENT}}} == 1")
    return f"max by (reason) ({causes}) * {HELD}"


def intakes() -> str:
    """What the intake of each partition does, as a number (`style.INTAKES`)."""
    parts = [
        f'{code} * (abmonitor_worker_partition_state{{state="{state.value}"}} == 1)'
        for state, code in INTAKES.items()
    ]
    return f"max by (partition) ({' or '.join(parts)})"


def quantile(share: float, histogram: str) -> str:
    """A quantile of a histogram of all processes."""
    return f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket[{RATE}])))"


def age(metric: str, where: str = EXPERIMENT) -> str:
    """How long ago a moment was, in seconds."""
    return f"time() - max({metric}{{{where}}})"


def decisions(where: str) -> str:
    """Moments at which a counter of decisions went up; a monitor that starts is none."""
    return (
        f"max by (experiment, variant, reason)"
        f' (increase(abmonitor_decisions_total{{{where},reason=~"{ROLLED}"}}[{RATE}])) > 0'
    )
