import math
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.drift import PageHinkley
from scipy.special import rel_entr
from scipy.stats import chi2_contingency
from support.panes import COHORT, EXPERIMENT, START, WAIT, cells

from metrics.changes import THRESHOLD, TOLERANCE, WARM_UP, Change, Series
from metrics.confusion import Cell, Cells
from metrics.drift import Drift, Share, drift
from metrics.experiment import DAY, HOUR, MINUTE, Experiment, Step
from metrics.hints import LABEL_GAP, LABEL_Z, MIN_SHARE, Hint, hints_of
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.ledger import SCORE_BINS, Ledger
from metrics.moment import Moment
from metrics.snapshot import Snapshot, VariantFacts
from metrics.stability import LARGE, MIN_SCORES, MODERATE, Psi, psi


Ints = npt.NDArray[np.int64]
Panes = dict[int, Ledger]

SHAPE = np.linspace(1, 4, SCORE_BINS) / np.linspace(1, 4, SCORE_BINS).sum()
COUNTS = st.lists(st.integers(0, 5_000), min_size=SCORE_BINS, max_size=SCORE_BINS)


def in_bins(counts: Mapping[int, int]) -> Ints:
    made = np.zeros(SCORE_BINS, dtype=np.int64)
    for place, count in counts.items():
        made[place] = count
    return made


def scored(scores: Ints) -> Ledger:
    return Ledger(int(scores.sum()), scores=scores)


def flow(ledger: Ledger, start: int, end: int, width: int = COARSE_WIDTH) -> Panes:
    return dict.fromkeys(range(start, end, width), ledger)


def seen(old: VariantFacts, new: VariantFacts, matured: int | None = None) -> Snapshot:
    return Snapshot(EXPERIMENT.name, {"old": old, "new": new}, matured=matured)


def kinds(found: tuple[Hint, ...]) -> list[str]:
    return [hint.kind for hint in found]


def hints(experiment: Experiment, snapshot: Snapshot, at: int, begun: int) -> tuple[Hint, ...]:
    return hints_of(experiment, drift(experiment, snapshot, at, begun))


class Textbook:
    """Page-Hinkley as it is defined: sums of x_t - mean_t, less or plus delta, from their extremes."""

    def __init__(
        self, *, min_instances: int, delta: float, threshold: float, alpha: float, mode: str
    ) -> None:
        assert (alpha, mode) == (1, "both")
        self._least, self._delta, self._threshold = min_instances, delta, threshold
        self._values: list[float] = []
        self._rises, self._falls = [0.0], [0.0]
        self.drift_detected = False

    def update(self, x: float) -> None:
        self._values.append(x)
        away = x - math.fsum(self._values) / len(self._values)
        self._rises.append(self._rises[-1] + away - self._delta)
        self._falls.append(self._falls[-1] + away + self._delta)
        rise = self._rises[-1] - min(self._rises)
        fall = max(self._falls) - self._falls[-1]
        self.drift_detected = len(self._values) >= self._least and max(rise, fall) > self._threshold


@pytest.fixture(params=["river", "textbook"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library, or what it is meant to compute."""
    if request.param == "textbook":
        monkeypatch.setitem(sys.modules, "river.drift", SimpleNamespace(PageHinkley=Textbook))


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    monkeypatch.setitem(sys.modules, "river", None)


# Population stability index


def test_the_index_has_the_value_worked_out_by_hand() -> None:
    """(0.75 - 0.5)*ln(0.75/0.5) + (0.25 - 0.5)*ln(0.25/0.5) = 0.25*0.405465 + 0.25*0.693147."""
    found = psi(in_bins({3: 3_000_000, 4: 1_000_000}), in_bins({3: 500_000, 4: 500_000}), HOUR)
    assert found is not None
    assert found.value == pytest.approx(0.274653, abs=1e-4)
    assert found.noise == pytest.approx(19 * (1 / 4_000_000 + 1 / 1_000_000))


@given(ours=COUNTS, theirs=COUNTS)
def test_the_index_is_the_relative_entropy_both_ways(ours: list[int], theirs: list[int]) -> None:
    n, m = sum(ours), sum(theirs)
    found = psi(np.array(ours), np.array(theirs), HOUR)
    if min(n, m) < MIN_SCORES:
        assert found is None
        return
    half = 0.5 / min(n, m)
    p = np.array([count / n + half for count in ours])
    q = np.array([count / m + half for count in theirs])
    p, q = p / p.sum(), q / q.sum()
    assert found is not None
    assert found.value == pytest.approx(rel_entr(p, q).sum() + rel_entr(q, p).sum(), abs=1e-12)
    back = psi(np.array(theirs), np.array(ours), HOUR)
    assert back is not None
    assert back.value == pytest.approx(found.value)


@given(counts=COUNTS, times=st.integers(1, 10_000))
def test_equal_shares_are_stable_however_unequal_the_counts(counts: list[int], times: int) -> None:
    scores = np.array([*counts[:-1], counts[-1] + MIN_SCORES])
    found = psi(scores, scores * times, HOUR)
    assert found is not None
    assert found.value == pytest.approx(0, abs=1e-12)


def test_few_scores_or_none_have_no_index() -> None:
    enough, few = in_bins({0: MIN_SCORES}), in_bins({0: MIN_SCORES - 1})
    assert psi(enough, enough, HOUR) is not None
    assert psi(few, enough, HOUR) is None
    assert psi(enough, few, HOUR) is None
    assert psi(Ledger().scores, enough, HOUR) is None


def test_scores_that_all_moved_to_another_bin_have_a_large_and_finite_index() -> None:
    found = psi(in_bins({0: MIN_SCORES}), in_bins({19: 10**9}), HOUR)
    assert found is not None
    assert LARGE < found.value < math.inf
    assert found.value > found.limit


@pytest.mark.parametrize(("n", "m"), [(400, 400), (1_000, 1_000), (400, 1_000_000), (20_000, 900)])
@pytest.mark.parametrize("power", [0, 1, 6])
def test_equal_distributions_seldom_hint(n: int, m: int, power: int) -> None:
    shape = SHAPE**power / (SHAPE**power).sum()
    rng = np.random.default_rng(3)
    pairs = zip(rng.multinomial(n, shape, 3_000), rng.multinomial(m, shape, 3_000), strict=True)
    found = [index for ours, theirs in pairs if (index := psi(ours, theirs, HOUR)) is not None]
    assert len(found) == 3_000
    assert sum(index.value > index.limit for index in found) <= 3
    if not power:  # every bin is well filled, so that the asymptotic mean holds
        assert np.mean([index.value for index in found]) == pytest.approx(found[0].noise, rel=0.1)


def test_a_real_shift_of_scores_hints() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = (rng.multinomial(2_000, shape, 300) for shape in (SHAPE, np.roll(SHAPE, 4)))
    found = [psi(mine, other, HOUR) for mine, other in zip(ours, theirs, strict=True)]
    assert all(index is not None and index.value > index.limit for index in found)


# Windows of scores


LOW, HIGH = in_bins({2: 300, 3: 300}), in_bins({2: 60, 16: 540})


def test_treatment_and_control_are_compared_over_the_last_hour() -> None:
    now = START + 3 * HOUR
    early = flow(scored(HIGH), now - 2 * HOUR, now - HOUR, FINE_WIDTH)
    steady = flow(scored(LOW), now - HOUR, now, FINE_WIDTH)
    changed = flow(scored(HIGH), now - HOUR, now, FINE_WIDTH)
    same = seen(VariantFacts(fine=steady), VariantFacts(fine=early | steady))
    assert hints(EXPERIMENT, same, now, START) == ()
    (hint,) = hints(
        EXPERIMENT, seen(VariantFacts(fine=steady), VariantFacts(fine=changed)), now, START
    )
    assert (hint.kind, hint.variant) == ("score_control", "new")
    assert hint.value is not None
    assert hint.limit == MODERATE
    assert hint.value > LARGE
    for words in ("hint:", "new", "those of old in the last hour", "a large shift"):
        assert words in hint.sentence


def test_treatment_and_control_are_compared_over_the_last_day_where_an_hour_has_too_few() -> None:
    now = START + 3 * HOUR
    sparse = VariantFacts(
        fine=flow(scored(in_bins({1: 1})), now - HOUR, now, 6 * FINE_WIDTH),
        coarse=flow(scored(in_bins({1: 100})), START, now),
    )
    found = drift(EXPERIMENT, seen(sparse, sparse), now, START)
    index = found.against_control["new"]
    assert index is not None
    assert (index.value, index.width) == (0, DAY)
    alone = drift(EXPERIMENT, seen(sparse, VariantFacts()), now, START)
    assert alone.against_control == {"new": None}


def test_scores_from_before_the_epoch_are_not_looked_at() -> None:
    now, begun = START + 3 * HOUR, START + 2 * HOUR + 30 * MINUTE
    fine = flow(scored(HIGH), START + HOUR, begun, FINE_WIDTH)
    after = flow(scored(LOW), begun, now, FINE_WIDTH)
    facts = seen(VariantFacts(fine=after), VariantFacts(fine=fine | after))
    index = drift(EXPERIMENT, facts, now, begun).against_control["new"]
    assert index is not None
    assert index.value == 0
    assert drift(EXPERIMENT, facts, begun, begun).against_control == {"new": None}
    assert drift(EXPERIMENT, facts, begun - HOUR, begun).against_control == {"new": None}


@pytest.mark.parametrize(
    ("age", "width"),
    [
        (2 * HOUR - 1, None),
        (2 * HOUR, HOUR),
        (2 * DAY - 1, HOUR),
        (2 * DAY, DAY),
        (9 * DAY, DAY),
    ],
)
def test_the_reference_is_the_first_day_where_two_are_kept_and_the_first_hour_before(
    age: int, width: int | None
) -> None:
    now = START + age
    first = max(START, now - 8 * DAY)
    facts = VariantFacts(coarse=flow(scored(LOW), first, now))
    index = drift(EXPERIMENT, seen(facts, facts), now, START).against_reference["new"]
    assert (index and index.width) == width
    assert index is None or index.value == 0


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (DAY, ("first kept hour", "last hour", "time of day")),
        (3 * DAY, ("first kept day", "last day")),
    ],
)
def test_each_variant_is_held_against_its_own_beginning(age: int, words: tuple[str, ...]) -> None:
    now = START + age
    steady = VariantFacts(coarse=flow(scored(LOW), START, now + HOUR))
    half = flow(scored(LOW), START, START + age // 2) | flow(scored(HIGH), START + age // 2, now)
    found = hints(EXPERIMENT, seen(steady, VariantFacts(coarse=half)), now, START)
    (hint,) = [hint for hint in found if hint.kind == "score_reference"]
    assert hint.variant == "new"
    assert all(word in hint.sentence for word in words)


def numbers(
    index: Psi | None = None,
    rates: tuple[Share | None, Share | None] = (None, None),
    missing: tuple[Share | None, Share | None] = (None, None),
    *,
    steady: bool = True,
) -> Drift:
    """Raw numbers; shares are of the old and the new variant."""
    both = dict(zip(("old", "new"), rates, strict=True))
    never = dict(zip(("old", "new"), missing, strict=True))
    return Drift({"new": index}, {}, both, frozenset({"new"} if steady else ()), never, {})


def test_what_chance_can_give_is_no_hint() -> None:
    assert hints_of(EXPERIMENT, numbers(Psi(0.2, noise=0.07, width=HOUR))) == ()
    (hint,) = hints_of(EXPERIMENT, numbers(Psi(0.2, noise=0.06, width=HOUR)))
    assert hint.limit == pytest.approx(0.18)
    assert "a moderate shift" in hint.sentence
    assert hints_of(EXPERIMENT, numbers(Psi(MODERATE, noise=0.0001, width=HOUR))) == ()


# Labels


def z_of(ours: Share, theirs: Share) -> float:
    table = [[share.some, share.of - share.some] for share in (ours, theirs)]
    return math.sqrt(chi2_contingency(table, correction=False).statistic)


@given(
    ours=st.tuples(st.integers(0, 3_000), st.integers(1, 3_000)),
    theirs=st.tuples(st.integers(0, 3_000), st.integers(1, 3_000)),
)
def test_shares_of_labels_hint_beyond_four_standard_errors_and_two_points(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    mine, other = (Share(some, some + rest) for some, rest in (ours, theirs))
    found = kinds(hints_of(EXPERIMENT, numbers(missing=(other, mine))))
    differ = min(mine.of, other.of) >= MIN_SHARE and mine.some + other.some > 0
    differ = differ and z_of(mine, other) > LABEL_Z and abs(mine.value - other.value) > LABEL_GAP
    assert found == ["missing_labels"] * differ


def test_a_difference_of_labels_below_two_points_is_no_hint_however_sure() -> None:
    ours, theirs = Share(519_000, 10**6), Share(500_000, 10**6)
    assert z_of(ours, theirs) > LABEL_Z
    assert hints_of(EXPERIMENT, numbers(rates=(theirs, ours))) == ()
    (hint,) = hints_of(EXPERIMENT, numbers(rates=(theirs, Share(521_000, 10**6))))
    assert (hint.kind, hint.variant, hint.limit) == ("label_rate", "new", LABEL_GAP)
    assert hint.value == pytest.approx(0.021)
    assert "52.1% of new, 50.0% of old" in hint.sentence


def test_equal_missing_shares_seldom_hint() -> None:
    rng = np.random.default_rng(5)
    missing = rng.binomial(800, 0.3, size=(5_000, 2)).tolist()
    found = [
        hints_of(EXPERIMENT, numbers(missing=(Share(ours, 800), Share(theirs, 800))))
        for ours, theirs in missing
    ]
    assert sum(map(len, found)) <= 3


def test_no_or_every_label_missing_on_both_sides_is_no_difference() -> None:
    for some in (0, 500):
        both = Share(some, 500), Share(some, 500)
        assert hints_of(EXPERIMENT, numbers(rates=both, missing=both)) == ()


LABELLED = Ledger(10, acted=4, cells=cells(tp=1, fp=1, tn=3))
UNLABELLED = Ledger(10, acted=4, cells=cells(tp=1))


def rolling(ledger: Ledger, start: int, now: int) -> VariantFacts:
    return VariantFacts(
        fine=flow(ledger, max(start, now - 2 * HOUR), now, FINE_WIDTH),
        coarse=flow(Ledger(600), start, now),
    )


def test_the_label_rate_is_of_the_last_hour_and_of_what_gets_a_label() -> None:
    now = START + 3 * HOUR
    facts = seen(rolling(LABELLED, START, now), rolling(UNLABELLED, START, now))
    panes = HOUR // FINE_WIDTH
    rates = drift(EXPERIMENT, facts, now, START).label_rate
    assert rates == {"old": Share(5 * panes, 10 * panes), "new": Share(panes, 10 * panes)}
    assert kinds(hints(EXPERIMENT, facts, now, START)) == ["label_rate"]
    acted = msgspec.structs.replace(
        EXPERIMENT, labels=msgspec.structs.replace(EXPERIMENT.labels, observed="acted")
    )
    rates = drift(acted, facts, now, START).label_rate
    assert rates == {"old": None, "new": Share(panes, 4 * panes)}, "5 labels of 4 are no share"


@pytest.mark.parametrize(
    ("begun", "old_since", "new_since", "step", "steady"),
    [
        (0, 0, 0, None, True),
        (HOUR + 40 * MINUTE, 0, 0, None, True),
        (HOUR + 41 * MINUTE, 0, 0, None, False),
        (0, 0, HOUR + 40 * MINUTE, None, True),
        (0, 0, HOUR + 50 * MINUTE, None, False),
        (0, HOUR + 50 * MINUTE, 0, None, False),
        (0, 0, 0, HOUR, True),
        (0, 0, 0, 2 * HOUR, False),
    ],
)
def test_label_rates_are_compared_only_once_labels_had_time_to_come_at_one_split(
    begun: int, old_since: int, new_since: int, step: int | None, *, steady: bool
) -> None:
    now = START + 3 * HOUR
    ramp = () if step is None else (Step(at=Moment(START + step), variants={"old": 1, "new": 9}),)
    experiment = msgspec.structs.replace(EXPERIMENT, ramp=ramp)
    facts = seen(
        rolling(LABELLED, START + old_since, now), rolling(UNLABELLED, START + new_since, now)
    )
    assert (drift(experiment, facts, now, START + begun).steady == {"new"}) is steady
    assert (hints(experiment, facts, now, START + begun) != ()) is steady


def lost(acted_yes: int, acted_no: int, idle_yes: int, idle_no: int) -> Cells:
    numbers = (acted_yes, acted_no, idle_yes, idle_no)
    missing = dict(zip(Cells._fields[4:8], (Cell(n, 1000 * n) for n in numbers), strict=True))
    return cells(tp=10, fp=20, tn=30, fn=40)._replace(**missing, error_other=Cell(7, 7000))


@pytest.mark.parametrize(
    ("observed", "missing"), [("all", 1 + 2 + 4 + 8), ("acted", 1 + 2), ("explored", 1 + 2)]
)
def test_labels_are_missing_where_one_was_due(observed: str, missing: int) -> None:
    labels = msgspec.structs.replace(EXPERIMENT.labels, observed=observed)
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    cohort = Ledger(122, cells=lost(1, 2, 4, 8))
    facts = VariantFacts(cohorts={START: cohort})
    found = drift(experiment, seen(facts, facts, START + COHORT), START + COHORT + WAIT, START)
    assert found.missing_labels["new"] == Share(missing, missing + 100)


def test_missing_labels_are_of_the_last_day_of_whole_final_cohorts_of_the_epoch() -> None:
    now = START + 3 * DAY
    facts = VariantFacts(cohorts=flow(Ledger(cells=cells(tn=10)), START, now, COHORT))
    per_day = 10 * DAY // COHORT

    def of(matured: int | None, begun: int = START) -> Share | None:
        return drift(EXPERIMENT, seen(facts, facts, matured), now, begun).missing_labels["old"]

    assert of(now - WAIT) == of(now) == Share(0, per_day)
    assert of(now, begun=now - WAIT - HOUR) == Share(0, 60)
    assert of(now, begun=now - WAIT - HOUR + 1) == Share(0, 50)
    assert of(now - WAIT - 1) == Share(0, per_day - 10)
    assert of(None) is None


def test_a_hint_says_where_a_missing_label_counts_as_no() -> None:
    shares = Share(10, 1_000), Share(400, 1_000)
    (hint,) = hints_of(EXPERIMENT, numbers(missing=shares))
    assert "counts as no" in hint.sentence
    left_out = msgspec.structs.replace(EXPERIMENT.labels, when_missing="exclude")
    experiment = msgspec.structs.replace(EXPERIMENT, labels=left_out)
    (hint,) = hints_of(experiment, numbers(missing=shares))
    assert "counts as no" not in hint.sentence
    assert "1.0% of old" in hint.sentence


# Changes of the control


def rated(rates: Iterator[float], n: int, seed: int) -> Panes:
    """Cohorts from START on, whose positives are drawn at these rates; half of them are found."""
    rng = np.random.default_rng(seed)
    made = {}
    for number, rate in enumerate(rates):
        positives = int(rng.binomial(n, rate))
        found = cells(tp=positives // 2, fn=positives - positives // 2, tn=n - positives)
        made[START + number * COHORT] = Ledger(n, cells=found)
    return made


def daily(days: float, rate: float, shift: float = 0.0, since: float = 9.0) -> Iterator[float]:
    """A rate that rises and falls by half a day, and shifts as a whole after `since` days."""
    for number in range(round(days * DAY / COHORT)):
        day = number * COHORT / DAY
        yield rate * (1 + math.sin(2 * math.pi * day) / 2) + (shift if day >= since else 0)


def changes(cohorts: Panes, days: float, begun: int = START) -> tuple[Hint, ...]:
    at = START + round(days * DAY)
    control = VariantFacts(cohorts=cohorts)
    return hints(EXPERIMENT, seen(control, VariantFacts(), at), at + WAIT, begun)


@pytest.mark.usefixtures("library")
def test_days_and_nights_seldom_hint() -> None:
    found = [changes(rated(daily(8, 0.1), 200, seed), 8) for seed in range(20)]
    assert sum(map(len, found)) <= 1


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("shift", [0.05, -0.04])
def test_a_lasting_change_of_the_positive_rate_hints(shift: float) -> None:
    (hint,) = changes(rated(daily(6, 0.1, shift, since=3), 300, 1), 6)
    assert (hint.kind, hint.variant, hint.limit) == ("positive_rate", "old", TOLERANCE)
    found = drift(
        EXPERIMENT,
        seen(
            VariantFacts(cohorts=rated(daily(6, 0.1, shift, since=3), 300, 1)),
            VariantFacts(),
            START + 6 * DAY,
        ),
        START + 6 * DAY + WAIT,
        START,
    ).changes["positive_rate"]
    assert found is not None
    assert START + 3 * DAY < found.at < START + 3 * DAY + 6 * HOUR
    assert found.shift == pytest.approx(shift, abs=0.01)
    assert hint.value == found.distance
    assert str(Moment(found.at)) in hint.sentence
    assert ("higher" if shift > 0 else "lower") in hint.sentence


@pytest.mark.usefixtures("library")
def test_a_change_that_went_away_is_no_hint_any_more() -> None:
    rates = [*daily(5, 0.1, 0.05, since=3), *daily(3, 0.1)]
    cohorts = rated(iter(rates), 300, 2)
    assert kinds(changes(cohorts, 5)) == ["positive_rate"]
    assert changes(cohorts, 8) == ()


@pytest.mark.usefixtures("library")
def test_a_single_strange_cohort_is_no_change() -> None:
    cohorts = rated(daily(4, 0.1), 200, 3)
    cohorts[START + 2 * DAY] = Ledger(200, cells=cells(tp=200))
    assert changes(cohorts, 4) == ()


@pytest.mark.usefixtures("library")
def test_what_changed_before_the_epoch_is_no_change_of_it() -> None:
    cohorts = rated(daily(6, 0.1, 0.05, since=3), 300, 1)
    assert kinds(changes(cohorts, 6)) == ["positive_rate"]
    assert changes(cohorts, 6, begun=START + 3 * DAY) == ()


@pytest.mark.usefixtures("library")
def test_what_changed_more_than_eight_days_ago_is_forgotten() -> None:
    cohorts = rated(daily(12, 0.1, 0.05, since=3), 300, 1)
    assert kinds(changes(cohorts, 10)) == ["positive_rate"]
    assert changes(cohorts, 12) == ()


@pytest.mark.usefixtures("library")
def test_what_came_after_the_look_does_not_change_it() -> None:
    now, later = START + 3 * DAY, START + 4 * DAY
    cohorts = rated(daily(4, 0.1, 0.5, since=2.9), 300, 1)
    coarse = flow(scored(LOW), START, now) | flow(scored(HIGH), now, later)
    known = VariantFacts(
        coarse={start: pane for start, pane in coarse.items() if start < now},
        cohorts={start: pane for start, pane in cohorts.items() if start < now - WAIT},
    )
    more = VariantFacts(coarse=coarse, cohorts=cohorts)
    first = drift(EXPERIMENT, seen(known, known, now - WAIT), now, START)
    assert drift(EXPERIMENT, seen(more, more, later), now, START) == first
    assert first.changes["positive_rate"] is not None
    assert first.against_reference["new"] is not None


@pytest.mark.usefixtures("library")
def test_one_class_alone_is_no_change_and_the_first_positives_are() -> None:
    assert changes(rated(iter([0.0] * 600), 200, 4), 4) == ()
    assert changes(rated(iter([1.0] * 600), 200, 4), 4) == ()
    mixed = [0.0] * 300 + [0.05] * 300
    assert kinds(changes(rated(iter(mixed), 200, 4), 4)) == ["positive_rate"]


@pytest.mark.usefixtures("library")
def test_a_change_of_the_mean_score_hints() -> None:
    rng = np.random.default_rng(6)
    shapes = [SHAPE] * 400 + [np.roll(SHAPE, 1)] * 176
    drawn = {
        START + number * COARSE_WIDTH: scored(rng.multinomial(300, shape))
        for number, shape in enumerate(shapes)
    }
    now = START + 4 * DAY
    assert (
        hints(EXPERIMENT, seen(VariantFacts(coarse=drawn), VariantFacts()), START + 2 * DAY, START)
        == ()
    )
    found = drift(EXPERIMENT, seen(VariantFacts(coarse=drawn), VariantFacts()), now, START)
    middles = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
    change = found.changes["mean_score"]
    assert change is not None
    assert found.changes["positive_rate"] is None
    assert change.shift == pytest.approx((np.roll(SHAPE, 1) - SHAPE) @ middles, abs=0.005)
    assert "mean_score" in kinds(hints_of(EXPERIMENT, found))


@pytest.mark.usefixtures("library")
def test_scores_that_are_all_in_one_bin_do_not_change() -> None:
    panes = flow(scored(in_bins({19: 500})), START, START + 4 * DAY)
    facts = VariantFacts(coarse=panes)
    assert hints(EXPERIMENT, seen(facts, facts), START + 4 * DAY, START) == ()


@pytest.mark.usefixtures("library")
def test_cohorts_with_few_predictions_are_left_out() -> None:
    cohorts = rated(daily(4, 0.1), 200, 7)
    for start in range(START + 2 * DAY, START + 4 * DAY, 2 * COHORT):
        cohorts[start] = Ledger(29, cells=cells(tp=29))
    assert changes(cohorts, 4) == ()


def test_the_library_agrees_with_the_textbook() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        values = np.concatenate([rng.normal(0, 1, 200), rng.normal(rng.choice([-2, 2]), 1, 60)])
        alarms = []
        for page_hinkley in (PageHinkley, Textbook):
            made = page_hinkley(
                min_instances=WARM_UP, delta=TOLERANCE, threshold=THRESHOLD, alpha=1.0, mode="both"
            )
            for number, value in enumerate(values.tolist()):
                made.update(value)
                if made.drift_detected:
                    alarms.append(number)
                    break
        assert len(alarms) == 2
        assert alarms[0] == alarms[1] > 200


@pytest.mark.usefixtures("no_library")
def test_without_the_library_the_hints_say_what_is_not_watched() -> None:
    (hint,) = changes(rated(daily(3, 0.1), 200, 9), 3)
    assert (hint.kind, hint.variant, hint.value, hint.limit) == ("unwatched", "old", None, None)
    assert "pip install '.[drift]'" in hint.sentence
    assert "river" in hint.sentence


@pytest.mark.usefixtures("no_library")
def test_without_the_library_nothing_is_said_before_there_is_something_to_watch() -> None:
    assert changes(rated(daily(1, 0.1), 200, 9), 1) == ()


# Nothing at all


@pytest.mark.usefixtures("no_library")
def test_nothing_seen_is_nothing_known_and_no_hint() -> None:
    empty = seen(VariantFacts(), VariantFacts())
    found = drift(EXPERIMENT, empty, START, 0)
    nothing = dict.fromkeys(("old", "new"))
    unchanged: dict[Series, Change | None] = {"positive_rate": None, "mean_score": None}
    assert found == Drift({"new": None}, nothing, nothing, frozenset(), nothing, unchanged)
    assert hints_of(EXPERIMENT, found) == ()


def test_predictions_without_scores_have_no_index() -> None:
    now = START + 3 * DAY
    facts = VariantFacts(
        fine=flow(Ledger(100), now - HOUR, now, FINE_WIDTH), coarse=flow(Ledger(100), START, now)
    )
    found = drift(EXPERIMENT, seen(facts, facts), now, START)
    assert found.against_control == {"new": None}
    assert found.against_reference == {"old": None, "new": None}
    assert found.changes["mean_score"] is None
