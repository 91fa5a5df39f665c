import math
import re
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from support.eventfiles import HOUR, MINUTE, SETTINGS, Event, traffic
from support.views import settings_of, view_of

from abmonitor.settings import Settings
from abmonitor.view import View
from metrics.advantage import Advantage, Standing
from metrics.changes import Change
from metrics.compare import Comparison, confusion_of, metrics_of
from metrics.drift import Drift, Share
from metrics.families import Shown, describe, families
from metrics.latency import Histogram, bucket_of
from metrics.ledger import Ledger
from metrics.moments import Moments
from metrics.snapshot import Snapshot, VariantFacts
from metrics.stability import Psi
from metrics.uncertainty import Difference
from metrics.value import NetBusinessValue, Recommendation
from metrics.variant_families import EDGES_MS


LABELS = {
    "experiment",
    "variant",
    "window",
    "metric",
    "quantile",
    "predicted",
    "actual",
    "reason",
    "state",
}
Series = dict[tuple[str, ...], float]


def shown_in(view: View) -> list[Shown]:
    return [
        Shown(one.experiment, one.snapshot, one.comparisons) for one in view.experiments.values()
    ]


def exposed(view: View) -> dict[str, Metric]:
    return {family.name: family for family in families(shown_in(view))}


def series(family: Metric) -> Series:
    """Values by those of the labels, without the experiment."""
    return {tuple(list(s.labels.values())[1:]): s.value for s in family.samples}


@pytest.fixture(scope="module")
def view() -> View:
    events = traffic(1_800)
    for event in events[::50]:
        if event["type"] == "prediction":
            event["error"] = True
    return view_of(events)


def test_names_labels_and_units_follow_the_conventions() -> None:
    for family in describe():
        assert re.fullmatch("abmonitor_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert set(family._labelnames) <= LABELS  # type: ignore[attr-defined]
        assert not re.search("_(ms|milliseconds|percent|pct)$", family.name)
        assert not family.samples
    assert len({family.name for family in describe()}) == len(list(describe()))


def test_counters_are_the_totals_and_gauges_the_metrics(view: View) -> None:
    found, shown = exposed(view), view.experiments["offers"]
    for name, facts in shown.snapshot.variants.items():
        total = facts.total
        assert series(found["abmonitor_predictions"])[name,] == total.predictions > 800
        assert series(found["abmonitor_prediction_errors"])[name,] == total.errors > 0
        assert series(found["abmonitor_acted_predictions"])[name,] == total.acted
        values = metrics_of(total, facts.mature, shown.experiment)
        ratios = series(found["abmonitor_metric_ratio"])
        assert {metric for variant, metric in ratios if variant == name} == {
            metric
            for metric in values
            if not metric.startswith("latency")
            and metric not in {"slow_rate", "money_per_prediction"}
        }
        assert all(ratios[name, metric] == values[metric] for _, metric in ratios)
        assert series(found["abmonitor_rap_ratio"])[name,] == values["rap"]


def test_mature_cells_are_counters_by_decision_and_truth(view: View) -> None:
    found, shown = exposed(view), view.experiments["offers"]
    for name, facts in shown.snapshot.variants.items():
        confusion = confusion_of(facts.mature, shown.experiment)
        for family, cells in (
            ("abmonitor_matured_predictions", confusion),
            ("abmonitor_labelled_predictions", facts.total.cells),
        ):
            values = series(found[family])
            assert values[name, "1", "1"] == cells.tp.n > 0
            assert values[name, "1", "0"] == cells.fp.n > 0
            assert values[name, "0", "0"] == cells.tn.n > 0
            assert values[name, "0", "1"] == cells.fn.n > 0


def test_latencies_are_in_seconds_by_window(view: View) -> None:
    found = exposed(view)
    latency, mean = (
        series(found[f"abmonitor_latency_{name}"]) for name in ("seconds", "mean_seconds")
    )
    for variant in ("old", "new"):
        half, most = latency[variant, "1h", "0.5"], latency[variant, "1h", "0.99"]
        assert 0.015 < half < mean[variant, "1h"] < most < 0.2
    assert {labels[1] for labels in latency} == {"1h", "1d"}  # nothing in the last five minutes
    assert series(found["abmonitor_window_predictions"])["old", "5m"] == 0
    assert ("old", "5m") not in series(found["abmonitor_error_ratio"])


def test_comparisons_are_exposed_for_treatments_only(view: View) -> None:
    found, comparison = exposed(view), view.experiments["offers"].comparisons["new"]
    value, difference = comparison.net_business_value, comparison.differences["rap"]
    assert value is not None
    assert difference is not None
    assert series(found["abmonitor_net_business_value_ratio"]) == {
        ("new", "estimate"): pytest.approx(value.estimate / 100),
        ("new", "lower"): pytest.approx((value.lower or 0) / 100),
        ("new", "upper"): pytest.approx((value.upper or 0) / 100),
    }
    assert series(found["abmonitor_rap_difference_ratio"])["new", "lower"] == difference.lower


def test_clocks_are_in_seconds(view: View) -> None:
    found, snapshot = exposed(view), view.experiments["offers"].snapshot
    assert snapshot.watermark is not None
    assert snapshot.matured is not None
    assert series(found["abmonitor_watermark_timestamp_seconds"])[()] == snapshot.watermark / 1000
    assert series(found["abmonitor_labels_final_timestamp_seconds"])[()] == snapshot.matured / 1000


def values_of(families_: Iterable[Metric]) -> set[str]:
    return {family.name for family in families_ if family.samples}


def test_what_cannot_be_known_has_no_series() -> None:
    events = [event for event in traffic(300) if event["type"] == "prediction"]
    found = exposed(view_of(events))
    unknown = {"rap", "roi", "accuracy", "precision", "recall", "profit_per_prediction"}
    told = {metric for _, metric in series(found["abmonitor_metric_ratio"])}
    assert told == {"error_rate", "selection_rate"}
    assert not told & unknown
    assert not found["abmonitor_rap_ratio"].samples
    assert not found["abmonitor_rap_difference_ratio"].samples
    assert not found["abmonitor_net_business_value_ratio"].samples
    assert not found["abmonitor_labels_final_timestamp_seconds"].samples


def test_before_anything_came_only_counters_have_series() -> None:
    assert values_of(exposed(view_of([])).values()) == {
        "abmonitor_predictions",
        "abmonitor_prediction_errors",
        "abmonitor_acted_predictions",
        "abmonitor_labelled_predictions",
        "abmonitor_matured_predictions",
        "abmonitor_matured_unlabelled_predictions",
        "abmonitor_assumed_profitability",
    }


def test_without_profitability_and_latencies_their_series_are_missing() -> None:
    events: list[Event] = [
        {key: value for key, value in event.items() if key != "latency_ms"}
        for event in traffic(1_200)
    ]
    text = SETTINGS.replace("    profitability: {unit_revenue: 60, unit_cost: 20}\n", "")
    text = "\n".join(line for line in text.splitlines() if "profit_per" not in line)
    found = exposed(view_of(events, settings_of(text)))
    told = {metric for _, metric in series(found["abmonitor_metric_ratio"])}
    assert "accuracy" in told
    assert not told & {"rap", "roi", "profit_per_prediction"}
    assert not found["abmonitor_latency_seconds"].samples
    assert not found["abmonitor_latency_mean_seconds"].samples
    assert not found["abmonitor_prediction_latency_seconds"].samples
    assert not found["abmonitor_assumed_profitability"].samples
    assert not found["abmonitor_advantage_state"].samples


def test_where_only_acted_predictions_get_labels_the_others_have_no_cells() -> None:
    text = SETTINGS.replace("observed: all", "observed: acted")
    found = exposed(view_of(traffic(1_200), settings_of(text)))
    cells = {labels[1:] for labels in series(found["abmonitor_matured_predictions"])}
    assert cells == {("1", "1"), ("1", "0")}
    assert not found["abmonitor_rap_ratio"].samples


def test_money_slowness_and_units_are_told_where_they_are_declared() -> None:
    declared = "    randomised_by: unit\n    money: {cap: 50}\n    slo_ms: 30\n    windows: [10m]\n    labels:"
    settings = settings_of(SETTINGS.replace("    labels:", declared))
    events = [dict(event) for event in traffic(1_200)]
    for number, event in enumerate(events):
        if event["type"] == "outcome":
            event["value"] = 70 if number % 2 else 10
        else:
            event["cost"] = 1
            if number % 5:
                event["unit_id"] = str(number % 97)
    view = view_of(events, settings, complete=True)
    found, shown = exposed(view), view.experiments["offers"]
    for name, facts in shown.snapshot.variants.items():
        values = metrics_of(facts.total, facts.mature, shown.experiment)
        money = series(found["abmonitor_money_per_prediction"])[name,]
        assert money == values["money_per_prediction"]
        assert 9 < money < 50
        capped = series(found["abmonitor_capped_predictions"])[name,]
        assert 0 < capped == facts.mature.capped < facts.mature.predictions
        assert series(found["abmonitor_units"])[name,] == facts.total.units > 30
        assert series(found["abmonitor_units_crossed"])[name,] == facts.total.crossed > 30
        assert series(found["abmonitor_unitless_predictions"])[name,] == facts.total.unitless > 50
        ratios = series(found["abmonitor_metric_ratio"])
        assert ratios[name, "slow_rate"] == values["slow_rate"]
        assert (name, "money_per_prediction") not in ratios
    slow = series(found["abmonitor_slow_ratio"])
    assert slow.keys() <= {("old", "10m"), ("new", "10m")}


def test_slowness_of_a_window_is_the_share_above_the_declared_time() -> None:
    events = [event for event in traffic(400) if event["type"] == "prediction"]
    for number, event in enumerate(events):
        event["latency_ms"] = 500.0 if number % 4 == 0 else 5.0
    settings = settings_of(SETTINGS.replace("    labels:", "    slo_ms: 100\n    labels:"))
    view = view_of(events, settings)
    slow = series(exposed(view)["abmonitor_slow_ratio"])
    for name, facts in view.experiments["offers"].snapshot.variants.items():
        end = view.experiments["offers"].snapshot.watermark or 0
        ledger = facts.window(end, HOUR)
        assert slow[name, "1h"] == ledger.latency.above(100) / ledger.predictions
        assert 0.15 < slow[name, "1h"] < 0.35


# --- latency of all predictions -------------------------------------------------------------------


def with_latencies(*latencies: float | None) -> View:
    """A view of predictions of both variants in turn, that took so long."""
    events = [event for event in traffic(len(latencies)) if event["type"] == "prediction"]
    for event, latency in zip(events, latencies, strict=True):
        del event["latency_ms"]
        if latency is not None:
            event["latency_ms"] = latency
    return view_of(events)


def test_the_latency_histogram_is_cumulative_and_has_sum_and_count() -> None:
    took = [0.4, 1.0, 2.4, 40.0, 40.0, 80.0, 240.0, 9_000.0, 60_000.0, None]
    view = with_latencies(*took, *took)
    family = exposed(view)["abmonitor_prediction_latency_seconds"]
    events = [event for event in traffic(len(took) * 2) if event["type"] == "prediction"]
    for variant in ("old", "new"):
        mine = [
            latency
            for event, latency in zip(events, [*took, *took], strict=True)
            if event["variant"] == variant and latency is not None
        ]
        samples = [s for s in family.samples if s.labels["variant"] == variant]
        buckets = [s for s in samples if s.name.endswith("_bucket")]
        counts = {s.labels["le"]: s.value for s in buckets}
        assert counts == {
            **{str(edge / 1000): sum(t <= edge for t in mine) for edge in EDGES_MS},
            "+Inf": len(mine),
        }
        assert [float(le) for le in counts] == sorted(float(le) for le in counts)
        (total,) = [s.value for s in samples if s.name.endswith("_sum")]
        (count,) = [s.value for s in samples if s.name.endswith("_count")]
        assert total == pytest.approx(sum(mine) / 1000)
        assert count == len(mine)


@given(st.lists(st.floats(0.01, 30_000), min_size=1, max_size=30))
def test_the_latency_histogram_never_decreases_and_is_at_most_two_per_cent_off(
    took: list[float],
) -> None:
    ledger = Ledger(
        predictions=len(took),
        moments=Moments(len(took), round(sum(took) * 10), 1),
        latency=Histogram.of(bucket_of(np.array(took))),
    )
    snapshot = Snapshot("offers", {"old": VariantFacts(total=ledger)})
    (family,) = [
        found
        for found in families([Shown(settings_of().experiments[0], snapshot, {})])
        if found.name == "abmonitor_prediction_latency_seconds"
    ]
    counts = [s.value for s in family.samples if s.name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert counts[-1] == len(took)
    for edge, count in zip(EDGES_MS, counts, strict=False):
        assert sum(t <= edge for t in took) <= count <= sum(t <= 1.0201 * edge for t in took)


# --- labels that never came -----------------------------------------------------------------------


@pytest.mark.parametrize("observed", ["all", "acted"])
def test_mature_predictions_that_had_to_get_a_label_and_never_did_are_counted(
    observed: str,
) -> None:
    events = traffic(1_200)
    lost = {event["prediction_id"] for event in events if event["type"] == "outcome"}
    lost = set(sorted(lost)[::7])
    events = [
        event
        for event in events
        if event["type"] == "prediction" or event["prediction_id"] not in lost
    ]
    text = SETTINGS.replace("observed: all", f"observed: {observed}")
    view = view_of(events, settings_of(text), complete=True)
    expected = dict.fromkeys(("old", "new"), 0)
    for event in events:
        if event["type"] == "prediction" and event["prediction_id"] in lost:
            expected[event["variant"]] += observed == "all" or event["predicted"]
    found = series(exposed(view)["abmonitor_matured_unlabelled_predictions"])
    assert found == {(name,): count for name, count in expected.items()}
    assert min(expected.values()) > 5


# --- comparisons made by hand ---------------------------------------------------------------------

LEVEL = Advantage("level", "q", 1.0)
UNKNOWN = NetBusinessValue(None, None, None)


def compared(
    advantage: Advantage | None = LEVEL,
    parts: NetBusinessValue = UNKNOWN,
    rap: Difference | None = None,
    standing: Standing = "undecided",
) -> Comparison:
    return Comparison(
        "new", {"rap": rap}, None, parts, advantage, standing, Recommendation.CONTINUE
    )


def told_of(comparison: Comparison) -> dict[str, Series]:
    """The series of one comparison, by the name of the family without its prefix."""
    experiment = settings_of().experiments[0]
    shown = Shown(experiment, Snapshot("offers", {}), {"new": comparison})
    return {
        family.name.removeprefix("abmonitor_"): series(family)
        for family in families([shown])
        if family.samples
    }


def test_the_terms_of_net_business_value_are_ratios_and_unknown_ones_have_no_series() -> None:
    found = told_of(compared(parts=NetBusinessValue(1.8, None, -4.0)))
    assert found["net_business_value_part_ratio"] == {
        ("new", "accuracy"): pytest.approx(0.018),
        ("new", "errors"): pytest.approx(-0.04),
    }
    nothing = told_of(compared(parts=NetBusinessValue(None, None, -0.0)))
    assert [*map(str, nothing["net_business_value_part_ratio"].values())] == ["0.0"]
    assert "net_business_value_part_ratio" not in told_of(compared())


@pytest.mark.parametrize(
    ("advantage", "ends"),
    [
        (Advantage("above", "roi", -0.4, low=0.5), (0.5, math.inf)),
        (Advantage("below", "roi", -0.4, high=0.7), (-0.4, 0.7)),
        (Advantage("always", "q", 1.0), (1.0, math.inf)),
    ],
)
def test_the_range_of_assumptions_has_two_ends_also_where_it_is_open(
    advantage: Advantage, ends: tuple[float, float]
) -> None:
    found = told_of(compared(advantage))
    where = ("new", advantage.scale)
    assert (found["ahead_from"], found["ahead_to"]) == ({where: ends[0]}, {where: ends[1]})


@pytest.mark.parametrize("advantage", [None, LEVEL, Advantage("never", "roi", -0.4)])
def test_where_the_treatment_is_ahead_nowhere_there_is_no_range(
    advantage: Advantage | None,
) -> None:
    assert not told_of(compared(advantage)).keys() & {"ahead_from", "ahead_to"}


@pytest.mark.parametrize("standing", ["proven", "undecided", "behind"])
def test_an_advantage_is_in_exactly_one_state_once_it_can_be_known(standing: Standing) -> None:
    found = told_of(compared(rap=Difference(0.1, None, None), standing=standing))
    assert found["advantage_state"] == {
        ("new", each): float(each == standing) for each in ("proven", "undecided", "behind")
    }
    assert "advantage_state" not in told_of(compared(standing=standing))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("{q: 2.5}", {("q",): 2.5}),
        ("{unit_revenue: 60, unit_cost: 20}", {("q",): 3.0}),
        ("{reference_precision: 0.4, assumed_roi: 0.5}", {("q",): 3.75, ("roi",): 0.5}),
    ],
)
def test_what_the_settings_assume_is_told_on_the_scales_of_the_range(
    declared: str, expected: Series
) -> None:
    text = SETTINGS.replace("{unit_revenue: 60, unit_cost: 20}", declared)
    found = series(exposed(view_of([], settings_of(text)))["abmonitor_assumed_profitability"])
    assert found == {key: pytest.approx(value) for key, value in expected.items()}


HINTS = ("score_stability_index", "label_ratio", "missing_label_ratio")
DRIFT = Drift(
    against_control={"new": Psi(0.3, 0.1, HOUR)},
    against_reference={"old": Psi(0.2, 0.1, HOUR), "new": None},
    label_rate={"old": Share(1, 4), "new": None},
    steady=frozenset(),
    missing_labels={"old": None, "new": Share(1, 8)},
    changes={"positive_rate": Change(HOUR, -0.1, 2.5), "mean_score": None},
)


def test_the_numbers_behind_hints_are_told_where_they_are_known(view: View) -> None:
    (shown,) = shown_in(view)
    assert shown.drift is None
    made = families([Shown(shown.experiment, shown.snapshot, shown.comparisons, DRIFT)])
    found = {family.name.removeprefix("abmonitor_"): family for family in made}
    assert [series(found[name]) for name in HINTS] == [
        {("new", "control"): 0.3, ("old", "reference"): 0.2},
        {("old",): 0.25},
        {("new",): 0.125},
    ]
    changed = found["cohort_change_standard_errors"]
    assert series(changed) == {("old", "positive_rate"): 2.5}
    for family in (changed, *map(found.__getitem__, HINTS)):
        assert "a hint, without an error guarantee" in family.documentation
        assert not exposed(view)[family.name].samples


def test_an_experiment_that_is_no_longer_shown_has_no_series(view: View) -> None:
    names = {
        sample.labels["experiment"]
        for family in families(shown_in(view))
        for sample in family.samples
    }
    assert names == {"offers"}
    assert not values_of(families([]))


def test_several_experiments_are_told_apart() -> None:
    declared: Settings = settings_of(
        SETTINGS + SETTINGS.split("\n", 1)[1].replace("offers", "others")
    )
    empty = {variant: VariantFacts() for variant in ("old", "new")}
    shown = [
        Shown(experiment, Snapshot(experiment.name, empty, watermark=HOUR + MINUTE), {})
        for experiment in declared.experiments
    ]
    (predictions,) = [f for f in families(shown) if f.name == "abmonitor_predictions"]
    assert {(s.labels["experiment"], s.labels["variant"]) for s in predictions.samples} == {
        (experiment, variant) for experiment in ("offers", "others") for variant in ("old", "new")
    }
