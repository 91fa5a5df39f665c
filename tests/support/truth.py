"""What the counts must be: the rules of DESIGN section 4 in plain, slow Python.

Nothing here comes from `stream`; a mistake there cannot hide in here. The rules, record by record in the
order of the log (one topic, or two merged by arrival):

- a record's arrival is the running maximum of the broker's timestamps;
- an id is remembered for horizon + grace + late_for after its prediction arrived, and until its label is
  final; a prediction of a remembered id is a duplicate;
- an outcome meets the first prediction of its id that arrived at most `early_for` after it, and that was
  remembered when it arrived; having met none it is unmatched as soon as it has waited `early_for`;
- it counts when its time is within the horizon and its arrival within horizon + grace; the first that
  counts gives the label, later ones are duplicates, one that does not count is late;
- a label is final when the watermark, or the arrival of the last outcome + horizon + grace, whichever is
  lower, has passed arrival + horizon + grace;
- money is the value of the outcome that gave the label less the prediction's cost, in cents, of a prediction
  at most the cap (a cent or more), gained or lost;
- of an experiment randomised by unit, failed requests of one unit in one variant and one minute of arrival
  count once as failing; the sample admits units below a share of all hashes until it is full, and of those
  the first prediction counts as a unit, and the first in another variant than that as crossed;
- of each variant the 8 versions are remembered that were seen last, with the arrival of the latest prediction of
  each; of those seen at the same time the last by name. Versions of more than 64 bytes, and empty ones, are none;
- at a landmark a prediction has the label that it would have with the landmark as its horizon, or none where
  a later one came first.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

from metrics.experiment import Experiment


Event = dict[str, Any]
Log = Sequence[tuple[int, Event | bytes]]
"""(arrival, event) in the order of the log; an event as bytes is one that is no event."""

FINE_MS = 10_000
COARSE_MS = 600_000
SCORE_BINS = 20
CAP_TENTHS = 10_000_000
MINUTE_MS = 60_000
BUCKETS = 64
MOST_VERSIONS = 8
LONGEST_VERSION = 64
MOST_MONEY = 2e7

_REQUIRED = {
    "prediction": ("prediction_id", "experiment", "variant"),
    "outcome": ("prediction_id", "actual"),
}
_BOOLEANS = ("predicted", "error", "acted", "actual")
_TEXTS = ("prediction_id", "experiment", "variant", "unit_id", "segment", "version")
_RANGES: dict[str, tuple[float, float]] = {
    "time": (0, 2**53),
    "latency_ms": (0, float("inf")),
    "score": (0, 1),
    "weight": (1e-300, float("inf")),
}


@dataclass(slots=True)
class Life:
    """One prediction that counts: from its arrival until its id is forgotten."""

    experiment: str
    variant: str
    arrival: int
    time: int
    predicted: bool
    acted: bool
    error: bool
    latency_ms: float | None
    score: float | None
    weight: int
    wait: int
    horizon: int
    remembered: int
    name: str = ""
    """The id."""
    unit: str | None = None
    cost: float = 0.0
    version: str | None = None
    label: bool | None = None
    labelled_at: int | None = None
    value: float = 0.0
    """Of the outcome that gave the label."""
    took: int | None = None
    """The shortest time, in horizon and in arrival less grace, for which the label would still count."""

    @property
    def tenths(self) -> int | None:
        """Latency in tenths of a millisecond."""
        return None if self.latency_ms is None else min(round(self.latency_ms * 10), CAP_TENTHS)

    @property
    def cell(self) -> str:
        """The name of the cell that this prediction ends in, with the label it has."""
        if self.error:
            return "error_positive" if self.label else "error_other"
        if self.label is None:
            done = "acted" if self.acted else "idle"
            return f"missing_{done}_{'yes' if self.predicted else 'no'}"
        if self.label:
            return "tp" if self.predicted else "fn"
        return "fp" if self.predicted else "tn"


@dataclass(slots=True)
class Facts:
    """What is known of one variant, or of a slice of its time, as plain numbers."""

    predictions: int = 0
    errors: int = 0
    acted: int = 0
    cells: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Name: (n, sum of weights in thousandths, sum of their squares, how many timed, sum of latency)."""
    moments: tuple[int, int, int] = (0, 0, 0)
    """How many timed, and the sums of latency and of latency² (0.1 ms)."""
    timed: int = 0
    """Latencies in the histogram."""
    scores: dict[int, int] = field(default_factory=dict)
    """By bin."""

    def see(self, life: Life) -> None:
        """Count a prediction, without its label."""
        self.predictions += 1
        self.errors += life.error
        self.acted += life.acted
        t = life.tenths
        if t is not None:
            n, total, squares = self.moments
            self.moments = (n + 1, total + t, squares + t * t)

    def see_distributions(self, life: Life) -> None:
        """Count its latency and score."""
        if life.latency_ms is not None:
            self.timed += 1
        if life.score is not None:
            where = min(int(life.score * SCORE_BINS), SCORE_BINS - 1)
            self.scores[where] = self.scores.get(where, 0) + 1

    def see_cell(self, life: Life) -> None:
        """Count the cell that it is in."""
        timed, tenths = life.tenths is not None, life.tenths or 0
        added = (1, life.weight, life.weight**2, timed, tenths)
        known = self.cells.get(life.cell, (0,) * len(added))
        self.cells[life.cell] = tuple(a + b for a, b in zip(known, added, strict=True))


@dataclass(slots=True)
class Extras:
    """What is known besides where experiments are randomised by unit, or have money."""

    failing: int = 0
    units: int = 0
    crossed: int = 0
    unitless: int = 0
    money: int = 0
    money_squared: int = 0
    capped: int = 0
    buckets: dict[tuple[int, str], int] = field(default_factory=dict)
    """By bucket and column; only what is not 0."""

    def see(self, judged: "Judged") -> None:
        """Count a prediction, without its label."""
        self.failing += judged.failing
        self.units += judged.first
        self.crossed += judged.crossed
        self.unitless += judged.unitless

    def see_final(self, life: Life, experiment: Experiment) -> None:
        """Count what a prediction earned, in all and by bucket."""
        earned = 0
        if experiment.money is not None:
            cap = max(_cents(experiment.money.cap), 1)
            net = _cents(life.value) - _cents(life.cost)
            earned = max(-cap, min(net, cap))
            self.capped += earned != net
        self.money += earned
        self.money_squared += earned**2
        if experiment.randomised_by == "unit":
            timed = life.tenths is not None
            columns = {f"w_{life.cell}": life.weight, "n": 1, "failed": int(life.error)}
            columns |= {"timed": int(timed), "latency": life.tenths or 0, "money": earned}
            for column, amount in columns.items():
                self._add(bucket_of(life), column, amount)

    def _add(self, bucket: int, column: str, amount: int) -> None:
        summed = self.buckets.pop((bucket, column), 0) + amount
        if summed:
            self.buckets[bucket, column] = summed


@dataclass(frozen=True, slots=True)
class Judged:
    """What one prediction says of units, beside all that came before."""

    failing: bool
    first: bool = False
    crossed: bool = False
    unitless: bool = False


def unit_hash(unit: str) -> bytes:
    """8 bytes of a unit's id."""
    return blake2b(unit.encode(), digest_size=8, person=b"abmonitor-unit").digest()


def bucket_of(life: Life) -> int:
    """The bucket of its unit, or of the prediction itself where it has none."""
    own = blake2b(life.name.encode(), digest_size=12).digest()
    return (unit_hash(life.unit) if life.unit else own)[-1] % BUCKETS


def _cents(amount: float) -> int:
    return round(max(-MOST_MONEY, min(amount, MOST_MONEY)) * 100)


Where = tuple[str, str]
"""Experiment and variant."""


@dataclass(slots=True)
class Truth:
    """Everything that must be found in the store."""

    totals: dict[Where, Facts] = field(default_factory=lambda: defaultdict(Facts))
    fine: dict[tuple[str, str, int], Facts] = field(default_factory=lambda: defaultdict(Facts))
    coarse: dict[tuple[str, str, int], Facts] = field(default_factory=lambda: defaultdict(Facts))
    mature: dict[tuple[str, str, int], Facts] = field(default_factory=lambda: defaultdict(Facts))
    extras: dict[tuple[str, str, str, int], Extras] = field(
        default_factory=lambda: defaultdict(Extras)
    )
    """By kind (total, fine, coarse, mature), experiment, variant and start."""
    landmarks: dict[tuple[str, str, int, int], tuple[Facts, Extras]] = field(
        default_factory=lambda: defaultdict(lambda: (Facts(), Extras()))
    )
    """By experiment, variant, start of the cohort and landmark."""
    versions: dict[Where, dict[str, int]] = field(default_factory=dict)
    """When each version that is remembered was last seen."""
    tallies: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    """Outcomes that still wait for their prediction."""
    lives: list[Life] = field(default_factory=list)
    watermark: int = 0
    last_outcome: int | None = None


def remembered(experiment: Experiment) -> int:
    """Milliseconds from the arrival of a prediction until its id may be forgotten."""
    labels = experiment.labels
    wait = labels.horizon + labels.grace
    if labels.late_for is not None:
        return wait + labels.late_for
    return wait + min(max(wait, 3_600_000), 86_400_000)


def reason_against(event: Event | bytes) -> str | None:
    """Why a record is no event at all, None if it is one."""
    if isinstance(event, bytes):
        return _against_bytes(event)
    kind = event.get("type")
    if kind is None:
        return "missing_field"
    if kind not in _REQUIRED:
        return "unknown_type"
    if any(name not in event for name in _REQUIRED[kind]):
        return "missing_field"
    given = {name: value for name, value in event.items() if value is not None}
    return next(
        (reason for name, value in given.items() if (reason := _against(name, value))), None
    )


def _against_bytes(value: bytes) -> str:
    try:
        json.loads(value)
    except UnicodeDecodeError:
        return "not_utf8"
    except ValueError:
        return "malformed_json"
    return "wrong_type"


def _against(name: str, value: Any) -> str | None:
    if name in _BOOLEANS and not isinstance(value, bool):
        return "wrong_type"
    if name in _TEXTS and not isinstance(value, str):
        return "wrong_type"
    if name == "prediction_id" and not 1 <= len(value.encode()) <= 128:
        return "out_of_range"
    if name in _RANGES and not (name == "time" and isinstance(value, str)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "wrong_type"
        low, high = _RANGES[name]
        return None if low <= value <= high else "out_of_range"
    return None


def _time(event: Event, arrival: int) -> int:
    time = event.get("time")
    if time is None:
        return arrival
    if isinstance(time, str):
        return round(datetime.fromisoformat(time).timestamp() * 1000)
    return round(float(time))


def _life(event: Event, arrival: int, experiment: Experiment) -> Life | str:
    """The prediction, or the reason why it cannot be used."""
    if event["variant"] not in experiment.variants:
        return "unknown_variant"
    error = bool(event.get("error"))
    predicted = event.get("predicted")
    if predicted is None and not error:
        return "missing_field"
    if event.get("weight") is None and experiment.labels.observed == "explored":
        return "missing_field"
    acted = predicted if event.get("acted") is None else event["acted"]
    weight = 1 if event.get("weight") is None else event["weight"]
    labels = experiment.labels
    return Life(
        experiment.name,
        event["variant"],
        arrival,
        _time(event, arrival),
        bool(predicted) and not error,
        bool(acted) and not error,
        error,
        event.get("latency_ms"),
        event.get("score"),
        max(1, round(min(weight, experiment.weight_cap) * 1000)),
        labels.horizon + labels.grace,
        int(labels.horizon),
        remembered(experiment),
        event["prediction_id"],
        event.get("unit_id") or None,
        event.get("cost") or 0.0,
        event.get("version"),
    )


def truth_of(
    log: Log,
    experiments: Iterable[Experiment],
    *,
    early_for: int,
    watermark: int | None = None,
    most_units: int = 50_000,
) -> Truth:
    """What must be counted when everything in `log` has been, and the clock stands at `watermark`.

    `watermark` is by default the last arrival. A sample holds `most_units` units.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    found = Truth()
    lives: dict[str, list[Life]] = defaultdict(list)
    outcomes: list[tuple[int, Event]] = []
    clock = 0
    for arrived, event in log:
        clock = max(clock, arrived)
        reason = reason_against(event)
        if reason or isinstance(event, bytes):
            found.tallies[f"rejected:{reason}"] += 1
        elif event["type"] == "outcome":
            if event.get("experiment") is not None and event["experiment"] not in by_name:
                found.tallies["ignored"] += 1
                continue
            outcomes.append((clock, event))
            told = min(_time(event, clock), clock)
            found.last_outcome = max(found.last_outcome or 0, told)
        elif event["experiment"] not in by_name:
            found.tallies["ignored"] += 1
        else:
            life = _life(event, clock, by_name[event["experiment"]])
            if isinstance(life, str):
                found.tallies[f"rejected:{life}"] += 1
            elif _is_known(lives[event["prediction_id"]], clock, found.last_outcome):
                found.tallies["duplicate"] += 1
            else:
                found.tallies["predictions"] += 1
                lives[event["prediction_id"]].append(life)
                found.lives.append(life)
    found.watermark = clock if watermark is None else watermark
    for arrival, event in outcomes:
        _tell(found, lives[event["prediction_id"]], arrival, event, early_for)
    _add_up(found, by_name)
    _add_extras(found, by_name, most_units)
    _add_landmarks(found, by_name)
    _add_versions(found)
    return found


def _is_known(lives: list[Life], arrival: int, last_outcome: int | None) -> bool:
    """Whether the last of `lives` is still remembered at `arrival`."""
    if not lives:
        return False
    last = lives[-1]
    is_final = last_outcome is not None and last.arrival + last.horizon < last_outcome
    return not is_final or arrival <= last.arrival + last.remembered


def _tell(found: Truth, lives: list[Life], arrival: int, event: Event, early_for: int) -> None:
    """Find what one outcome does."""
    for life in lives:
        if life.arrival - early_for <= arrival <= life.arrival + life.remembered:
            break
    else:
        if arrival + early_for < found.watermark:
            found.tallies["unmatched"] += 1
        else:
            found.waiting += 1
        return
    if life.label is not None:
        found.tallies["duplicate"] += 1
    elif _time(event, arrival) > life.time + life.horizon or arrival > life.arrival + life.wait:
        found.tallies["late"] += 1
    else:
        found.tallies["outcomes"] += 1
        life.label = event["actual"]
        life.labelled_at = max(arrival, life.arrival)
        life.value = event.get("value") or 0.0
        grace = life.wait - life.horizon
        life.took = max(_time(event, arrival) - life.time, arrival - life.arrival - grace, 0)


def _add_up(found: Truth, by_name: dict[str, Experiment]) -> None:
    for life in found.lives:
        who = (life.experiment, life.variant)
        panes = [found.totals[who]]
        for kept, width in ((found.fine, FINE_MS), (found.coarse, COARSE_MS)):
            panes.append(kept[(*who, life.arrival // width * width)])
        for facts in panes:
            facts.see(life)
            facts.see_distributions(life)
        if life.labelled_at is not None:
            found.totals[who].see_cell(life)
            for kept, width in ((found.fine, FINE_MS), (found.coarse, COARSE_MS)):
                kept[(*who, life.labelled_at // width * width)].see_cell(life)
        if _is_mature(life, found):
            width = int(by_name[life.experiment].labels.cohort)
            facts = found.mature[(*who, life.arrival // width * width)]
            facts.see(life)
            facts.see_cell(life)


def _judged(lives: Iterable[Life], by_name: dict[str, Experiment], most: int) -> Iterable[Judged]:
    """What each of `lives` says of units, in order."""
    samples: dict[str, dict[str, str | None]] = defaultdict(dict)  # the variant, None once crossed
    failed: set[tuple[str, str, str, int]] = set()
    for life in lives:
        experiment, unit, sample = by_name[life.experiment], life.unit, samples[life.experiment]
        if experiment.randomised_by != "unit" or unit is None:
            yield Judged(life.error, unitless=experiment.randomised_by == "unit")
            continue
        here = (life.experiment, life.variant, unit, life.arrival // MINUTE_MS)
        failing = life.error and here not in failed
        if failing:
            failed.add(here)
        first = crossed = False
        if unit in sample:
            crossed = sample[unit] not in (None, life.variant)
        elif int.from_bytes(unit_hash(unit), "big") < experiment.unit_share * 2**64:
            first = len(sample) < most
        if first or crossed:
            sample[unit] = life.variant if first else None
        yield Judged(failing, first, crossed)


def _add_extras(found: Truth, by_name: dict[str, Experiment], most: int) -> None:
    for life, judged in zip(found.lives, _judged(found.lives, by_name, most), strict=True):
        who, experiment = (life.experiment, life.variant), by_name[life.experiment]
        for kind, width in (("fine", FINE_MS), ("coarse", COARSE_MS)):
            found.extras[kind, *who, life.arrival // width * width].see(judged)
        found.extras["total", *who, 0].see(judged)
        if _is_mature(life, found):
            width = int(experiment.labels.cohort)
            start = life.arrival // width * width
            found.extras["mature", *who, start].see_final(life, experiment)


def _is_mature(life: Life, found: Truth) -> bool:
    if found.last_outcome is None:
        return False
    grace = life.wait - life.horizon
    return life.arrival + life.wait < min(found.watermark, found.last_outcome + grace)


def _add_landmarks(found: Truth, by_name: dict[str, Experiment]) -> None:
    for life in found.lives:
        experiment = by_name[life.experiment]
        width, grace = int(experiment.labels.cohort), life.wait - life.horizon
        for landmark in map(int, experiment.labels.landmarks):
            then = replace(life, horizon=landmark, wait=landmark + grace)
            if life.took is None or life.took > landmark:
                then = replace(then, label=None, value=0.0)
            if _is_mature(then, found):
                start = life.arrival // width * width
                facts, extras = found.landmarks[life.experiment, life.variant, start, landmark]
                facts.see(then)
                facts.see_cell(then)
                extras.see_final(then, experiment)


def _add_versions(found: Truth) -> None:
    for life in found.lives:
        if life.version and len(life.version.encode()) <= LONGEST_VERSION:
            seen = found.versions.setdefault((life.experiment, life.variant), {})
            seen[life.version] = max(life.arrival, seen.get(life.version, 0))
    for who, seen in found.versions.items():
        ranked = sorted(seen, key=lambda version: (seen[version], version), reverse=True)
        found.versions[who] = {version: seen[version] for version in ranked[:MOST_VERSIONS]}
