"""Panels of an experiment: its traffic, its latency, and whether the split is the intended one. Pure."""

from board import Row
from grafana_foundation_sdk.builders import heatmap, timeseries
from panels import heat, lines
from queries import (
    EXPERIMENT,
    RATE,
    WINDOW,
    Query,
    by_variant,
    controls,
    rate_by_variant,
    treatments,
)
from queries import TREATMENT as THE_TREATMENT
from style import CONTROL, TREATMENT, colour, dashes, limit_line, shades


QUANTILES = {"0.5": dashes(2, 6), "0.95": dashes(8, 6), "0.99": {"fill": "solid"}}
"""How the lines of the quantiles look."""
LEAST_P = 1e-6
"""A p-value below this is drawn as this: zero has no place on a logarithmic scale."""


def traffic() -> Row:
    """What label-free guardrails and the split look at."""
    return Row(
        "Traffic: is it slower, does it fail, is the split the intended one?",
        [
            _latency(),
            _spread("control", _buckets(controls)),
            _spread("$treatment", _buckets(None)),
            _errors(),
            _rate(),
            _split(),
            _p_value(),
        ],
    )


def _both(expr: str, legend: str = "{{variant}}", **style: object) -> list[Query]:
    """A blue line for the control and orange ones for the treatments."""
    return [
        Query(controls(expr), f"{legend} (control)", {"color": colour(CONTROL), **style}),
        Query(treatments(expr), legend, {"color": shades(TREATMENT), **style}),
    ]


def _latency() -> timeseries.Panel:
    queries = []
    for quantile, style in QUANTILES.items():
        where = f'{WINDOW},quantile="{quantile}"'
        name = f"p{100 * float(quantile):.0f} {{{{variant}}}}"
        of = by_variant("abmonitor_latency_seconds", where)
        queries += _both(of, name, **{"custom.lineStyle": style})
    limit = (
        f"max by (guardrail) (abmonitor_guardrail_value{{{THE_TREATMENT},"
        'guardrail=~"latency.*",metric="bound"})'
    )
    panel = lines(
        "Latency",
        "Half, 95 % (dashed) and 99 % (solid) of the predictions of the window are at least this fast. The red"
        " dashed line is the guardrail's: above it the treatment fails. Only orange rising is the treatment's"
        " fault; both rising is the platform's.",
        [*queries, Query(limit, "limit of {{guardrail}}")],
        unit="s",
        low=0,
    )
    return panel.override_by_regexp("/^limit of/", limit_line())


def _buckets(which: object) -> str:
    bucket = "abmonitor_prediction_latency_seconds_bucket"
    if which is None:
        return f"sum by (le) (max by (variant, le) (rate({bucket}{{{THE_TREATMENT}}}[{RATE}])))"
    of = f"max by (variant, le) (rate({bucket}{{{EXPERIMENT}}}[{RATE}]))"
    return f"sum by (le) ({controls(of)})"


def _spread(whose: str, expr: str) -> heatmap.Panel:
    return heat(
        f"How latency is spread: {whose}",
        "Predictions a second by how long they took; the scale below says how many. One broad band is usual. A second band"
        " above the first is a part of the requests that goes a slower way, which percentiles hide.",
        Query(expr, "{{le}}", heatmap=True),
        unit="s",
    )


def _errors() -> timeseries.Panel:
    return lines(
        "Errors",
        "Share of the predictions of the window that failed. A failed request is in every denominator and in"
        " no numerator, so errors cost profit as well. Orange above blue is the treatment's fault.",
        _both(by_variant("abmonitor_error_ratio", WINDOW)),
        unit="percentunit",
        size=(6, 7),
        low=0,
        high=0.01,
    )


def _rate() -> timeseries.Panel:
    return lines(
        "Predictions a second",
        "Traffic of each variant. After a rollback the treatment's line falls to 0: if it does not, the router"
        " has not obeyed. A variant that falls to 0 by itself is silent, and is rolled back after a while.",
        _both(rate_by_variant("abmonitor_predictions_total")),
        unit="reqps",
        size=(6, 7),
        low=0,
    )


def _split() -> timeseries.Panel:
    counted = by_variant("abmonitor_phase_assigned")
    everything = f"scalar(sum(max by (variant) (abmonitor_phase_assigned{{{EXPERIMENT}}})))"
    dashed: dict[str, object] = {"custom.lineStyle": dashes(4, 6), "custom.lineWidth": 1}
    return lines(
        "Split of the traffic",
        "Share of each variant since the split was last changed (solid), and the intended one (dashed). They"
        " should lie on each other. Whether they differ by more than chance explains is in the next panel.",
        [
            *_both(f"{counted} / {everything}"),
            *_both(by_variant("abmonitor_phase_share_ratio"), "intended {{variant}}", **dashed),
        ],
        unit="percentunit",
        size=(6, 7),
        low=0,
        high=1,
        decimals=0,
    )


def _p_value() -> timeseries.Panel:
    p_value = by_variant("abmonitor_sample_ratio_p_value")
    limit = f"max(abmonitor_sample_ratio_p_value_limit{{{EXPERIMENT}}})"
    panel = lines(
        "Does the split fit? (p-value)",
        "How well the split fits the intended one; valid however often one looks. Below the red line it does"
        " not: somebody gets the wrong variant, or events of one get lost. The treatment is held until a"
        " person has cleared it. Do not trust any comparison until then.",
        [
            Query(f"clamp_min({p_value}, {LEAST_P})", "{{variant}}", {"color": shades(TREATMENT)}),
            Query(limit, "mismatch below this"),
        ],
        unit="sci",
        size=(6, 7),
        high=1,
        low=LEAST_P,
        log=True,
    )
    return panel.override_by_name("mismatch below this", limit_line())
