"""What is drawn over time: the same numbers as are told at each of those moments."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from support.drawn import Cohorts, cohort, cohorts, declared, shown
from support.eventfiles import SETTINGS, traffic
from support.panes import COHORT, START, WAIT, pane, steady
from support.views import settings_of, view_of

from abmonitor.document import document, experiment
from abmonitor.series import INTERVAL, Series, headline, series, spark
from abmonitor.series_labelled import POINTS, SPARK_POINTS
from abmonitor.series_memory import Ledgers, Newest, Remembered
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from alerts.book import Book, Decision, Phase, Stretch
from alerts.guardrails import Guardrail
from alerts.phases import SETTLING
from alerts.standing import Standing, State
from metrics.compare import compare, estimate
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE, BusinessValue, Labels, Profitability
from metrics.latency import Histogram, bucket_of
from metrics.ledger import Ledger, total
from metrics.snapshot import VariantFacts
from metrics.uncertainty import difference


EVEN = {"old": 0.4, "new": 0.3, "newer": 0.3}
SMALL = {"old": 0.8, "new": 0.1, "newer": 0.1}


def at(number: int) -> int:
    return START + number * COHORT


def labels(**changes: Any) -> Labels:
    times = {"horizon": Duration(15 * MINUTE), "grace": Duration(5 * MINUTE)}
    return Labels(**times | {"cohort": Duration(COHORT)} | changes)


def decision(moment: int, number: int = 0, treatment: str = "new") -> Decision:
    return Decision(
        id=f"d{number}",
        action="hold",
        experiment="offers",
        treatment=treatment,
        at=moment,
        reasons=("why",),
        state=State.HOLD,
        before=State.COLLECTING,
        epoch=1,
        actor="monitor",
        settings="",
        dry_run=False,
        watermark=moment,
        judgements={},
        counts={},
    )


def drawn(view: ExperimentView) -> dict[str, Any]:
    """The series, drawn with no memory of others, as it comes out of JSON."""
    found = Series().of(view)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    assert plain == found  # plain data, in which nothing is NaN
    return plain


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name for name, each in found.items() if each is None} == {
        name for name, each in expected.items() if each is None
    }
    known = {name: each for name, each in expected.items() if each is not None}
    assert {name: each for name, each in found.items() if each is not None} == pytest.approx(
        known, rel=1e-9, abs=1e-12
    )


def last(columns: dict[str, Any]) -> dict[str, Any]:
    """The newest number of every line."""
    return {name: each[-1] for name, each in columns.items() if isinstance(each, list)}


def assert_as_the_document(found: dict[str, Any], view: ExperimentView) -> None:
    told, labelled = experiment(view), found["labelled"]
    metric = labelled["metric"]
    for name, comparison in told["comparisons"].items():
        assert_same(last(labelled["differences"][name]), comparison["differences"][metric])
        value = dict(comparison["net_business_value"])
        value |= value.pop("parts")
        assert_same(last(labelled["net_business_value"][name]), value)


# What labels say


WORLDS: dict[str, tuple[ExperimentSettings, dict[str, Any], Book]] = {
    "plain": (declared(), {}, Book()),
    "missing labels are unknown": (declared(labels=labels(when_missing="exclude")), {}, Book()),
    "explored": (declared(labels=labels(observed="explored")), {}, Book()),
    "acted": (declared(labels=labels(observed="acted")), {}, Book()),
    "acted, missing labels are unknown": (
        declared(labels=labels(observed="acted", when_missing="exclude")),
        {},
        Book(),
    ),
    "acted, without a price": (
        declared(labels=labels(observed="acted"), profitability=None),
        {},
        Book(),
    ),
    "without a price": (declared(profitability=None), {}, Book()),
    "a plan": (
        declared(testing=msgspec.structs.replace(declared().testing, planned=77.0)),
        {},
        Book(),
    ),
    "latency is worth nothing, and is not known": (
        declared(business_value=BusinessValue(per_latency_ms_pct=0)),
        {"timed": 0.0},
        Book(),
    ),
    "latency is not known": (declared(), {"timed": 0.0}, Book()),
    "units": (declared(randomised_by="unit"), {"units": True}, Book()),
    "one class only": (
        declared(),
        {"shares": (0, 0.2, 0.7, 0, 0, 0, 0, 0, 0, 0.1)},
        Book(),
    ),
    "only true positives": (declared(), {"shares": (1,), "weighted": False}, Book()),
    "splits": (
        declared(),
        {"units": True},
        Book(
            past=(
                Stretch(since=at(2), until=at(9) + 7, split=EVEN),
                Stretch(since=at(10), until=at(14), split=SMALL),
                Stretch(since=at(14) + SETTLING, until=at(20), split={**SMALL, "new": 0.0}),
            ),
            phase=Phase(since=at(20) + SETTLING, split=EVEN),
        ),
    ),
    "a second epoch": (
        declared(),
        {},
        Book(
            standings={"new": Standing(begun=at(12) + 3, epoch=2)},
            phase=Phase(since=at(12) + 3, split=EVEN),
            past=(Stretch(since=START, until=at(11), split=SMALL),),
        ),
    ),
}


@pytest.fixture(params=WORLDS, ids=lambda name: name.replace(" ", "_"))
def world(request: pytest.FixtureRequest) -> tuple[ExperimentSettings, Cohorts, Book]:
    declared_, options, book = WORLDS[request.param]
    return declared_, cohorts(7, 31, **options), book


def test_the_newest_point_says_what_the_document_does(
    world: tuple[ExperimentSettings, Cohorts, Book],
) -> None:
    declared_, found, book = world
    view = shown(declared_, found, book=book)
    assert_as_the_document(drawn(view), view)


def test_every_point_says_what_was_told_when_its_cohort_was_the_newest(
    world: tuple[ExperimentSettings, Cohorts, Book],
) -> None:
    declared_, found, book = world
    whole = drawn(shown(declared_, found, book=book))["labelled"]
    for number, end in list(enumerate(whole["at"]))[::3]:
        then = drawn(shown(declared_, found, book=book, until=end))["labelled"]
        assert then["at"] == whole["at"][: number + 1]
        for kind in ("variants", "differences", "net_business_value"):
            for name, columns in whole[kind].items():
                so_far = {k: each[number] for k, each in columns.items() if isinstance(each, list)}
                assert_same(so_far, last(then[kind][name]))


def test_the_worlds_are_ones_in_which_there_is_something_to_tell() -> None:
    told = {
        name: drawn(shown(each, cohorts(7, 31, **options), book=book))["labelled"]
        for name, (each, options, book) in WORLDS.items()
    }
    dull = {"one class only", "only true positives"}
    for name in told.keys() - dull:
        assert None not in last(told[name]["differences"]["newer"]).values(), name
    assert told["one class only"]["differences"]["new"]["estimate"] == [None] * 31
    assert told["only true positives"]["differences"]["new"]["estimate"] == [0.0] * 31
    assert told["only true positives"]["differences"]["new"]["lower"] == [None] * 31
    apart = {k: v for k, v in told["units"]["differences"]["new"].items() if k != "metric"}
    assert apart != told["plain"]["differences"]["new"]


@pytest.mark.parametrize(
    ("world", "metric"),
    [
        ("plain", "rap"),
        ("explored", "rap"),
        ("acted", "profit_per_prediction"),
        ("without a price", "accuracy"),
        ("acted, without a price", "precision"),
    ],
)
def test_the_headline_is_what_can_be_known(world: str, metric: str) -> None:
    declared_, options, book = WORLDS[world]
    labelled = drawn(shown(declared_, cohorts(3, 4, **options), book=book))["labelled"]
    assert labelled["metric"] == headline(declared_) == metric
    assert {each["metric"] for each in labelled["differences"].values()} == {metric}
    assert labelled["variants"]["new"]["value"][-1] is not None
    known = labelled["net_business_value"]["new"]["estimate"][-1] is not None
    assert known == (declared_.labels.observed != "acted")


def test_a_variant_by_itself_has_the_band_of_its_own_estimate() -> None:
    declared_, found = declared(), cohorts(5, 40, units=True)
    view = shown(declared_, found)
    lines = drawn(view)["labelled"]["variants"]
    for name, facts in view.snapshot.variants.items():
        told = last(lines[name])
        assert told["value"] == pytest.approx(experiment(view)["variants"][name]["metrics"]["rap"])
        plain = estimate("rap", facts.mature, declared_)
        assert plain is not None
        # Like a difference to something that is known exactly, at the same plan.
        grown = 6.7 * facts.mature.predictions / declared_.testing.planned
        alone = difference(plain, replace(plain, value=0.0, variance=0.0), grown)
        assert alone is not None
        assert alone.upper is not None
        assert told["upper"] - told["value"] == pytest.approx(told["value"] - told["lower"])
        # Its units make it less sure than its predictions by themselves.
        assert told["upper"] - told["value"] > 1.1 * (alone.upper - alone.estimate)


def test_an_epoch_begins_with_nothing_known() -> None:
    declared_, _, book = WORLDS["a second epoch"]
    found = cohorts(7, 31)
    labelled = drawn(shown(declared_, found, book=book))["labelled"]
    before = [end for end in labelled["at"] if end <= at(13)]
    assert 11 <= len(before) < len(labelled["at"])
    for kind, name in (("variants", "value"), ("differences", "estimate")):
        line = labelled[kind]["new"][name]
        assert line[: len(before)] == [None] * len(before)
        assert None not in line[len(before) :]
        assert labelled[kind]["newer"][name][1] is not None
    mine = rap_of(declared_, [each for start, each in found["new"].items() if start > at(12)])
    assert labelled["variants"]["new"]["value"][-1] == pytest.approx(mine)
    control = rap_of(declared_, found["old"].values())
    assert labelled["variants"]["old"]["value"][-1] == pytest.approx(control)


def test_where_all_treatments_began_anew_the_control_begins_with_the_first_of_them() -> None:
    begun = {"new": Standing(begun=at(20)), "newer": Standing(begun=at(12))}
    declared_, found = declared(), cohorts(7, 31)
    labelled = drawn(shown(declared_, found, book=Book(standings=begun)))["labelled"]
    assert labelled["at"][0] == at(13)
    later = [each for start, each in found["old"].items() if start >= at(12)]
    assert labelled["variants"]["old"]["value"][-1] == pytest.approx(rap_of(declared_, later))


def rap_of(declared_: ExperimentSettings, ledgers: Iterable[Ledger]) -> float:
    """RAP of all ledgers together."""
    found = estimate("rap", total(ledgers), declared_)
    assert found is not None
    return found.value


@pytest.mark.parametrize("missing", ["new", "old", "newer", "all"])
def test_a_variant_without_predictions_is_unknown_and_spoils_nothing_else(missing: str) -> None:
    found = cohorts(7, 5)
    kept = {name: each for name, each in found.items() if missing not in {name, "all"}}
    view = shown(declared(), kept)
    told = drawn(view)
    labelled = told["labelled"]
    assert len(labelled["at"]) == (0 if missing == "all" else 5)
    for name in view.experiment.variants:
        line = labelled["variants"][name]["value"]
        assert [each is None for each in line] == [name == missing] * len(line)
    if missing != "all":
        assert_as_the_document(told, view)
    for name in view.experiment.treatments:
        unknown = missing in {name, "old"}
        line = labelled["differences"][name]["estimate"]
        assert [each is None for each in line] == [unknown] * len(line)
        assert len(Series().spark(view, name)) == len(line)


def test_cohorts_in_which_nothing_arrived_change_nothing() -> None:
    found = cohorts(7, 6)
    idle = {name: {**each, at(6): Ledger(), at(7): Ledger()} for name, each in found.items()}
    lines = drawn(shown(declared(), idle))["labelled"]
    assert lines["at"][-1] == at(8)
    assert len(lines["at"]) == 8
    for kind in ("variants", "differences", "net_business_value"):
        for columns in lines[kind].values():
            for line in columns.values():
                assert not isinstance(line, list) or line[5] == line[6] == line[7]


def test_one_cohort_is_one_point() -> None:
    view = shown(declared(), cohorts(7, 1))
    found = drawn(view)
    assert found["labelled"]["at"] == [at(1)]
    assert_as_the_document(found, view)
    assert len(Series().spark(view, "new")) == 1


def many(count: int) -> dict[str, dict[int, Ledger]]:
    """So many cohorts, some of them alike, because drawing takes its time."""
    few = cohorts(7, 50)
    return {
        name: {at(n): list(few[name].values())[n * 7 % len(few[name])] for n in range(count)}
        for name in few
    }


@pytest.mark.parametrize("count", [119, 120, 121, 200, 1_000, 5_000])
def test_however_many_cohorts_there_are_a_line_has_so_many_points(count: int) -> None:
    found = many(count)
    moments = [at(count // 3) + 5 * MINUTE, at(count // 2), at(count) - 1]
    view = shown(declared(), found, decisions=[decision(each) for each in moments])
    told = drawn(view)
    ends = told["labelled"]["at"]
    assert len(ends) == min(count, POINTS) or POINTS // 2 < len(ends) <= POINTS
    assert all(one < other for one, other in pairwise(ends))
    assert (ends[0], ends[-1]) == (at(1), at(count))
    assert {at(count // 3), at(count // 2), at(count - 1)} <= {*ends}
    assert_as_the_document(told, view)
    middle = ends.index(at(count // 2))
    then = shown(declared(), found, until=at(count // 2)).comparisons["new"].differences["rap"]
    assert then is not None
    columns = told["labelled"]["differences"]["new"]
    for name in ("estimate", "lower", "upper"):
        assert columns[name][middle] == pytest.approx(getattr(then, name))
    line = Series().spark(view, "new")
    assert len(line) == min(count, SPARK_POINTS)
    assert line[-1] == pytest.approx(told["labelled"]["differences"]["new"]["estimate"][-1])


def test_however_many_decisions_there_are_a_line_has_so_many_points() -> None:
    decisions = [decision(at(n) + 1, n) for n in range(0, 1_000, 2)]
    ends = drawn(shown(declared(), many(1_000), decisions=decisions))["labelled"]["at"]
    assert len(ends) <= POINTS
    assert {at(n) for n in range(960, 1_000, 2)} <= {*ends}  # the newest ones are kept
    assert ends[-1] == at(1_000)


def test_a_cohort_that_is_filling_ends_where_labels_are_final() -> None:
    view = shown(declared(), cohorts(7, 4), final_to=at(3) + 2 * MINUTE)
    found = drawn(view)
    assert found["labelled"]["at"] == [at(1), at(2), at(3), at(3) + 2 * MINUTE]
    assert_as_the_document(found, view)
    assert len(Series().spark(view, "new")) == 3  # which would jump about
    unknown = replace(view, snapshot=replace(view.snapshot, matured=None))
    assert drawn(unknown)["labelled"]["at"][-1] == at(4)
    assert Series().spark(unknown, "new") == []


@pytest.mark.parametrize(
    ("guardrail", "margin"),
    [
        ({"metric": "rap", "test": "sequential", "margin": 0.02}, -0.02),
        ({"metric": "rap", "test": "sequential"}, 0.0),
        ({"metric": "rap", "test": "sequential", "margin": 0.02, "landmark": Duration(1)}, None),
        ({"metric": "rap", "window": Duration(HOUR), "margin": 0.02}, None),
        ({"metric": "accuracy", "test": "sequential", "margin": 0.02}, None),
    ],
)
def test_the_margin_is_that_of_the_sequential_guardrail(
    guardrail: dict[str, Any], margin: float | None
) -> None:
    declared_ = declared(guardrails=(Guardrail(**guardrail),))
    assert (
        drawn(shown(declared_, cohorts(7, 3)))["labelled"]["differences"]["new"]["margin"] == margin
    )
    assert drawn(shown(declared_, {}))["labelled"]["differences"]["new"]["margin"] == margin


def test_a_relative_margin_is_a_share_of_what_the_control_does() -> None:
    tested = Guardrail(metric="accuracy", test="sequential", relative_margin=0.1)
    declared_ = declared(profitability=None, guardrails=(tested,))
    labelled = drawn(shown(declared_, cohorts(7, 3)))["labelled"]
    control = labelled["variants"]["old"]["value"][-1]
    assert labelled["differences"]["new"]["margin"] == pytest.approx(-0.1 * control)
    nothing = drawn(shown(declared_, {}))["labelled"]["differences"]["new"]
    assert nothing["margin"] is None


# What arrives


def arrived(
    until: int, *, seed: int = 0, fine_from: int = START, coarse_from: int = START
) -> dict[str, VariantFacts]:
    """What a reader has at `until` of traffic that is unlike from pane to pane."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in ("old", "new", "newer"):
        fine = {start: arrival(rng) for start in range(fine_from, until, 10_000)}
        coarse = {start: arrival(rng) for start in range(coarse_from, until, COHORT)}
        found[name] = VariantFacts(fine=fine, coarse=coarse)
    return found


def arrival(rng: np.random.Generator) -> Ledger:
    n, errors = int(rng.integers(1, 30)), int(rng.integers(0, 2))
    buckets = bucket_of(rng.lognormal(3, 0.5, size=n))
    return Ledger(n, errors, latency=Histogram.of(buckets))


def seen(
    facts: dict[str, VariantFacts], watermark: int | None, book: Book | None = None
) -> ExperimentView:
    view = shown(declared(), {}, book=book)
    variants = {name: facts.get(name, VariantFacts()) for name in view.experiment.variants}
    return replace(view, snapshot=replace(view.snapshot, variants=variants, watermark=watermark))


@pytest.mark.parametrize(
    ("age", "width", "kind"),
    [
        (7 * 10_000, 10_000, "fine"),
        (20 * MINUTE, 10_000, "fine"),
        (20 * MINUTE + 10_000, 30_000, "fine"),
        (HOUR + MINUTE, MINUTE, "fine"),
        (2 * HOUR - 10_000, MINUTE, "fine"),
        (2 * HOUR, 10 * MINUTE, "coarse"),
        (3 * HOUR, 10 * MINUTE, "coarse"),
        (3 * 24 * HOUR, HOUR, "coarse"),
        (8 * 24 * HOUR, 2 * HOUR, "coarse"),
    ],
)
def test_slices_are_whole_and_reach_as_far_back_as_the_experiment(
    age: int, width: int, kind: str
) -> None:
    end = START + age
    facts = arrived(end, fine_from=max(START, end - 2 * HOUR))
    found = drawn(seen(facts, end + 9_000))["arrival"]
    assert found["width_ms"] == width
    starts = found["at"]
    assert len(starts) <= POINTS
    assert {later - one for one, later in pairwise(starts)} <= {width}
    assert starts[0] <= START
    step = 10 * MINUTE if kind == "coarse" else width
    assert end - step < starts[-1] + width <= end
    whole: dict[int, int] = dict.fromkeys(starts, 0)
    for name, each in facts.items():
        panes, columns = getattr(each, kind), found["variants"][name]
        for number, start in enumerate(starts):
            ledger = total(panes[at] for at in panes if start <= at < start + width)
            whole[start] += ledger.predictions
            assert columns["predictions"][number] == ledger.predictions
            assert columns["error_rate"][number] == ledger.error_rate
            told = tuple(columns[quantile][number] for quantile in ("p50", "p95", "p99"))
            assert told == ledger.latency.quantiles(0.5, 0.95, 0.99)
    for number, start in enumerate(starts):
        came = [each["predictions"][number] for each in found["variants"].values()]
        parts = [each["share"][number] for each in found["variants"].values()]
        assert parts == pytest.approx([n / whole[start] for n in came])


def test_a_slice_that_has_just_begun_is_not_drawn_as_an_outage() -> None:
    facts = arrived(START + 30 * MINUTE)
    watermark = START + 29 * MINUTE + 31_000
    found = drawn(seen(facts, watermark))["arrival"]
    assert found["at"][-1] + found["width_ms"] == START + 29 * MINUTE + 30_000
    assert found["variants"]["new"]["predictions"][-1] > 3


def test_where_nothing_arrived_nothing_is_known() -> None:
    facts = arrived(START + 10 * MINUTE)
    quiet = {name: each if name == "old" else VariantFacts() for name, each in facts.items()}
    columns = drawn(seen(quiet, START + 10 * MINUTE))["arrival"]["variants"]["new"]
    assert {*columns["predictions"]} == {0}
    assert {*columns["share"]} == {0.0}
    for name in ("error_rate", "p50", "p95", "p99"):
        assert {*columns[name]} == {None}
    silence = seen({"old": VariantFacts(fine={START: Ledger()})}, START + MINUTE)
    found = drawn(silence)["arrival"]["variants"]["old"]
    assert {*found["share"]} == {None}


@pytest.mark.parametrize("watermark", [None, START])
def test_before_anything_was_read_there_are_no_slices(watermark: int | None) -> None:
    found = drawn(seen({}, watermark))
    assert found["as_of"] == watermark
    assert found["arrival"]["at"] == []
    assert found["arrival"]["variants"].keys() == {"old", "new", "newer"}
    for columns in found["arrival"]["variants"].values():
        names = {"predictions", "share", "intended", "error_rate", "p50", "p95", "p99"}
        assert columns == {name: [] for name in names}
    assert found["latency"] == {
        "edges_ms": [],
        "variants": {name: {"share": []} for name in ("old", "new", "newer")},
    }


def intended(book: Book, *, minutes: int = 60) -> tuple[list[int], dict[str, list[float | None]]]:
    """When each slice begins, and the intended shares of it."""
    end = START + minutes * MINUTE
    found = drawn(seen(arrived(end), end, book))["arrival"]
    return found["at"], {name: each["intended"] for name, each in found["variants"].items()}


def test_the_intended_share_follows_the_phases() -> None:
    change, settled = START + 20 * MINUTE, START + 20 * MINUTE + SETTLING
    past = (Stretch(since=START + MINUTE, until=change, split=EVEN),)
    book = Book(past=past, phase=Phase(since=settled, split={"old": 6, "new": 2, "newer": 0}))
    starts, found = intended(book)
    before = starts.index(change)
    assert found["old"] == pytest.approx([0.4] * before + [0.75] * (len(starts) - before))
    assert found["new"] == pytest.approx([0.3] * before + [0.25] * (len(starts) - before))
    assert found["newer"] == pytest.approx([0.3] * before + [0.0] * (len(starts) - before))


def test_a_slice_in_which_the_split_changed_was_meant_to_get_what_lies_between() -> None:
    change = START + 20 * MINUTE + 10_000
    past = (Stretch(since=START, until=change, split={"old": 1, "new": 0, "newer": 0}),)
    book = Book(past=past, phase=Phase(since=change, split={"old": 0.4, "new": 0.6, "newer": 0}))
    starts, found = intended(book)
    assert starts[1] - starts[0] == 30_000
    between = starts.index(START + 20 * MINUTE)
    assert found["new"][between - 1 : between + 2] == pytest.approx([0.0, 0.4, 0.6])


def test_while_the_split_cannot_be_told_nothing_is_intended() -> None:
    gone, back = START + 10 * MINUTE, START + 20 * MINUTE
    past = (
        Stretch(since=START, until=gone, split=EVEN),
        Stretch(since=gone, until=back, split={"old": 0.0, "new": 0.0, "newer": 0.3}),
    )
    book = Book(past=past, phase=Phase(since=back, split={"old": 0.7, "new": 0.0, "newer": 0.3}))
    starts, found = intended(book)
    for name, known in (("old", 0.7), ("new", 0.0), ("newer", 0.3)):
        line = found[name]
        assert line[starts.index(gone) : starts.index(back)] == [None] * 20
        assert line[0] == pytest.approx(EVEN[name])
        assert line[-1] == pytest.approx(known)


def test_before_the_first_look_the_split_is_the_declared_one() -> None:
    starts, found = intended(Book())
    assert found == {name: pytest.approx([share] * len(starts)) for name, share in EVEN.items()}


def test_latency_is_distributed_over_a_few_bins_of_the_last_hour() -> None:
    end = START + 2 * HOUR
    rng, facts = np.random.default_rng(3), {}
    for name, typical in (("old", 20.0), ("new", 60.0)):
        lately = {start: latencies(rng, typical) for start in range(end - HOUR, end, 10_000)}
        long_ago = {start: latencies(rng, 5_000.0) for start in range(START, end - HOUR, 10_000)}
        facts[name] = VariantFacts(fine=long_ago | lately)
    found = drawn(seen(facts, end))["latency"]
    edges = found["edges_ms"]
    assert 30 < len(edges) - 1 <= 60
    assert all(one < other for one, other in pairwise(edges))
    assert edges[-1] < 5_000
    assert found["variants"]["newer"]["share"] == [None] * (len(edges) - 1)
    for name, each in facts.items():
        shares = found["variants"][name]["share"]
        assert len(shares) == len(edges) - 1
        assert sum(shares) == pytest.approx(1)
        whole = each.window(end, HOUR).latency
        up_to = np.cumsum(shares)
        (median,) = whole.quantiles(0.5)
        assert edges[int(np.searchsorted(up_to, 0.5))] <= median
        assert median <= edges[int(np.searchsorted(up_to, 0.5)) + 1]


def latencies(rng: np.random.Generator, typical: float) -> Ledger:
    return Ledger(9, latency=Histogram.of(bucket_of(rng.lognormal(np.log(typical), 0.4, size=9))))


def test_latencies_of_nothing_and_of_ever_so_long_have_bins_of_their_own() -> None:
    fine = {START: Ledger(2, latency=Histogram.of(bucket_of(np.array([0.0, 1e9]))))}
    found = drawn(seen({"old": VariantFacts(fine=fine)}, START + MINUTE))["latency"]
    shares = found["variants"]["old"]["share"]
    assert (shares[0], shares[-1], sum(shares)) == (0.5, 0.5, 1)
    assert found["edges_ms"][0] == 0
    assert found["edges_ms"][-1] >= 1_000_000


def test_all_latencies_alike_are_one_bin() -> None:
    fine = {START: pane(7, latency_ms=20.0)}
    found = drawn(seen({"old": VariantFacts(fine=fine)}, START + MINUTE))["latency"]
    low, high = found["edges_ms"]
    assert low < 20 <= high
    assert found["variants"]["old"]["share"] == [1.0]


def test_what_is_mature_is_a_part_of_what_is_labelled_or_waited_for() -> None:
    view = view_of(traffic(1_200)).experiments["offers"]
    told, found = experiment(view)["variants"], drawn(view)["maturity"]
    for name, each in found.items():
        assert 0 < each["mature"] == told[name]["mature_predictions"] < each["predictions"]
        assert each["predictions"] == told[name]["predictions"]
        assert each["labelled"] == told[name]["predictions"] - told[name]["unlabelled"]


def test_decisions_are_told_with_their_reasons() -> None:
    found = drawn(shown(declared(), {}, decisions=[decision(at(1), 7)]))["decisions"]
    told = {"id": "d7", "at": at(1), "action": "hold", "treatment": "new", "reasons": ["why"]}
    assert found == [told]


# From events, and again


def test_a_replay_tells_what_to_draw_and_what_was_declared() -> None:
    view = view_of(traffic(2_400), settings_of())
    found, shown_ = document(view), view.experiments["offers"]
    told = found["experiments"]["offers"]
    assert told["series"] == series(shown_)
    assert told["series"]["interval"] == told["interval"] == INTERVAL
    assert_as_the_document(told["series"], shown_)
    declared_ = told["declared"]
    assert declared_["profitability"]["unit_revenue"] == 60
    assert declared_["q"] == 3
    assert declared_["labels"]["horizon"] == 10 * MINUTE
    assert [each["name"] for each in declared_["guardrails"]] == [
        *told["comparisons"]["new"]["guardrails"]
    ]
    assert declared_["on_breach"] == {"action": "log", "dry_run": False}
    assert declared_["fingerprint"] == shown_.experiment.fingerprint


def test_no_secret_of_where_orders_go_is_told() -> None:
    hook = "    on_breach: {action: webhook, url: {env: ROLLBACK_URL}, headers: {Authorization: {env: KEY}}}\n"
    view = view_of([], settings_of(SETTINGS + hook))
    told = msgspec.json.encode(document(view)["experiments"]["offers"]["declared"]).decode()
    assert '"action":"webhook"' in told
    assert "ROLLBACK_URL" not in told
    assert "KEY" not in told


def test_nothing_is_drawn_again_while_nothing_has_changed() -> None:
    made, view = Series(), shown(declared(), many(300))
    first, line = made.of(view), made.spark(view, "new")
    assert made.of(replace(view)) is first
    later = replace(view, snapshot=replace(view.snapshot, watermark=at(400)))
    again = made.of(later)
    assert again is not first
    assert again["labelled"] is first["labelled"]
    assert made.spark(later, "new") is line


@pytest.mark.parametrize("name", ["old", "new"])
@pytest.mark.parametrize("number", [0, 150, 299, 300])
def test_what_has_changed_is_drawn_as_if_nothing_were_remembered(name: str, number: int) -> None:
    made, found = Series(), many(300)
    view = shown(declared(), found)
    made.of(view)
    made.spark(view, "new")
    changed = {at(number): cohort(np.random.default_rng(1), 400)}
    later = shown(view.experiment, {**found, name: found[name] | changed})
    assert made.of(later) == Series().of(later) != made.of(view)
    assert made.spark(later, "new") == Series().spark(later, "new")


def test_another_book_is_drawn_as_if_nothing_were_remembered() -> None:
    made, found = Series(), many(300)
    view = shown(declared(), found)
    made.of(view)
    made.spark(view, "new")
    split = Book(
        past=(Stretch(since=0, until=at(100), split=EVEN),), phase=Phase(since=at(101), split=SMALL)
    )
    epoch = Book(standings={"new": Standing(begun=at(200))})
    for book in (split, epoch):
        later = shown(view.experiment, found, book=book)
        assert made.of(later) == Series().of(later) != made.of(view)
        assert made.spark(later, "new") == Series().spark(later, "new")


def test_experiments_of_one_name_are_not_mixed_up() -> None:
    made, found = Series(), many(30)
    one = shown(declared(), found)
    other = shown(declared(profitability=Profitability(q=2.0)), found)
    lines = [
        made.of(each)["labelled"]["variants"]["new"]["value"][-1] for each in (one, other, one)
    ]
    assert lines[0] == lines[2] != lines[1]
    sparks = [made.spark(each, "new") for each in (one, other, one)]
    assert sparks[0] == sparks[2] != sparks[1]


def test_of_many_the_ones_that_were_asked_for_last_are_kept() -> None:
    known = Newest[int](2)
    for number, name in enumerate("abab"):
        assert known.keep(name, number) == number
    assert known.get("a") == 2
    known.keep("c", 9)
    assert (known.get("a"), known.get("b"), known.get("c")) == (None, 3, 9)


def test_a_run_is_made_into_something_only_once() -> None:
    made: list[int] = []

    def lengths(runs: Sequence[Ledgers]) -> list[int]:
        made.extend(map(len, runs))
        return [*map(len, runs)]

    one, other, known = Ledger(1), Ledger(1), Remembered[str, int](lengths)
    assert known.of({"a": [one], "b": [one, other]}) == [1, 2]
    assert known.of({"b": [one, other], "a": [other]}) == [2, 1]  # another one that is alike
    assert known.of({"b": [one]}) == [1]
    assert known.of({"a": [other]}) == [1]  # forgotten, for it was not asked for
    assert made == [1, 2, 1, 1, 1]


def test_a_spark_is_the_difference_of_the_headline_in_a_few_points() -> None:
    view = shown(declared(), many(500), book=Book(standings={"new": Standing(begun=at(250))}))
    line, columns = Series().spark(view, "new"), drawn(view)["labelled"]["differences"]["new"]
    assert len(line) == SPARK_POINTS
    assert None not in line
    assert line[-1] == pytest.approx(columns["estimate"][-1])
    assert spark(view, "new") == line
    with pytest.raises(KeyError):
        spark(view, "old")


def test_a_steady_world_has_no_difference_to_draw() -> None:
    snapshot = steady(START + 4 * HOUR).snapshot(START + 4 * HOUR)
    declared_ = declared(variants={"old": 0.5, "new": 0.5})
    view = replace(shown(declared_, {}), snapshot=snapshot)
    found = drawn(view)
    assert {*found["labelled"]["differences"]["new"]["estimate"]} == {0.0}
    # Some labels of the cohort that begins there are in already.
    assert found["labelled"]["at"][-2:] == [START + 4 * HOUR - WAIT, START + 4 * HOUR - COHORT]
    assert {*found["arrival"]["variants"]["new"]["share"]} == {0.5}
    assert {*Series().spark(view, "new")} == {0.0}


def test_a_comparison_of_everything_is_the_newest_point_of_everything() -> None:
    """The comparison that faces show is made of the same pairs, by other code."""
    found, declared_ = cohorts(11, 20), declared()
    view = shown(declared_, found)
    whole = {name: [(total(found[name].values()), total(found["old"].values()))] for name in found}
    told = compare(declared_, whole, frozenset(), declared_.testing.planned)
    rap = told["new"].differences["rap"]
    assert rap is not None
    assert drawn(view)["labelled"]["differences"]["new"]["upper"][-1] == pytest.approx(rap.upper)
