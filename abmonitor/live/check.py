"""A look at the running Kafka and Redis: whether these settings will work there. Does I/O (Kafka, Redis)."""

from collections.abc import Iterator, Mapping

from abmonitor.live.events import Read, event_findings, read
from abmonitor.live.findings import Finding
from abmonitor.live.join import join_findings
from abmonitor.live.store import store_findings
from abmonitor.live.topics import topic_findings
from abmonitor.live.units import unit_findings
from abmonitor.operate.sample import RECORDS, KafkaUnavailableError, TopicSample, sampled
from abmonitor.operate.topics import all_topics
from abmonitor.secret import SecretError
from abmonitor.settings import Settings


def live_findings(
    settings: Settings, environ: Mapping[str, str], records: int = RECORDS
) -> Iterator[Finding]:
    """Everything that was looked at, well or not; what cannot be reached is a finding too.

    `records`: how many recent records of each topic are looked at.
    """
    reads: list[Read] = []
    try:
        samples = _samples(settings, environ, records)
    except (SecretError, KafkaUnavailableError) as error:
        yield Finding("error", "kafka", "Kafka", str(error))
    else:
        yield from topic_findings(samples, settings)
        reads = [
            read(samples[topic], settings) for topic in settings.topics if samples[topic].partitions
        ]
        yield from event_findings(reads, settings)
        yield from join_findings(reads, settings)
        yield from unit_findings(reads, settings)
    yield from store_findings(settings, reads, environ)


def _samples(
    settings: Settings, environ: Mapping[str, str], records: int
) -> dict[str, TopicSample]:
    # Of what we write it only matters whether it has a topic, and how that is set up.
    wanted = dict.fromkeys(all_topics(settings), 0) | dict.fromkeys(settings.topics, records)
    return sampled(settings.kafka.brokers(environ), wanted)
