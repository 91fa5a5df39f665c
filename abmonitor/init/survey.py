"""What samples hold: a mapping for each of them, and what the mapped events then say. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from abmonitor.init.columns import Column, columns
from abmonitor.init.guess import CLEAR, EXACT, FIELDS, Guess, guessed
from abmonitor.init.sample import Sample, SampleError
from abmonitor.init.vocabulary import NAMES, OUTCOME_WORDS, PREDICTION_WORDS
from stream.events import Event, Outcome, Prediction, Rejected, epoch_ms
from stream.sources import Decoder, FieldOptions, Kind, SourceOptions


MOST = 0.8
"""A sample is in our format already when so much of it decodes."""
NOWHERE = "not.used"
"""A path that leads to nothing: it keeps a field of another meaning from being taken for ours."""

_FIELD = re.compile(r"\$\.([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Source:
    """A sample, and how its records become events."""

    sample: Sample
    topic: str
    kind: Kind | None
    """None: the records are events as they are."""
    guesses: Mapping[str, Guess]
    missing: tuple[str, ...]
    """Fields that every event needs and that were not found."""
    unused: tuple[str, ...]
    """Fields whose name the records use for something else."""
    events: Sequence[Event]

    @property
    def decoded(self) -> int:
        """How many records are events."""
        return sum(not isinstance(event, Rejected) for event in self.events)


@dataclass(slots=True)
class Survey:
    """What all samples say together."""

    sources: list[Source] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Predictions by experiment and variant."""
    delays: dict[str, list[int]] = field(default_factory=dict)
    """Milliseconds from prediction to outcome by experiment, of those that met."""
    acted_only: dict[str, bool] = field(default_factory=dict)
    """Whether all outcomes that met belong to predictions that were acted on."""
    by_unit: dict[str, bool] = field(default_factory=dict)
    """Whether units that came several times always saw the same variant; absent: none did."""
    rates: dict[str, float] = field(default_factory=dict)
    """Predictions a second."""
    has_latency: set[str] = field(default_factory=set)
    outcomes: int = 0
    met: int = 0


def surveyed(samples: Sequence[Sample]) -> Survey:
    """Look at samples. Raises SampleError where one of them can be neither kind of event."""
    found = [columns(sample.rows, sample.attributes) for sample in samples]
    kinds = [_kind(sample, cols) for sample, cols in zip(samples, found, strict=True)]
    links = _links(found, kinds)
    topics = _topics(samples)
    survey = Survey()
    for sample, cols, kind, link, topic in zip(samples, found, kinds, links, topics, strict=True):
        survey.sources.append(_source(sample, topic, kind, cols, link))
    _tell(survey)
    return survey


def _topics(samples: Sequence[Sample]) -> list[str]:
    """A name for each under `sources`; files of one name get numbers."""
    seen: Counter[str] = Counter()
    names = []
    for sample in samples:
        seen[sample.topic] += 1
        number = seen[sample.topic]
        names.append(sample.topic if number == 1 else f"{sample.topic}-{number}")
    return names


def _kind(sample: Sample, cols: Sequence[Column]) -> Kind | None:
    """Which kind of event a sample holds, None where it says so itself."""
    events = Decoder().decode("", sample.values, sample.headers)
    if sum(not isinstance(event, Rejected) for event in events) >= MOST * len(events):
        return None
    asked, told = guessed("prediction", cols), guessed("outcome", cols)
    signs = sum(asked[name].score for name in ("variant", "latency_ms", "score") if name in asked)
    signs += _strength(asked.get("predicted"))
    answers = _strength(told.get("actual"))
    words = set(re.split(r"[^a-z]+", sample.topic.lower()))
    signs += EXACT * bool(words & PREDICTION_WORDS)
    answers += EXACT * bool(words & OUTCOME_WORDS)
    if "variant" not in asked:
        answers += CLEAR
    if signs <= 0 and _strength(told.get("actual")) <= 0:
        raise SampleError(
            f"{sample.name}: there is neither a decision nor a truth in its fields"
            f" ({_some(column.place for column in cols)}); expected predictions or outcomes"
        )
    _refuse_mixed(sample, asked, told)
    return "prediction" if signs >= answers else "outcome"


def _strength(guess: Guess | None) -> float:
    return 0.0 if guess is None or guess.score < CLEAR / 2 else guess.score


def _refuse_mixed(sample: Sample, asked: Mapping[str, Guess], told: Mapping[str, Guess]) -> None:
    """A mapped topic holds one kind of event."""
    variant, actual = asked.get("variant"), told.get("actual")
    if variant is None or actual is None or min(variant.score, actual.score) < CLEAR:
        return
    pairs = zip(variant.column.values, actual.column.values, strict=True)
    have = Counter((one is not None, other is not None) for one, other in pairs)
    apart = have[True, False] + have[False, True]
    if (
        not have[True, True]
        and min(have[True, False], have[False, True])
        and apart >= MOST * len(sample.rows)
    ):
        raise SampleError(
            f"{sample.name}: some records have {variant.column.place!r} and the others"
            f" {actual.column.place!r}, so it seems to hold predictions and outcomes in one; a mapping is for"
            " one kind of event, so split it, or have its services send `type`"
        )


def _links(
    found: Sequence[Sequence[Column]], kinds: Sequence[Kind | None]
) -> list[dict[str, float]]:
    """By sample and place, for which share of the outcomes some prediction has the same value.

    Of all pairs of columns only the best counts: customers may match as well, but not as well.
    """
    links: list[dict[str, float]] = [{} for _ in found]
    for one, asked in enumerate(found):
        for other, told in enumerate(found):
            if kinds[one] == "prediction" and kinds[other] == "outcome":
                best = max(
                    ((_overlap(a, b), a, b) for a in asked for b in told),
                    key=lambda each: each[0] + _worth(each[1]) + _worth(each[2]),
                    default=None,
                )
                if best is not None and best[0] > 0:
                    links[one][best[1].place] = best[0]
                    links[other][best[2].place] = best[0]
    return links


def _overlap(asked: Column, told: Column) -> float:
    if not (_may_join(asked) and _may_join(told)):
        return 0.0
    known, wanted = set(map(str, asked.present)), set(map(str, told.present))
    return len(known & wanted) / len(wanted)


def _may_join(column: Column) -> bool:
    return (
        column.kinds <= {str, int}
        and column.share >= 0.95
        and column.distinct >= min(2, len(column.present))
        and column.distinct >= 0.9 * len(column.present)
    )


def _worth(column: Column) -> float:
    """Among equals, what is called an id."""
    known = NAMES["prediction_id"].split()
    return 0.01 * any(name in known for name in column.names)


def _source(
    sample: Sample, topic: str, kind: Kind | None, cols: Sequence[Column], link: Mapping[str, float]
) -> Source:
    if kind is None:
        return Source(sample, topic, None, {}, (), (), _decoded(sample, SourceOptions()))
    guesses = guessed(kind, cols, link)
    needed = {
        "prediction": ("prediction_id", "experiment", "variant", "predicted"),
        "outcome": ("prediction_id", "actual"),
    }[kind]
    missing = tuple(name for name in needed if name not in guesses)
    unused: tuple[str, ...] = ()
    while True:
        events = _decoded(sample, source_options(kind, guesses, missing, unused))
        wrong = _wrong_fields(events) & {*FIELDS[kind]} - {*guesses, *missing, *unused}
        if not wrong:
            return Source(sample, topic, kind, guesses, missing, unused, events)
        unused = (*unused, *sorted(wrong))


def source_options(
    kind: Kind, guesses: Mapping[str, Guess], missing: Iterable[str], unused: Iterable[str]
) -> SourceOptions:
    """The mapping as settings have it; what is missing stands as a constant where that makes sense."""
    fields: dict[str, str | FieldOptions] = {}
    for name, guess in guesses.items():
        options = guess.options()
        if options != FieldOptions(path=name):
            fields[name] = options
    for name in missing:
        if name in PLACEHOLDERS:
            fields[name] = FieldOptions(constant=PLACEHOLDERS[name])
    fields |= dict.fromkeys(unused, NOWHERE)
    return SourceOptions(type=kind, fields=fields)


PLACEHOLDERS = {"experiment": "my-experiment", "variant": "control"}
"""What stands for names that the records do not have."""


def _decoded(sample: Sample, options: SourceOptions) -> list[Event]:
    return Decoder({sample.topic: options}).decode(sample.topic, sample.values, sample.headers)


def _wrong_fields(events: Iterable[Event]) -> set[str]:
    """Fields that are there and are not what they should be."""
    details = {event.detail for event in events if isinstance(event, Rejected)}
    return {found for detail in details for found in _FIELD.findall(detail)}


def _tell(survey: Survey) -> None:
    """What the events of all sources say together."""
    asked: dict[str, Prediction] = {}
    answers: dict[str, Outcome] = {}
    for source in survey.sources:
        for event in source.events:
            if isinstance(event, Prediction):
                asked.setdefault(event.prediction_id, event)
            elif isinstance(event, Outcome):
                answers.setdefault(event.prediction_id, event)
    survey.outcomes = len(answers)
    by_experiment = defaultdict(list)
    for prediction in asked.values():
        by_experiment[prediction.experiment].append(prediction)
    for name, mine in by_experiment.items():
        survey.counts[name] = Counter(each.variant for each in mine)
        _tell_one(survey, name, mine, answers)


def _tell_one(
    survey: Survey, name: str, mine: Sequence[Prediction], answers: Mapping[str, Outcome]
) -> None:
    met = [(each, answers[each.prediction_id]) for each in mine if each.prediction_id in answers]
    survey.met += len(met)
    survey.delays[name] = [
        epoch_ms(told.time) - epoch_ms(asked.time)
        for asked, told in met
        if asked.time is not None and told.time is not None
    ]
    acted = [asked.predicted if asked.acted is None else asked.acted for asked, _ in met]
    idle = any(not each.predicted for each in mine)
    survey.acted_only[name] = bool(met) and idle and all(acted)
    if any(each.latency_ms is not None for each in mine):
        survey.has_latency.add(name)
    times = [epoch_ms(each.time) for each in mine if each.time is not None]
    if times and max(times) > min(times):
        survey.rates[name] = len(mine) * 1000 / (max(times) - min(times))
    units = defaultdict(list)
    for each in mine:
        if each.unit_id is not None:
            units[each.unit_id].append(each.variant)
    repeated = [variants for variants in units.values() if len(variants) > 1]
    if repeated:
        survey.by_unit[name] = all(len(set(variants)) == 1 for variants in repeated)


def _some(names: Iterable[str]) -> str:
    given = list(names)
    return ", ".join(given[:8]) + (", ..." if len(given) > 8 else "")
