"""The topics of a deployment: what they should be like, and what is wrong with those that exist. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from abmonitor.settings import Settings
from alerts.actuators.kafka import KafkaOptions
from metrics.duration import Duration
from metrics.experiment import DAY


PARTITIONS = 12
LEAST_RETENTION = Duration(7 * DAY)
LETTER_RETENTION = Duration(30 * DAY)
LETTER_BYTES = 2 << 20
SPARE_BYTES = 1 << 20
"""What a letter may need beside the source's record: reason, detail and position need far less."""

ORDER_RETENTION = Duration(30 * DAY)
CONTROL_BYTES = 2 << 20
"""What a decision with its evidence may need; `abmonitor.control_log` sends no more."""

BROKERS_CHOICE = -1


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create."""

    name: str
    partitions: int
    replication: int
    """-1: what the broker does by default."""
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic that exists, with all its settings."""

    name: str
    partitions: int
    configs: Mapping[str, str]

    def number(self, config: str) -> int:
        """A setting that is a whole number; -1 where there is no limit."""
        return int(self.configs.get(config, "-1"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with topics that exist."""

    topic: str
    message: str
    breaks: bool
    """Counts or dead letters would not be what they should be; otherwise it is a warning."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to create, and what to say."""

    create: Sequence[NewTopic]
    exist: Sequence[str]
    problems: Sequence[Problem]

    @property
    def broken(self) -> bool:
        """Something has to be mended."""
        return any(problem.breaks for problem in self.problems)


def control_topic(settings: Settings) -> str | None:
    """Where the monitor writes down what it decided; None where only Redis has it."""
    return settings.kafka.control


def decision_topics(settings: Settings) -> list[str]:
    """Where orders for routers are written; none, where no experiment acts by Kafka."""
    breaches = [experiment.on_breach for experiment in settings.experiments]
    options = [breach.kafka or KafkaOptions() for breach in breaches if breach.action == "kafka"]
    return list(dict.fromkeys(each.topic for each in options))


def all_topics(settings: Settings) -> list[str]:
    """Every topic of a deployment."""
    control = control_topic(settings)
    kept = [settings.kafka.dead_letters, *decision_topics(settings)]
    return [*settings.topics, *kept, *([] if control is None else [control])]


def needed_retention(settings: Settings) -> Duration:
    """How far back the log must reach so that what is waiting for its label can be rebuilt."""
    longest = max(experiment.labels.remembered for experiment in settings.experiments)
    return Duration(longest + settings.early_for)


def usual_retention(settings: Settings) -> Duration:
    """What is chosen where nobody says anything: a week, or twice what is needed if that is more."""
    return Duration(max(LEAST_RETENTION, 2 * needed_retention(settings)))


def plan(
    settings: Settings,
    found: Mapping[str, FoundTopic],
    *,
    partitions: int | None = None,
    replication: int = BROKERS_CHOICE,
    retention: Duration | None = None,
) -> Plan:
    """What is to be done so that all topics exist. `found` are those of them that do.

    Without `partitions` new event topics get as many as those that exist, or `PARTITIONS`.
    """
    events = [found[name] for name in settings.topics if name in found]
    count = partitions or (events[0].partitions if events else PARTITIONS)
    kept = usual_retention(settings) if retention is None else retention
    letters, control = settings.kafka.dead_letters, control_topic(settings)
    wanted = [event_topic(name, count, replication, kept) for name in settings.topics]
    mixed = list(_mixed(events, wanted, found))
    if mixed:  # the others are still wanted: `abmonitor rekey` needs a topic for dead letters
        wanted = [topic for topic in wanted if topic.name in found]
    wanted.append(_letter_topic(letters, replication, _letter_bytes(events)))
    if control is not None:
        wanted.append(_control_topic(control, replication))
    wanted += [_decision_topic(name, replication) for name in decision_topics(settings)]
    problems = list(mixed)
    for topic in events:
        problems += _event_problems(topic, needed_retention(settings))
    if letters in found:
        problems += _letter_problems(found[letters], events)
    if control is not None and control in found:
        problems += _control_problems(found[control])
    for name in decision_topics(settings):
        if name in found:
            problems += _decision_problems(found[name])
    return Plan(
        [topic for topic in wanted if topic.name not in found],
        [topic.name for topic in wanted if topic.name in found],
        problems,
    )


def event_topic(name: str, partitions: int, replication: int, retention: int) -> NewTopic:
    """A topic for events: the broker's clock, and nothing is deleted but by age."""
    configs = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(int(retention)),
    }
    return NewTopic(name, partitions, replication, configs)


def _letter_topic(name: str, replication: int, largest: int) -> NewTopic:
    configs = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(int(LETTER_RETENTION)),
        "max.message.bytes": str(largest),
    }
    return NewTopic(name, 1, replication, configs)


def _control_topic(name: str, replication: int) -> NewTopic:
    """The newest value of every key, for ever, in one order; the clock of its records says nothing."""
    configs = {"cleanup.policy": "compact", "max.message.bytes": str(CONTROL_BYTES)}
    return NewTopic(name, 1, replication, configs)


def _decision_topic(name: str, replication: int) -> NewTopic:
    """Orders are few: one partition has all of them in their order."""
    configs = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(int(ORDER_RETENTION)),
        "max.message.bytes": str(CONTROL_BYTES),
    }
    return NewTopic(name, 1, replication, configs)


def _letter_bytes(events: Sequence[FoundTopic]) -> int:
    """Enough for the largest record of any event topic, and what is said of it."""
    return max([LETTER_BYTES, *(t.number("max.message.bytes") + SPARE_BYTES for t in events)])


def _mixed(
    events: Sequence[FoundTopic], wanted: Sequence[NewTopic], found: Mapping[str, FoundTopic]
) -> Iterator[Problem]:
    """Event topics with different numbers of partitions."""
    counts = {topic.name: topic.partitions for topic in events}
    counts |= {t.name: t.partitions for t in wanted if t.name not in found}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        yield Problem(
            events[0].name,
            f"event topics need the same number of partitions, so that a prediction and its outcome"
            f" meet: {told}; no event topic was created; give --partitions as they have, or copy what they"
            " have into one topic with `abmonitor rekey`",
            breaks=True,
        )


def _event_problems(topic: FoundTopic, needed: Duration) -> Iterator[Problem]:
    if "compact" in topic.configs.get("cleanup.policy", ""):
        yield Problem(
            topic.name,
            "cleanup.policy has `compact`, which deletes events with equal keys; set it to delete",
            breaks=True,
        )
    clock = topic.configs.get("message.timestamp.type")
    if clock != "LogAppendTime":
        yield Problem(
            topic.name,
            f"message.timestamp.type is {clock}: arrival times are what producers say; LogAppendTime"
            " makes them the broker's",
            breaks=False,
        )
    kept = topic.number("retention.ms")
    if 0 <= kept < needed:
        yield Problem(
            topic.name,
            f"retention.ms is {kept} ({Duration(kept)}): a lost store could not be rebuilt;"
            f" at least {int(needed)} ({needed}) is needed",
            breaks=False,
        )
    size = topic.number("retention.bytes")
    if size >= 0:
        yield Problem(
            topic.name,
            f"retention.bytes is {size}: under load the log may reach back less than {needed},"
            " which is needed; set it to -1",
            breaks=False,
        )


def _letter_problems(topic: FoundTopic, events: Sequence[FoundTopic]) -> Iterator[Problem]:
    if "compact" in topic.configs.get("cleanup.policy", ""):
        yield Problem(
            topic.name,
            "cleanup.policy has `compact`, which refuses letters without a key, so that workers would"
            " stand still, and deletes those with equal keys; set it to delete",
            breaks=True,
        )
    largest = max((event.number("max.message.bytes") for event in events), default=0)
    room = topic.number("max.message.bytes")
    if room <= largest:
        yield Problem(
            topic.name,
            f"max.message.bytes is {room}, the source's {largest}: large letters will be cut;"
            f" {largest + SPARE_BYTES} would do",
            breaks=False,
        )


def _control_problems(topic: FoundTopic) -> Iterator[Problem]:
    policy = topic.configs.get("cleanup.policy", "")
    if policy != "compact":
        yield Problem(
            topic.name,
            f"cleanup.policy is {policy}: what was decided would be deleted by age, and a monitor without"
            " its store could not restore it; set it to compact",
            breaks=True,
        )
    room = topic.number("max.message.bytes")
    if room < CONTROL_BYTES:
        yield Problem(
            topic.name,
            f"max.message.bytes is {room}: a decision with much evidence could not be written;"
            f" at least {CONTROL_BYTES} is needed",
            breaks=False,
        )


def _decision_problems(topic: FoundTopic) -> Iterator[Problem]:
    if "compact" in topic.configs.get("cleanup.policy", ""):
        yield Problem(
            topic.name,
            "cleanup.policy has `compact`, which deletes all but the last order of an experiment, so that a"
            " router that was away would miss some; set it to delete",
            breaks=True,
        )
