"""Samples of the records that somebody has: from files or Kafka topics, as JSON. Does I/O (files, Kafka)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from abmonitor.operate.sample import RECORDS, KafkaUnavailableError, sampled
from stream.batch import Headers
from stream.brokers import Brokers
from stream.cloudevents import Content, opened
from stream.lines import EventFileError, chunks_of


FILE_RECORDS = 20_000
_SHOWN = 60
_decode = msgspec.json.Decoder().decode


class SampleError(Exception):
    """A sample from which nothing can be learnt; says what was expected."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Records, and what they are made of."""

    name: str
    """What a person calls it: a file, or kafka:TOPIC."""
    topic: str
    """Its name under `sources`."""
    values: tuple[bytes, ...]
    headers: tuple[Headers, ...]
    """The records' own headers."""
    attributes: tuple[Headers, ...]
    """These, and the attributes of CloudEvents."""
    rows: tuple[dict[str, Any], ...]
    """What each value says; of a CloudEvent its data."""
    skipped: int
    """Records that are no JSON objects."""

    @property
    def in_kafka(self) -> bool:
        """Whether it is a topic, and not a file."""
        return self.name.startswith("kafka:")


def of_file(path: Path) -> Sample:
    """The first records of a file of JSON lines, gzipped or not. Raises SampleError."""
    try:
        lines = (line for _, chunk in chunks_of(path) for line in chunk)
        values = list(islice(lines, FILE_RECORDS))
    except EventFileError as error:
        raise SampleError(str(error)) from error
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", path.name.split(".")[0])[:249] or "events"
    return _sample(str(path), stem, ((value, {}) for value in values))


def of_topic(topic: str, brokers: Brokers) -> Sample:
    """The most recent records of a topic. Raises SampleError."""
    try:
        found = sampled(brokers, {topic: RECORDS})[topic]
    except KafkaUnavailableError as error:
        raise SampleError(str(error)) from error
    if not found.partitions:
        raise SampleError(f"kafka:{topic}: there is no such topic")
    records = sorted(found.records, key=lambda record: record.arrival)
    told = ((each.value, each.headers) for each in records if each.value is not None)
    return _sample(f"kafka:{topic}", topic, told)


def _sample(name: str, topic: str, records: Iterable[tuple[bytes, Headers]]) -> Sample:
    kept: list[tuple[bytes, Headers, Headers, dict[str, Any]]] = []
    wrong: list[bytes] = []
    for value, headers in records:
        told, row = _row(value, headers)
        if row is None:
            wrong.append(value)
        else:
            kept.append((value, headers, told, row))
    if not kept and not wrong:
        raise SampleError(f"{name}: there are no records in it")
    if len(wrong) > len(kept):
        raise SampleError(f"{name}: {_explained(wrong)}; expected JSON lines: one object a line")
    values, heads, attributes, rows = zip(*kept, strict=True)
    return Sample(name, topic, values, heads, attributes, rows, len(wrong))


def _row(value: bytes, headers: Headers) -> tuple[Headers, dict[str, Any] | None]:
    """What a record says, None where that is no JSON object."""
    try:
        content = opened(value, headers)
        if isinstance(content, Content):
            value, headers = content.data, content.headers
        row = _decode(value)
    except (ValueError, RecursionError):
        return headers, None
    return headers, row if isinstance(row, dict) else None


def _explained(lines: list[bytes]) -> str:
    """What lines are that are no JSON objects, as far as that shows."""
    first = lines[0].lstrip()
    try:
        text = first.decode()
    except UnicodeDecodeError:
        return "it is not text"
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text):
        return "it is not text"
    if text.startswith("["):
        return "it is a JSON array (jq -c '.[]' makes lines of it)"
    if text in {"{", "}"} or text.startswith('"'):
        return "its JSON goes over several lines (jq -c . makes one of each object)"
    if any(text.count(mark) >= 1 and not text.startswith("{") for mark in ",;\t"):
        return "it looks like CSV (mlr --icsv --ojsonl cat makes JSON lines of it)"
    return f"its lines are no JSON objects, such as {text[:_SHOWN]!r}"
