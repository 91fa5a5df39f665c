"""The settings of a deployment (file system): option types of all packages, read and checked."""

import math
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from abmonitor.connections import DEFAULT_REDIS, KafkaSettings, Topic
from abmonitor.convert import (
    Check,
    Parser,
    Problem,
    UnknownFieldError,
    convert,
    known,
    schema,
    shown,
)
from abmonitor.folder import join, read_all
from abmonitor.secret import Secret
from abmonitor.worker_settings import WorkerSettings
from abmonitor.yaml_source import Mistake
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.testing import Testing
from metrics.catalogue import CATALOGUE
from metrics.duration import PATTERN, Duration
from metrics.experiment import DAY, HOUR, MINUTE, Experiment, Labels, Name
from metrics.moment import Moment
from stream.sources import SourceOptions


TEN_SECONDS = 10_000
LONGEST_LANDMARK = 49 * DAY
"""How late a label came is kept in 32 bits of milliseconds."""

LONGEST = 10 * 365 * DAY
"""No duration may be longer, so that no sum of times overflows anywhere."""


class SettingsError(Exception):
    """All mistakes in the settings; prints as one `file:line:column: message` a line."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        # A part that aliases repeat is one thing to mend, however often it is used.
        found = {(m.file, m.line, m.column, m.message): m for m in reversed(mistakes)}
        self.mistakes = tuple(found[key] for key in sorted(found))
        super().__init__("\n".join(map(str, self.mistakes)))


class OnBreach(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when a guardrail is breached."""

    action: Literal["log", "webhook"] = "log"
    url: Secret | None = None
    secret: Secret | None = None
    """Signs the orders, so that the receiver knows who sent them."""
    dry_run: bool = False


class ExperimentSettings(Experiment, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment with what guards it."""

    guardrails: tuple[Guardrail, ...] = ()
    testing: Testing = Testing()
    hold: HoldOptions = HoldOptions()
    on_breach: OnBreach = OnBreach()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that is tested; another one starts a new epoch.

        Another split only starts a new phase; what is shown or planned, and how a rollback is carried
        out, tests nothing.
        """
        tested = msgspec.structs.replace(
            self,
            variants=dict.fromkeys(sorted(self.variants), 0.0),
            testing=msgspec.structs.replace(self.testing, max_duration=None),
            ramp=(),
            windows=(),
            predictions_per_second=None,
            expected=None,
            hold=HoldOptions(),
            on_breach=OnBreach(dry_run=self.on_breach.dry_run),
        )
        return sha256(msgspec.json.encode(tested, enc_hook=str)).hexdigest()[:16]


class Brake(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """More than `rollbacks` within `within`, over all experiments, page instead of acting."""

    rollbacks: Annotated[int, Meta(ge=0)] = 3
    within: Duration = Duration(HOUR)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a deployment is told."""

    experiments: Annotated[tuple[ExperimentSettings, ...], Meta(min_length=1)]
    deployment: Name = "default"
    sources: dict[Topic, SourceOptions] = {}
    early_for: Duration = Duration(10 * MINUTE)
    """How long an outcome that came before its prediction waits."""
    redis: Secret = DEFAULT_REDIS
    """The address of the store."""
    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    brake: Brake = Brake()

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that events come in."""
        return tuple(self.sources) or ("predictions", "outcomes")

    @property
    def group(self) -> str:
        """The workers' consumer group."""
        return self.kafka.group or f"abmonitor-{self.deployment}"


def load(path: Path) -> Settings:
    """Read the settings in a YAML file, or in a folder of them (`*.yaml`, `*.yml`).

    In a folder, experiments are strung together in the order of file names; every other key may
    stand in one file only. Raises SettingsError with all mistakes at once.
    """
    documents, mistakes, whole = read_all(path)
    if not documents:
        raise SettingsError(mistakes)
    joined = join(documents, mistakes) if path.is_dir() else documents[0]
    settings, found = convert(joined, Settings, PARSERS, CHECKS)
    # What seems to be missing at the top may stand in a file that could not be read.
    mistakes += [each for each in found if each.path or whole]
    if settings is None or mistakes:
        raise SettingsError(mistakes)
    return settings


def reload(previous: Settings, path: Path) -> tuple[Settings, SettingsError | None]:
    """Read the settings as they are now; when they are bad, keep the previous ones and say why.

    Settings that did not change come back as the same object.
    """
    try:
        settings = load(path)
    except SettingsError as error:
        return previous, error
    return (previous if settings == previous else settings), None


def json_schema() -> dict[str, Any]:
    """Describe a settings file as a JSON Schema, for editors."""
    source = Annotated[str, Meta(pattern="^(env|file)$")]
    secret = Annotated[dict[source, str], Meta(min_length=1, max_length=1)]
    moment = Annotated[str, Meta(examples=["2026-01-31T10:00:00Z"])]
    duration = Annotated[str, Meta(pattern=PATTERN, examples=["30s", "10m", "1h30m", "7d"])]
    result = schema(Settings, {Duration: duration, Moment: moment, Secret: secret})
    result["$defs"]["Guardrail"]["properties"]["metric"]["enum"] = list(CATALOGUE)
    return result


def _duration(data: object) -> Duration:
    try:
        duration = Duration.parse(data)
    except OverflowError:
        duration = Duration(LONGEST + 1)
    if duration > LONGEST:
        raise ValueError(f"expected a duration of at most 10 years, got {shown(data)}")
    return duration


def _repeated(items: tuple[Any, ...], where: str, field: str) -> Iterator[Problem]:
    """Find names that a list has twice; `where` is the list, and `field` gives its items names."""
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            name = item.name
        except UnknownFieldError:
            continue
        if first.setdefault(name, index) != index:
            yield (
                (where, index, field),
                f"{name!r} is there already, in",
                (where, first[name], field),
            )


def experiment_names(settings: Settings) -> Iterator[Problem]:
    """Experiments that share a name."""
    yield from _repeated(settings.experiments, "experiments", "name")


def _worker(settings: Settings) -> Iterator[Problem]:
    with suppress(UnknownFieldError):  # told already
        shortest = min(experiment.labels.wait for experiment in settings.experiments)
        for field, message in settings.worker.problems(shortest):
            yield ("worker", field), message


def _letters(settings: Settings) -> Iterator[Problem]:
    if (letters := settings.kafka.dead_letters) in settings.topics:
        yield (
            ("kafka", "dead_letters"),
            (
                f"{letters!r} is one of the topics that events come in: each letter would be read, refused"
                " and kept again, without end; expected a topic of its own"
            ),
        )


def _variants(experiment: Experiment) -> Iterator[Problem]:
    control, variants = experiment.control, experiment.variants
    if control not in variants:
        yield ("control",), f"{control!r} is not one of the variants: {', '.join(variants)}"
    elif len(variants) < 2:
        yield ("variants",), f"expected a treatment beside the control {control!r}"
    elif not variants[control] > 0:
        yield ("variants", control), "expected a share of the traffic for the control, got 0"
    if not math.isfinite(sum(variants.values())):
        yield ("variants",), "expected shares of the traffic with a finite sum"


def _ramp(experiment: Experiment) -> Iterator[Problem]:
    before: int | None = None
    for index, step in enumerate(experiment.ramp):
        if before is not None and step.at <= before:
            yield ("ramp", index, "at"), f"expected a time after the step before, got {step.at}"
        before = step.at
        for name in step.variants:
            if name not in experiment.variants:
                known = ", ".join(experiment.variants)
                yield ("ramp", index, "variants", name), f"{name!r} is not one of {known}"
        if not step.variants.get(experiment.control, 0.0) > 0:
            yield ("ramp", index, "variants"), "expected a share of the traffic for the control"
        if not math.isfinite(sum(step.variants.values())):
            yield ("ramp", index, "variants"), "expected shares of the traffic with a finite sum"


def _testing(experiment: ExperimentSettings) -> Iterator[Problem]:
    labelled = [
        found
        for found in experiment.guardrails
        if found.test == "sequential" and getattr(CATALOGUE.get(found.metric), "labelled", False)
    ]
    if experiment.testing.blind_budget is not None and not labelled:
        yield (
            ("testing", "blind_budget"),
            "expected a sequential guardrail on labels, whose verdict is waited for",
        )


def _profitability(experiment: Experiment) -> Iterator[Problem]:
    problem = experiment.profitability and experiment.profitability.problem()
    if problem:
        yield ("profitability",), problem


def _windows(experiment: Experiment) -> Iterator[Problem]:
    for index, window in enumerate(experiment.windows):
        if window % TEN_SECONDS or not 0 < window <= 8 * DAY:
            wrong = f"expected a multiple of 10s, above 0 and at most 8d, got {window}"
            yield ("windows", index), wrong
        if window in experiment.windows[:index]:
            yield ("windows", index), f"the window {window} is listed twice"


def _guardrails(experiment: ExperimentSettings) -> Iterator[Problem]:
    for index, guardrail in enumerate(experiment.guardrails):
        where = "guardrails", index
        problems = guardrail.problems(experiment)
        yield from known(((*where, field), message) for field, message in problems)
    yield from _repeated(experiment.guardrails, "guardrails", "metric")


def _horizon(labels: Labels) -> Iterator[Problem]:
    if not labels.horizon > 0:
        yield ("horizon",), f"expected a time above 0, got {labels.horizon}"


def _landmarks(labels: Labels) -> Iterator[Problem]:
    before = 0
    for index, landmark in enumerate(labels.landmarks):
        if not before < landmark < labels.horizon or landmark > LONGEST_LANDMARK:
            longest = min(labels.horizon, LONGEST_LANDMARK)
            yield (
                ("landmarks", index),
                f"expected times in order, above 0 and below {Duration(longest)}, got {landmark}",
            )
        before = int(landmark)


def _cohort(labels: Labels) -> Iterator[Problem]:
    if labels.cohort % TEN_SECONDS or not labels.cohort > 0:
        yield ("cohort",), f"expected a multiple of 10s, above 0, got {labels.cohort}"


def _breach(breach: OnBreach) -> Iterator[Problem]:
    if breach.action == "webhook" and breach.url is None:
        yield (), "action: webhook needs a url, such as {env: ROLLBACK_URL}"
    for field in ("url", "secret"):
        # Whoever gives an address and forgets the action believes to be protected.
        if breach.action == "log" and getattr(breach, field) is not None:
            yield (field,), "action: log sends nothing anywhere; did you mean action: webhook?"


def _source(source: SourceOptions) -> Iterator[Problem]:
    for field, message in source.problems():
        yield (("fields",) if field == "fields" else ("fields", field)), message


def _brake(brake: Brake) -> Iterator[Problem]:
    if not brake.within > 0:
        yield ("within",), f"expected a time above 0, got {brake.within}"


def _kafka(kafka: KafkaSettings) -> Iterator[Problem]:
    for field, message in kafka.problems():
        yield (field,), message


PARSERS: dict[type, Parser] = {Duration: _duration, Moment: Moment.parse, Secret: Secret.parse}
CHECKS: dict[type, tuple[Check, ...]] = {
    Settings: (experiment_names, _worker, _letters),
    ExperimentSettings: (_variants, _ramp, _testing, _profitability, _windows, _guardrails),
    Labels: (_horizon, _landmarks, _cohort),
    OnBreach: (_breach,),
    Brake: (_brake,),
    KafkaSettings: (_kafka,),
    SourceOptions: (_source,),
}
