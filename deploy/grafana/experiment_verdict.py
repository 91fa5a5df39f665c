"""Panels of an experiment: the verdict, and what it means in money. Pure."""

from board import Row
from grafana_foundation_sdk.builders import bargauge, stat, statetimeline, timeseries
from panels import band, bars, lines, numbers, timeline
from queries import TREATMENT as THE_TREATMENT
from queries import (
    VARIANTS,
    Query,
    age,
    band_of,
    by_variant,
    holds,
    of_now,
    of_treatment,
    phases,
    settled,
    states,
)
from style import (
    CONTROL,
    GOOD,
    HARM,
    KNOWN,
    NEUTRAL,
    PURPLE,
    TREATMENT,
    WARNING,
    colour,
    dashes,
    history_words,
    limit_line,
    properties,
    shades,
    state_words,
    thresholds,
    words,
)


AHEAD = {1: ("behind", HARM), 2: ("undecided", NEUTRAL), 3: ("ahead, proven", GOOD)}
STANDINGS = ("behind", "undecided", "proven")
LIMIT = "harm beyond this"
VALUE = "abmonitor_net_business_value"
MOST = 1.2
"""Evidence beyond this is drawn as this: 100 % decides, and how much more there is tells nothing."""


def verdict() -> Row:
    """The answers that fit on one screen."""
    return Row(
        "Verdict: is the treatment hurting us, how sure are we, can the data be trusted?",
        [
            _state(),
            _ahead(),
            _evidence_now(),
            _age(),
            _held(),
            _history(),
            _evidence(),
            _difference(),
            _value(),
        ],
    )


def _state() -> stat.Panel:
    return numbers(
        "State now",
        "Where each treatment stands. Orange and red mean that harm was found and the monitor acts or has"
        " acted; `rollback failed` needs you at once: take the treatment's traffic away by hand. Purple is"
        " a hold: nothing is decided until its cause is gone (see `Held because of`).",
        [Query(states(VARIANTS), "{{variant}}")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL)),
        mappings=state_words(),
        named=True,
    )


def _ahead() -> stat.Panel:
    parts = [
        f'{code} * (abmonitor_advantage_state{{{VARIANTS},state="{state}"}} == 1)'
        for code, state in enumerate(STANDINGS, 1)
    ]
    return numbers(
        "Better than control?",
        "What the 95 % bounds of the difference in RAP say at the assumed profitability: `ahead, proven`,"
        " `behind` (the treatment loses money), or `undecided`. They are valid however often one looks.",
        [Query(f"max by (variant) ({' or '.join(parts)})", "{{variant}}")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL)),
        mappings=words(AHEAD),
        named=True,
        nothing="no labels yet",
    )


def _evidence_now() -> bargauge.Panel:
    return bars(
        "How near is a rollback?",
        "Evidence of harm by guardrail, as a part of what a rollback takes: at 100 % the treatment is rolled"
        " back. Above 80 % look before it comes. Guardrails with a fixed threshold have no evidence; they"
        " are in `What happened`.",
        [
            Query(f"clamp({_evidence_of(VARIANTS, 'harm')}, 0, 1)", "{{guardrail}} · {{variant}}"),
        ],
        unit="percentunit",
        size=(8, 4),
        steps=thresholds(
            (None, NEUTRAL), (KNOWN, GOOD), (0.5, WARNING), (0.8, TREATMENT), (1, HARM)
        ),
        high=1,
        nothing="no sequential guardrail",
    )


def _evidence_of(where: str, reason: str) -> str:
    """Evidence of sequential guardrails, as a part of what decides."""
    where = f'{where},reason="{reason}"'
    return by_variant("abmonitor_guardrail_evidence_ratio", where, "guardrail")


def _age() -> stat.Panel:
    return numbers(
        "Age of the data",
        "How long ago everything had arrived that is counted. More than a minute: workers are behind, or"
        " stand still; see the pipeline dashboard. From two minutes on the experiment holds: old data proves"
        " nothing.",
        [Query(age("abmonitor_watermark_timestamp_seconds"))],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (60, WARNING), (120, HARM)),
        unit="s",
        decimals=0,
        nothing="nothing counted",
    )


def _held() -> stat.Panel:
    causes = of_now(f"abmonitor_treatment_hold_cause{{{VARIANTS}}} == 1")
    # That nothing is told is no proof that nothing is held: the monitor may be gone.
    known = f"0 * max(abmonitor_treatment_state{{{VARIANTS}}})"
    nothing = f'label_replace({known}, "reason", "nothing", "", "")'
    return numbers(
        "Held because of",
        "Causes for which a treatment is held: then nothing passes, and nobody's traffic is raised. Harm is"
        " still acted on. Each has a runbook; `sample ratio` and `units mixed` mean that the comparison"
        " itself is not to be trusted.",
        [Query(f"max by (variant, reason) ({causes}) or on () {nothing}", "{{reason}}")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (1, PURPLE)),
        names_only=True,
    )


def _history() -> statetimeline.Panel:
    return timeline(
        "What happened",
        "States of all treatments, and of the chosen one the phases of its guardrails and the causes of holds."
        " Read a rollback from left to right: which guardrail failed first, and whether anything was wrong"
        " with the data then.",
        [
            Query(states(VARIANTS), "{{variant}}"),
            Query(phases(), "{{guardrail}}"),
            Query(holds(), "{{reason}}"),
        ],
        size=(24, 6),
        mappings=history_words(),
    )


def _evidence() -> timeseries.Panel:
    panel = lines(
        "Evidence against threshold",
        "How much of what a decision takes has been seen: a line of harm (solid) at 100 % rolls back, one of"
        " safety (dashed) at 100 % says that there is no harm beyond the margin. The line of harm keeps its"
        " highest value. A steep rise means that it is getting worse now. Above 120 % is drawn as 120 %.",
        [
            Query(
                f"clamp({_evidence_of(THE_TREATMENT, 'harm')}, 0, {MOST})", "harm: {{guardrail}}"
            ),
            Query(
                f"clamp({_evidence_of(THE_TREATMENT, 'safe')}, 0, {MOST})",
                "safe: {{guardrail}}",
                {"custom.lineStyle": dashes(4, 6), "custom.lineWidth": 1},
            ),
            Query("vector(1)", "decides"),
        ],
        unit="percentunit",
        low=0,
        high=MOST,
        decimals=0,
    )
    return panel.override_by_name("decides", limit_line())


def _difference() -> timeseries.Panel:
    return _banded(
        "RAP: treatment minus control",
        "Relative achieved profit: 1 is the best that is possible, 0 what never acting earns. Shown is the"
        " difference since the beginning with its 95 % band, valid at every look. A band below 0 is a proven"
        " loss, one across 0 decides nothing. The dashed line is the guardrail's: a band of the test beyond"
        " it rolls back. The first labels, whose band is more than five times as wide as now, are left out.",
        "abmonitor_rap_difference_ratio",
        "rap:sequential.*",
        unit="none",
    )


def _value() -> timeseries.Panel:
    return _banded(
        "Net business value of the treatment",
        "Gain in accuracy, less the cost of latency and of errors, with its 95 % band. When the lower edge is"
        " above 0.5 % the treatment is recommended, above 2 % strongly. A band below 0 means: switching"
        " would cost. Which of the three it comes from is told under Money. The first labels, whose band is"
        " more than five times as wide as now, are left out.",
        f"{VALUE}_ratio",
        "net_business_value:sequential.*",
        unit="percentunit",
    )


def _banded(
    title: str, description: str, metric: str, guardrail: str, *, unit: str
) -> timeseries.Panel:
    limit = f'abmonitor_guardrail_limit{{{THE_TREATMENT},guardrail=~"{guardrail}"}}'
    ends = [Query(band_of(metric, end), end) for end in ("estimate", "lower", "upper")]
    panel = lines(title, description, [*ends, Query(f"max({limit})", LIMIT)], unit=unit)
    return band(panel, colour(TREATMENT)).override_by_name(LIMIT, limit_line())


def money() -> Row:
    """What it is worth."""
    return Row("Money: what is it worth, and what is at stake?", [_parts(), _profit(), _at_risk()])


def _parts() -> timeseries.Panel:
    names = {"accuracy": CONTROL, "latency": WARNING, "errors": HARM}
    parts = [
        Query(
            settled(of_treatment(f"{VALUE}_part_ratio", f'metric="{name}"'), f"{VALUE}_ratio"),
            name,
            {"color": colour(shown)},
        )
        for name, shown in names.items()
    ]
    total = band_of(f"{VALUE}_ratio", "estimate")
    panel = lines(
        "Parts of net business value",
        "What the treatment gains by accuracy, and what its latency and its errors cost; bars below 0 cost."
        " The line is their sum. A gain that latency eats up is a matter of engineering, not of the model.",
        [*parts, Query(total, "sum")],
        unit="percentunit",
        stacked=True,
    )
    line = properties(
        custom__drawStyle="line",
        custom__lineWidth=3,
        custom__fillOpacity=0,
        custom__stacking={"mode": "none", "group": "B"},
        color=colour(TREATMENT),
    )
    return panel.override_by_name("sum", line)


def _profit() -> timeseries.Panel:
    ends = [
        Query(band_of("abmonitor_profit_difference_per_day", end), end)
        for end in ("estimate", "lower", "upper")
    ]
    panel = lines(
        "Profit a day: treatment against control",
        "What the treatment earns more in a day (or less, below 0) than the control would have with the same"
        " predictions, with its 95 % band. In the currency of the events or of the unit costs; otherwise in"
        " costs of an action.",
        ends,
        unit="short",
    )
    return band(panel, colour(TREATMENT))


def _at_risk() -> timeseries.Panel:
    return lines(
        "Profit at risk per hour",
        "What the treatment loses against the control each hour as things are, if it loses: this is what"
        " waiting costs. 0 when it earns more. The same number is in `abmonitor status`.",
        [
            Query(
                by_variant("abmonitor_profit_at_risk_per_hour", VARIANTS, "reason"),
                "{{variant}}, in {{reason}}",
                {"color": shades(TREATMENT), "custom.fillOpacity": 20},
            )
        ],
        unit="short",
        low=0,
    )
