"""The settings of a deployment (file system): option types of all packages, read and checked."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from abmonitor import breach
from abmonitor.api_settings import ApiSettings
from abmonitor.breach import OnBreach, Text
from abmonitor.connections import DEFAULT_REDIS, KafkaSettings, Topic
from abmonitor.convert import (
    Check,
    Parser,
    Problem,
    UnknownFieldError,
    convert,
    schema,
    shown,
)
from abmonitor.experiment_checks import EXPERIMENT, LABELS, repeated
from abmonitor.folder import join, read_all
from abmonitor.hook_settings import AlertmanagerHook, HookSettings
from abmonitor.notify_settings import NotifierSettings, NotifySettings
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


LONGEST = 10 * 365 * DAY
"""No duration may be longer, so that no sum of times overflows anywhere."""


class SettingsError(Exception):
    """All mistakes in the settings; prints as one `file:line:column: message` a line."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        # A part that aliases repeat is one thing to mend, however often it is used.
        found = {(m.file, m.line, m.column, m.message): m for m in reversed(mistakes)}
        self.mistakes = tuple(found[key] for key in sorted(found))
        super().__init__("\n".join(map(str, self.mistakes)))


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

    def left(self, ordered: Iterable[int], at: int) -> int:
        """How many more rollbacks may be ordered around `at` (epoch ms), when those before were `ordered`."""
        # Also later ones: after an outage experiments catch up one after the other.
        recent = sum(abs(at - when) <= self.within for when in ordered)
        return max(0, self.rollbacks - recent)


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
    api: ApiSettings = ApiSettings()
    notify: NotifySettings = NotifySettings()
    hooks: HookSettings = HookSettings()

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
    result = schema(Settings, {Duration: duration, Moment: moment, Secret: secret, Text: str})
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


def experiment_names(settings: Settings) -> Iterator[Problem]:
    """Experiments that share a name."""
    yield from repeated(settings.experiments, "experiments", "name")


def _worker(settings: Settings) -> Iterator[Problem]:
    with suppress(UnknownFieldError):  # told already
        shortest = min(experiment.labels.wait for experiment in settings.experiments)
        for field, message in settings.worker.problems(shortest):
            yield ("worker", field), message


def _own_topics(settings: Settings) -> Iterator[Problem]:
    if (letters := settings.kafka.dead_letters) in settings.topics:
        yield (
            ("kafka", "dead_letters"),
            (
                f"{letters!r} is one of the topics that events come in: each letter would be read, refused"
                " and kept again, without end; expected a topic of its own"
            ),
        )
    control = settings.kafka.control
    if control is not None and control in (*settings.topics, letters):
        yield (
            ("kafka", "control"),
            f"{control!r} is used for something else; expected a topic of its own: it is compacted",
        )
    taken = {*settings.topics, letters, control}
    for number, experiment in enumerate(settings.experiments):
        orders = experiment.on_breach.kafka
        if orders is not None and orders.topic in taken:
            yield (
                ("experiments", number, "on_breach", "kafka", "topic"),
                f"{orders.topic!r} is used for something else; expected a topic of its own",
            )


def _templates(experiment: ExperimentSettings) -> Iterator[Problem]:
    with suppress(UnknownFieldError):  # told already
        found = breach.templates(experiment.on_breach, list(experiment.variants))
        for path, message in found:
            yield ("on_breach", *path), message


def _of_fields(options: Any) -> Iterator[Problem]:
    """What options say of their own fields."""
    for field, message in options.problems():
        yield (field,), message


def _source(source: SourceOptions) -> Iterator[Problem]:
    for field, message in source.problems():
        yield (("fields",) if field == "fields" else ("fields", field)), message


def _brake(brake: Brake) -> Iterator[Problem]:
    if not brake.within > 0:
        yield ("within",), f"expected a time above 0, got {brake.within}"


PARSERS: dict[type, Parser] = {
    Text: Text.parse,
    Duration: _duration,
    Moment: Moment.parse,
    Secret: Secret.parse,
}
CHECKS: dict[type, tuple[Check, ...]] = {
    Settings: (experiment_names, _worker, _own_topics),
    ExperimentSettings: (*EXPERIMENT, _templates),
    Labels: LABELS,
    HoldOptions: (_of_fields,),
    OnBreach: (breach.problems,),
    Brake: (_brake,),
    KafkaSettings: (_of_fields,),
    ApiSettings: (_of_fields,),
    NotifySettings: (_of_fields,),
    NotifierSettings: (_of_fields,),
    AlertmanagerHook: (_of_fields,),
    SourceOptions: (_source,),
}
