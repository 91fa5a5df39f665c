"""What is told of a snapshot and its book together: profit, labels that stall, and state that was lost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from support.api import declared
from support.panes import START, World, pane

from abmonitor.experiment_families import describe, families
from abmonitor.settings import ExperimentSettings
from abmonitor.status import status
from abmonitor.view import ExperimentView, View
from alerts.book import Book
from alerts.standing import WATCHED, Standing, State
from metrics.advantage import Advantage
from metrics.compare import Comparison
from metrics.experiment import DAY, HOUR, MINUTE, Profitability
from metrics.snapshot import Snapshot
from metrics.uncertainty import Difference
from metrics.value import NetBusinessValue, Recommendation


END = START + 2 * HOUR
LOSS = Difference(-0.25, -0.5, 0.125)


def compared(difference: Difference | None) -> Comparison:
    return Comparison(
        "new",
        {"profit_per_prediction": difference},
        None,
        NetBusinessValue(None, None, None),
        Advantage("level", "q", 1.0),
        "undecided",
        Recommendation.CONTINUE,
    )


def flowing(labelled: int = 5, until: int = END) -> Snapshot:
    """Five predictions of each variant in every ten seconds, so many of them labelled."""
    world = World()
    for variant in ("old", "new"):
        world.arrive(variant, START, until, pane(5, labelled=labelled))
    return world.snapshot(END)


def view(
    snapshot: Snapshot,
    difference: Difference | None = LOSS,
    standing: Standing | None = None,
    **options: Any,
) -> ExperimentView:
    experiment: ExperimentSettings = declared("offers", **options)
    book = Book(standings={} if standing is None else {"new": standing})
    return ExperimentView(experiment, snapshot, book, {"new": compared(difference)})


def told(one: ExperimentView) -> Mapping[tuple[str, ...], float]:
    """Values by the name without its prefix, and the labels behind the experiment."""
    return {
        (sample.name.removeprefix("abmonitor_"), *list(sample.labels.values())[1:]): sample.value
        for family in families([one])
        for sample in family.samples
    }


def of_profit(one: ExperimentView) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in told(one).items() if key[0].startswith("profit_")}


def test_profit_is_told_in_costs_of_an_action_where_no_money_is_declared() -> None:
    in_five_minutes = 5 * 30  # every ten seconds
    a_day = in_five_minutes * 12 * 24
    assert of_profit(view(flowing())) == {
        ("profit_difference_per_day", "new", "estimate", "unit_costs"): -0.25 * a_day,
        ("profit_difference_per_day", "new", "lower", "unit_costs"): -0.5 * a_day,
        ("profit_difference_per_day", "new", "upper", "unit_costs"): 0.125 * a_day,
        ("profit_at_risk_per_hour", "new", "unit_costs"): 0.25 * in_five_minutes * 12,
    }


def test_profit_is_told_in_money_where_the_cost_of_an_action_is_declared() -> None:
    priced = Profitability(unit_revenue=60, unit_cost=20)
    found = of_profit(view(flowing(), profitability=priced))
    assert found["profit_at_risk_per_hour", "new", "money"] == 0.25 * 5 * 30 * 12 * 20
    estimate = found["profit_difference_per_day", "new", "estimate", "money"]
    assert estimate == -0.25 * 5 * 30 * 12 * 24 * 20
    assert not [key for key in found if "unit_costs" in key]


def test_unknown_bounds_and_an_unknown_profit_have_no_series() -> None:
    found = of_profit(view(flowing(), Difference(0.5, None, None)))
    assert set(found) == {
        ("profit_difference_per_day", "new", "estimate", "unit_costs"),
        ("profit_at_risk_per_hour", "new", "unit_costs"),
    }
    assert found["profit_at_risk_per_hour", "new", "unit_costs"] == 0  # it gains
    assert of_profit(view(flowing(), None)) == {}


def test_a_treatment_that_gets_nothing_any_more_earns_and_loses_nothing() -> None:
    rolled_back = Standing(state=State.ROLLED_BACK)
    found = of_profit(view(flowing(until=END - 6 * MINUTE), standing=rolled_back))
    assert set(map(str, found.values())) == {"0.0"}  # none is -0.0, which screens would show
    assert not [key for key in found if key[0] == "profit_at_risk_per_hour"]


def test_profit_at_risk_is_what_the_status_says() -> None:
    one = view(flowing())
    shown = status(View({"offers": one}, as_of=END), None, END, ("offers",))
    at_risk = shown.experiments[0].treatments[0].at_risk.an_hour
    assert at_risk == told(one)["profit_at_risk_per_hour", "new", "unit_costs"]


def test_labels_that_stall_are_told_as_the_status_tells_them() -> None:
    world = World()
    for variant in ("old", "new"):
        world.arrive(variant, START, START + HOUR, pane(5, labelled=5))
        world.arrive(variant, START + HOUR, END, pane(5))
    for snapshot, expected in ((flowing(), 0.0), (world.snapshot(END), 1.0)):
        one = view(snapshot)
        assert told(one)["labels_stalled",] == expected
        shown = status(View({"offers": one}, as_of=END), None, END, ("offers",))
        assert shown.experiments[0].labels_stalled == bool(expected)


@pytest.mark.parametrize(
    ("complete_since", "begun", "expected"),
    [(None, 0, 0), (START, 0, 1), (START, START, 0), (START, START - 1, 1)],
)
def test_state_is_incomplete_where_the_log_begins_after_the_epoch(
    complete_since: int | None, begun: int, expected: float
) -> None:
    snapshot = replace(flowing(), complete_since=complete_since)
    one = view(snapshot, standing=Standing(begun=begun))
    assert told(one)["state_incomplete",] == expected


@pytest.mark.parametrize("state", State)
def test_state_of_what_is_no_longer_judged_lacks_nothing(state: State) -> None:
    one = view(replace(flowing(), complete_since=START), standing=Standing(state=state))
    assert told(one)["state_incomplete",] == float(state in WATCHED)


def test_before_anything_was_read_nothing_is_claimed() -> None:
    assert told(view(Snapshot("offers", {}))) == {}


def test_several_treatments_are_told_apart_and_described_families_are_empty() -> None:
    experiment = msgspec.structs.replace(
        declared("offers"), variants={"old": 0.4, "new": 0.3, "newer": 0.3}
    )
    found = told(replace(view(flowing()), experiment=experiment))
    assert {key[1] for key in found if key[0].startswith("profit_")} == {"new"}
    assert not any(family.samples for family in describe())
    assert [each.name for each in describe()] == [each.name for each in families([])]


def test_a_day_has_as_many_predictions_as_its_hours() -> None:
    found = told(view(flowing(), Difference(-1.0, None, None)))
    a_day = -found["profit_difference_per_day", "new", "estimate", "unit_costs"]
    an_hour = found["profit_at_risk_per_hour", "new", "unit_costs"]
    assert a_day / an_hour == DAY / HOUR
