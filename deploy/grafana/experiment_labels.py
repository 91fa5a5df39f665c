"""Panels of an experiment: the labels that the verdict rests on. Pure."""

from board import Row
from grafana_foundation_sdk.builders import stat, table, timeseries
from panels import columns, lines, numbers
from queries import (
    EXPERIMENT,
    VARIANTS,
    Query,
    age,
    by_variant,
    controls,
    rate_by_variant,
    treatments,
)
from style import (
    CONTROL,
    TREATMENT,
    cell,
    colour,
    dashes,
    shades,
    thresholds,
)


MATURED = "abmonitor_matured_predictions_total"
CELLS = {
    "TP: right": ("1", "1"),
    "FP: wrong": ("1", "0"),
    "FN: missed": ("0", "1"),
    "TN: left": ("0", "0"),
}
"""Names of the confusion matrix's cells: predicted, actual."""
SCORES = ("precision", "recall", "accuracy")


def labels() -> Row:
    """What became of the predictions."""
    return Row(
        "Labels: what does the verdict rest on?",
        [_rap(), _quality(), _missing(), _confusion(), _final(), _range()],
    )


def _rap() -> timeseries.Panel:
    rap = by_variant("abmonitor_rap_ratio")
    return lines(
        "RAP by variant",
        "Relative achieved profit of each variant since the beginning: 1 is the best that is possible, 0 what"
        " never acting earns, below 0 a loss. Control is blue, treatments are orange. Both falling together"
        " is a change of the world, not of the model.",
        [
            Query(controls(rap), "{{variant}} (control)", {"color": colour(CONTROL)}),
            Query(treatments(rap), "{{variant}}", {"color": shades(TREATMENT)}),
        ],
        unit="none",
    )


def _quality() -> timeseries.Panel:
    def of(metric: str) -> str:
        return by_variant("abmonitor_metric_ratio", f'{VARIANTS},metric="{metric}"')

    styles = {"precision": {}, "recall": {"custom.lineStyle": dashes(6, 4)}}
    queries = [
        query
        for metric, style in styles.items()
        for query in (
            Query(
                controls(of(metric)),
                f"{metric}, {{{{variant}}}} (control)",
                {"color": colour(CONTROL), **style},
            ),
            Query(
                treatments(of(metric)),
                f"{metric}, {{{{variant}}}}",
                {"color": shades(TREATMENT), **style},
            ),
        )
    ]
    return lines(
        "Precision and recall",
        "Of those acted on, how many were right (solid); of those worth acting on, how many were found"
        " (dashed). Precision falling while recall rises means that the model acts too often, the reverse"
        " too seldom. Of final labels since the beginning.",
        queries,
        unit="percentunit",
    )


def _missing() -> timeseries.Panel:
    unlabelled = rate_by_variant("abmonitor_matured_unlabelled_predictions_total")
    return lines(
        "Labels that never came",
        "Of the predictions whose time for a label ran out, the share without one, by the settings read as"
        " `no` or left out. It should be steady and alike for all variants; a difference between them, or a"
        " rise, means that outcomes get lost, and that the verdict is not to be trusted.",
        [
            Query(
                controls(f"{unlabelled} / {_maturing()}"),
                "{{variant}} (control)",
                {"color": colour(CONTROL)},
            ),
            Query(
                treatments(f"{unlabelled} / {_maturing()}"),
                "{{variant}}",
                {"color": shades(TREATMENT)},
            ),
        ],
        unit="percentunit",
        low=0,
        high=0.05,
    )


def _maturing() -> str:
    """Predictions a second whose label becomes final."""
    return f"sum by (variant) ({rate_by_variant(MATURED, VARIANTS, 'predicted', 'actual')})"


def _confusion() -> table.Panel:
    cells = {
        name: by_variant(MATURED, f'{VARIANTS},predicted="{predicted}",actual="{actual}"')
        for name, (predicted, actual) in CELLS.items()
    }
    scores = {
        name: by_variant("abmonitor_metric_ratio", f'{VARIANTS},metric="{name}"') for name in SCORES
    }
    panel = columns(
        "Decisions and truth (final labels)",
        "How often each variant acted, rightly (TP) or wrongly (FP), or did not, and missed one (FN) or left it"
        " rightly (TN): of all final labels since the beginning;"
        " this is all that RAP is computed from. A dash is what nobody can know: where only those acted on"
        " get a label, nobody learns of the missed.",
        {**cells, **scores},
        size=(14, 5),
        labels={"variant": "variant"},
        unit="none",
    )
    for name in SCORES:
        panel.override_by_name(name, cell(80, unit="percentunit", decimals=1))
    return panel


def _final() -> stat.Panel:
    counted = f"max by (variant) (abmonitor_predictions_total{{{VARIANTS}}})"
    final = f"sum by (variant) ({by_variant(MATURED, VARIANTS, 'predicted', 'actual')})"
    panel = numbers(
        "Final labels",
        "Of all predictions, the share whose label is final, and how long ago the newest of those arrived:"
        " about the horizon plus grace of the settings. Much longer: outcomes have stopped coming, and"
        " maturing waits for them.",
        [
            Query(f"sum({final}) / sum({counted})", "share of all"),
            Query(age("abmonitor_labels_final_timestamp_seconds"), "newest arrived ago"),
        ],
        size=(4, 5),
        steps=thresholds((None, CONTROL)),
        unit="percentunit",
        named=True,
        nothing="none yet",
        decimals=0,
    )
    return panel.override_by_name("newest arrived ago", cell(unit="s"))


def _range() -> table.Panel:
    def end(metric: str) -> str:
        return f"max by (variant, metric) ({metric}{{{VARIANTS}}} < +Inf)"

    assumed = f"max by (metric) (abmonitor_assumed_profitability{{{EXPERIMENT}}})"
    everybody = f"max by (variant, metric) (abmonitor_ahead_from{{{VARIANTS}}})"
    panel = columns(
        "For which assumed ROI (or q) is it ahead?",
        "The verdict depends on what an action is assumed to earn. Shown is the range in which the treatment's"
        " RAP is ahead; `no limit` is an open end. If what you assume lies near an end, the verdict hangs on"
        " that assumption. Empty: it is behind for every one, or level.",
        {
            "assumed": f"{everybody} * 0 + on (metric) group_left () {assumed}",
            "ahead from": end("abmonitor_ahead_from"),
            "to": end("abmonitor_ahead_to"),
        },
        size=(6, 5),
        labels={"variant": "treatment", "metric": "in"},
        unit="none",
        missing="no limit",
    )
    panel.no_value("for none, or level")
    return panel.override_by_regexp("/assumed|ahead from|to/", cell(decimals=2))
