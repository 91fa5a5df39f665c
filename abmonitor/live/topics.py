"""What is to be found about topics: that they are there, and keep what is needed. Pure."""

from collections.abc import Iterator, Mapping

from abmonitor.live.findings import Finding, Level, span
from abmonitor.operate.sample import TopicSample
from abmonitor.operate.topics import CONTROL_BYTES, control_topic, decision_topics
from abmonitor.settings import Settings
from metrics.experiment import HOUR


Samples = Mapping[str, TopicSample]


def topic_findings(samples: Samples, settings: Settings) -> Iterator[Finding]:
    """All that is to be said of the configured topics, and of those that we write to."""
    there = [samples[topic] for topic in settings.topics if samples[topic].partitions]
    yield from _existence(samples, settings)
    yield from _partition_counts(there)
    yield from _dead_letters(samples[settings.kafka.dead_letters])
    if (control := control_topic(settings)) is not None:
        yield from _control(samples[control])
    for topic in decision_topics(settings):
        yield from _decisions(samples[topic])
    for sample in there:
        if sample.config is None:
            yield Finding(
                "warning",
                "topic_settings",
                sample.topic,
                "its settings cannot be read, so timestamps, retention and compaction are not known;"
                " allow this user to describe the topic's configs",
            )
            continue
        yield from _timestamps(sample, sample.config)
        yield from _cleanup(sample.topic, sample.config)
        yield from _retention(sample, sample.config, settings)


def _existence(samples: Samples, settings: Settings) -> Iterator[Finding]:
    for topic in settings.topics:
        if not samples[topic].partitions:
            yield Finding(
                "error",
                "topic_exists",
                topic,
                "there is no such topic (or this user may not see it); make it with"
                " `abmonitor topics create`, or name the topics that there are under `sources`",
            )


def _partition_counts(there: list[TopicSample]) -> Iterator[Finding]:
    counts = {sample.topic: len(sample.partitions) for sample in there}
    if len(counts) < 2:
        return
    where, told = ", ".join(counts), ", ".join(f"{name} has {n}" for name, n in counts.items())
    if len(set(counts.values())) > 1:
        yield Finding(
            "error",
            "partition_count",
            where,
            f"partitions differ in number: {told}. A prediction and its outcome have to be in"
            " partitions of the same number; make the topics anew with as many partitions each, or have `abmonitor rekey` copy"
            " both into one",
        )
    else:
        number = next(iter(counts.values()))
        yield Finding(
            "ok", "partition_count", where, f"they have the same number of partitions: {number}"
        )


def _dead_letters(sample: TopicSample) -> Iterator[Finding]:
    if sample.partitions:
        yield Finding("ok", "dead_letter_topic", sample.topic, "the dead-letter topic is there")
    else:
        yield Finding(
            "error",
            "dead_letter_topic",
            sample.topic,
            "there is no dead-letter topic, so a worker would stop at the first record that cannot be"
            " used; make it with `abmonitor topics create`",
        )


def _control(sample: TopicSample) -> Iterator[Finding]:
    if not sample.partitions:
        yield Finding(
            "error",
            "control_topic",
            sample.topic,
            "there is no topic for the control log (or this user may not see it), so a monitor that lost its"
            " store could not restore what was decided; make it with `abmonitor topics create`",
        )
        return
    if sample.config is None:
        yield Finding(
            "warning",
            "control_topic",
            sample.topic,
            "its settings cannot be read, so it is not known whether it is compacted;"
            " allow this user to describe the topic's configs",
        )
        return
    policy = sample.config.get("cleanup.policy", "")
    room = _number(sample.config, "max.message.bytes", default=0)
    if policy != "compact":
        yield Finding(
            "error",
            "control_topic",
            sample.topic,
            f"cleanup.policy={policy}: what was decided is deleted by age, and could not be restored; set"
            f" it with {_mended(sample.topic, 'cleanup.policy=compact')}",
        )
    elif room < CONTROL_BYTES:
        yield Finding(
            "warning",
            "control_topic",
            sample.topic,
            f"max.message.bytes={room}: a decision with much evidence could not be written; set it with"
            f" {_mended(sample.topic, f'max.message.bytes={CONTROL_BYTES}')}",
        )
    else:
        yield Finding("ok", "control_topic", sample.topic, "the control log is there and compacted")


def _mended(topic: str, config: str) -> str:
    return (
        "`kafka-configs.sh --bootstrap-server host:9092 --alter --entity-type topics"
        f" --entity-name {topic} --add-config {config}`"
    )


def _decisions(sample: TopicSample) -> Iterator[Finding]:
    if not sample.partitions:
        yield Finding(
            "error",
            "decisions_topic",
            sample.topic,
            "there is no topic for orders (or this user may not see it), so no rollback would reach a"
            " router; make it with `abmonitor topics create`",
        )
    elif sample.config is not None and "compact" in sample.config.get("cleanup.policy", ""):
        yield Finding(
            "error",
            "decisions_topic",
            sample.topic,
            f"cleanup.policy={sample.config['cleanup.policy']}: all but the last order of an experiment are"
            f" deleted; set it with {_mended(sample.topic, 'cleanup.policy=delete')}",
        )
    else:
        yield Finding("ok", "decisions_topic", sample.topic, "the topic for orders is there")


def _timestamps(sample: TopicSample, config: Mapping[str, str]) -> Iterator[Finding]:
    if config.get("message.timestamp.type") == "LogAppendTime":
        by_producers = sum(not record.stamped_by_broker for record in sample.records)
        if by_producers:
            yield Finding(
                "warning",
                "timestamps",
                sample.topic,
                f"the broker stamps what arrives now (LogAppendTime), but {by_producers:,} of"
                f" {len(sample.records):,} recent records still have their producers' clock;"
                " start experiments after them",
            )
        else:
            yield Finding(
                "ok", "timestamps", sample.topic, "the broker stamps records (LogAppendTime)"
            )
        return
    ahead = _number(config, "message.timestamp.after.max.ms", default=-1)
    bounded = 0 <= ahead <= HOUR
    limit = f"by at most {span(ahead)}" if bounded else "without any limit worth the name"
    also = "" if bounded else ", or at least message.timestamp.after.max.ms to some minutes"
    yield Finding(
        "warning",
        "timestamps",
        sample.topic,
        "records carry their producers' clock (message.timestamp.type=CreateTime); the time of arrival is"
        " then the latest that was seen in a partition, and one clock that is ahead makes what others send"
        " look late. message.timestamp.after.max.ms lets clocks be ahead"
        f" {limit}. Set message.timestamp.type=LogAppendTime{also}",
    )


def _cleanup(topic: str, config: Mapping[str, str]) -> Iterator[Finding]:
    if "compact" in config.get("cleanup.policy", ""):
        yield Finding(
            "error",
            "cleanup_policy",
            topic,
            f"cleanup.policy={config['cleanup.policy']}: compaction deletes all but the last record of a"
            " key, so counts could not be rebuilt; set cleanup.policy=delete",
        )


def _retention(
    sample: TopicSample, config: Mapping[str, str], settings: Settings
) -> Iterator[Finding]:
    """Whether what is needed to judge, and to rebuild, is kept."""
    kept = _number(config, "retention.ms", default=-1)
    by_size = _kept_by_size(sample, _number(config, "retention.bytes", default=-1))
    why = f"retention.ms={kept}"
    reach = float("inf") if kept < 0 else kept
    if by_size < reach:
        reach = by_size
        why = f"retention.bytes={config['retention.bytes']}, at the rate of the recent records"
    wait = max(experiment.labels.wait for experiment in settings.experiments)
    remembered = max(experiment.labels.remembered for experiment in settings.experiments)
    level: Level = "error" if reach < wait else "warning" if reach < 2 * remembered else "ok"
    if reach == float("inf"):
        told = "records are kept for ever: counts can be rebuilt from the start of any experiment"
    else:
        told = (
            f"records are kept for {span(reach)} ({why}): when Redis is lost, counts can be rebuilt"
        )
        told += " from then on; keep them for as long as experiments run"
    if level == "error":
        told += f", and in any case longer than horizon + grace ({span(wait)})"
    elif level == "warning":
        told += f", and at least for twice the time that ids are remembered ({span(remembered)})"
    yield Finding(level, "retention", sample.topic, told)


def _kept_by_size(sample: TopicSample, limit: int) -> float:
    """Milliseconds until the fullest partition has `limit` bytes, as far as that can be told."""
    if limit < 0:
        return float("inf")
    shortest = float("inf")
    for number in sample.partitions:
        records = [each for each in sample.records if each.partition == number]
        size = sum(len(each.value or b"") + len(each.key or b"") for each in records)
        took = records[-1].arrival - records[0].arrival if records else 0
        if took > 0 and size:
            shortest = min(shortest, limit / (size / took))
    return shortest


def _number(config: Mapping[str, str], name: str, default: int) -> int:
    given = config.get(name) or ""
    return int(given) if given.lstrip("-").isdigit() else default
