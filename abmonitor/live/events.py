"""What is to be found in recent records: what they decode to, and when and where they came. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from abmonitor.live.findings import Finding, Level, quantile, share, span
from abmonitor.operate.sample import Record, TopicSample
from abmonitor.settings import Settings
from metrics.experiment import DAY
from stream.events import Event, Outcome, Prediction, Rejected, epoch_ms
from stream.screen import SpecTable, screen
from stream.sources import Decoder


EXAMPLES = 2
MANY = 0.05
"""A share of records that is more than chance."""
LONG_AGO = 20 * 365 * DAY
"""So old are events only if their times are read in the wrong unit."""
AHEAD_MS = 1_000
"""Clocks may be ahead by this much."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the recent records of a topic stand for."""

    sample: TopicSample
    events: list[Event]
    usable: list[int]
    """Which of them count."""
    ignored: list[int]
    rejected: list[tuple[int, Rejected]]

    def told(self, kind: type[Prediction | Outcome]) -> list[tuple[Record, Prediction | Outcome]]:
        """The usable events of one kind, with their records."""
        found = []
        for index in self.usable:
            event = self.events[index]
            if isinstance(event, kind):
                found.append((self.sample.records[index], event))
        return found


def read(sample: TopicSample, settings: Settings) -> Read:
    """Decode records as a worker does."""
    records = sample.records
    headers = [record.headers for record in records]
    values = [record.value for record in records]
    events = Decoder(settings.sources).decode(
        sample.topic, values, headers if any(headers) else None
    )
    found = screen(
        events, [max(each.arrival, 0) for each in records], SpecTable(settings.experiments)
    )
    usable = [each.record for each in found.usable]
    return Read(sample, events, usable, found.ignored, found.rejected)


def event_findings(reads: Sequence[Read], settings: Settings) -> Iterator[Finding]:
    """All that is to be said of the records of each topic."""
    for each in reads:
        if not each.events:
            yield Finding(
                "warning",
                "records",
                each.sample.topic,
                "there are no records to look at; send some, and check again",
            )
            continue
        yield _decoded(each)
        yield from _rejected(each)
        yield from _ignored(each, settings)
        yield from _disorder(each, settings)
    if any(each.events for each in reads):
        yield from _kinds(reads)
        yield from _variants(reads, settings)


def _decoded(read: Read) -> Finding:
    kinds = Counter(type(read.events[index]) for index in read.usable)
    told = f"of {len(read.events):,} recent records {kinds[Prediction]:,} are predictions"
    told += f" and {kinds[Outcome]:,} outcomes that count"
    if read.usable:
        return Finding("ok", "records", read.sample.topic, told)
    told += "; mend what is said below about this topic, or map its fields under `sources`"
    return Finding("error", "records", read.sample.topic, told)


def _rejected(read: Read) -> Iterator[Finding]:
    by_reason = defaultdict(list)
    for index, why in read.rejected:
        by_reason[why.reason].append((index, why.detail))
    for reason, found in sorted(by_reason.items()):
        whole = len(read.events)
        level: Level = "error" if len(found) >= MANY * whole else "warning"
        examples = "; ".join(
            f"{read.sample.place(read.sample.records[index])}: {detail}"
            for index, detail in found[:EXAMPLES]
        )
        told = f"rejected, {reason}: {share(len(found), whole)}; for example {examples}"
        yield Finding(level, "rejected", read.sample.topic, told)


def _ignored(read: Read, settings: Settings) -> Iterator[Finding]:
    if not read.ignored:
        return
    names = Counter(
        str(event.experiment)
        for index in read.ignored
        if not isinstance(event := read.events[index], Rejected)
    )
    known = ", ".join(experiment.name for experiment in settings.experiments)
    yield Finding(
        "warning" if read.usable else "error",
        "ignored",
        read.sample.topic,
        f"ignored, because their experiment is not configured: {share(len(read.ignored), len(read.events))}:"
        f" {', '.join(name for name, _ in names.most_common(3))}; configured: {known}",
    )


def _kinds(reads: Sequence[Read]) -> Iterator[Finding]:
    where = ", ".join(each.sample.topic for each in reads)
    if not any(each.told(Prediction) for each in reads):
        yield Finding(
            "error",
            "predictions",
            where,
            "no usable prediction among the recent records of any topic",
        )
    if not any(each.told(Outcome) for each in reads):
        yield Finding(
            "warning",
            "outcomes",
            where,
            "no usable outcome among the recent records of any topic: without outcomes no label becomes"
            " final, and experiments hold",
        )


def _variants(reads: Sequence[Read], settings: Settings) -> Iterator[Finding]:
    seen: Counter[tuple[str, str]] = Counter()
    for each in reads:
        for _, event in each.told(Prediction):
            if isinstance(event, Prediction):
                seen[event.experiment, event.variant] += 1
    for experiment in settings.experiments:
        counts = {name: seen[experiment.name, name] for name in experiment.variants}
        whole = sum(counts.values())
        split = ", ".join(f"{name} {share(count, whole)}" for name, count in counts.items())
        if not whole:
            yield Finding("warning", "variants", experiment.name, "no recent prediction is of it")
        elif absent := [n for n, c in counts.items() if not c and experiment.variants[n]]:
            told = (
                f"no recent prediction of {', '.join(absent)}, which should have traffic: {split}"
            )
            yield Finding("warning", "variants", experiment.name, told)
        else:
            yield Finding("ok", "variants", experiment.name, f"recent predictions: {split}")


def _disorder(read: Read, settings: Settings) -> Iterator[Finding]:
    """How far the times that events give lie from their arrival."""
    behind = [
        record.arrival - epoch_ms(event.time)
        for record, event in [*read.told(Prediction), *read.told(Outcome)]
        if event.time is not None and record.arrival >= 0
    ]
    if not behind:
        if read.usable:
            told = "no event says when it was: its arrival is taken for its time"
            yield Finding("ok", "event_time", read.sample.topic, told)
        return
    ahead = sum(late < -AHEAD_MS for late in behind)
    p50, p99 = quantile(behind, 0.5), quantile(behind, 0.99)
    told = f"events arrive {span(p50)} (p50) and {span(p99)} (p99) after the time that they give"
    grace = min(int(experiment.labels.grace) for experiment in settings.experiments)
    level: Level = "ok"
    if p99 > LONG_AGO:
        level, told = "error", f"{told}: are their times seconds? Map them with `unit: s`"
    elif p99 > grace:
        level = "warning"
        told += f", more than the grace of {span(grace)}: outcomes near the horizon come too late;"
        told += " raise `labels.grace`, or send sooner"
    if ahead:
        level = "warning" if level == "ok" else level
        told += f". Ahead of their arrival by over {span(AHEAD_MS)}: {share(ahead, len(behind))};"
        told += " set the producers' clocks"
    yield Finding(level, "event_time", read.sample.topic, told)
