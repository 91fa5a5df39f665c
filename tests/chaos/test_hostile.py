"""Records that no honest service sends."""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from support.chaos import MakeScene
from support.known_events import EXPERIMENTS, FAST, SLOW
from support.servers import RedisServer
from support.truth import Event
from support.verdict import Logged
from support.workers import wait_until


HUGE = 900_000
"""Bytes; a broker takes a megabyte unless it is told otherwise."""


SOON = 500
"""Records within which an id may come again."""

LONGEST_MS = 1e6
"""Latency is capped here."""


class Sent(NamedTuple):
    """A record to send."""

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


NASTY_JSON = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "1" * 5_000, "-0", "0.0",
    "9007199254740993", "18446744073709551616", "-9223372036854775809", "null", "true", "[]", "{}",
    '""', '" "', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\U0001f4a5"', '"2024-02-30T00:00:00Z"',
    '"9999-12-31T23:59:59Z"', '"0001-01-01T00:00:00Z"', '"1969-12-31T23:59:59Z"', '"24:00"',
    '"2024-01-01T00:00:00"', '"' + "x" * 129 + '"', '"' + "\u00e9" * 128 + '"', "[" * 50 + "]" * 50,
)  # fmt: skip
WEIRD_HEADERS: tuple[tuple[tuple[str, bytes], ...], ...] = (
    (("", b""),),
    (("\u00fc" * 300, b"\xff\xfe"),),
    tuple((f"h{number}", b"x") for number in range(50)),
    (("abmonitor-reason", b"mine"), ("abmonitor-offset", b"-1"), ("abmonitor-topic", b"\xff")),
    (("ce_specversion", b"1.0"), ("ce_type", b"prediction"), ("ce_time", b"yesterday")),
    (("content-type", b"application/cloudevents+json"),),
    (("content-type", b"\xff\x00"),),
    (("same", b"1"), ("same", b"2")),
)


class Hostile:
    """Makes records; few of them are usable, and what those say is known to the decoder only."""

    def __init__(self, seed: int) -> None:
        self._random, self._count = random.Random(seed), 0
        self._makers = (
            *(self._edited,) * 6,
            *(self._mutated,) * 6,
            self._valid,
            self._doubled,
            self._nested,
            self._noise,
            self._spliced,
        )

    def records(self, count: int) -> Iterator[Sent]:
        """`count` records."""
        for number in range(count):
            if number % (count // 15) == 7:
                yield self._huge()
                continue
            value = self._random.choice(self._makers)()
            headers = self._random.choice(WEIRD_HEADERS) if self._random.random() < 0.1 else ()
            yield Sent(None if self._random.random() < 0.02 else value, headers)

    def _event(self) -> Event:
        self._count += 1
        name = f"h{self._count}"
        if self._random.random() < 0.4:
            told = f"h{self._random.randint(1, self._count)}"
            return {"type": "outcome", "prediction_id": told, "actual": self._count % 3 == 0}
        experiment = self._random.choice(EXPERIMENTS)
        event: Event = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": experiment.name,
            "variant": self._random.choice(list(experiment.variants)),
            "predicted": self._count % 2 == 0,
            "latency_ms": self._count % 400 / 8,
            "score": self._count % 17 / 17,
        }
        return event | ({"weight": 2} if experiment is SLOW else {})

    def _valid(self) -> bytes:
        return json.dumps(self._event()).encode()

    def _edited(self) -> bytes:
        """One field says something else."""
        event = self._event()
        more = ("time", "error", "acted", "unit_id", "cost", "value", "segment", "anything")
        name = self._random.choice([*event, *more])
        marked = json.dumps(event | {name: "@@"})
        return marked.replace('"@@"', self._random.choice(NASTY_JSON)).encode(
            "utf-8", "surrogatepass"
        )

    def _mutated(self) -> bytes:
        """Some bytes are others."""
        value = bytearray(self._valid())
        for _ in range(self._random.choice((1, 1, 1, 2, 10))):
            at = self._random.randrange(len(value))
            kind = self._random.randrange(4)
            if kind == 0:
                value[at] = self._random.randrange(256)
            elif kind == 1:
                del value[at:]
            elif kind == 2:
                value.insert(at, self._random.choice(b'{}[]",:\\\x00\xff 0-e.'))
            else:
                value[at] ^= 1 << self._random.randrange(8)
            if not value:
                break
        return bytes(value)

    def _doubled(self) -> bytes:
        """Every key is there twice."""
        first, second = self._valid(), self._valid()
        return first[:-1] + b"," + second[1:]

    def _nested(self) -> bytes:
        deep = self._random.choice((10, 200, 5_000, 20_000))
        opening, closing = self._random.choice((("[", "]"), ('{"a":', "}")))
        bomb = opening * deep + ("1" + closing * deep if self._random.random() < 0.5 else "")
        if self._random.random() < 0.5:
            return bomb.encode()
        return self._valid()[:-1] + b',"anything":' + bomb.encode() + b"}"

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 2, 3, 30, 3_000)))

    def _spliced(self) -> bytes:
        first, second = self._valid(), self._valid()
        return first[: self._random.randrange(len(first))] + second[self._random.randrange(20) :]

    def _huge(self) -> Sent:
        long = "x" * HUGE
        event = self._event()
        name = self._random.choice(("prediction_id", "segment", "experiment", "anything"))
        if self._random.random() < 0.3:
            return Sent(self._valid(), (("huge", long.encode()),))
        return Sent(json.dumps(event | {name: long}).encode())


def _decoded(one: Logged) -> Event | str:
    """What the decoder makes of a record: that it does so rightly is shown elsewhere."""
    from stream.screen import SpecTable, screen  # see `support.topics`
    from stream.sources import Decoder

    (event,) = Decoder().decode(one.topic, [one.value], [dict(one.headers)])
    rejected = screen([event], [one.timestamp], SpecTable(EXPERIMENTS)).rejected
    if rejected:
        return rejected[0][1].reason
    fields: dict[str, Any] = msgspec.to_builtins(event)
    if fields.get("latency_ms") is not None:
        fields["latency_ms"] = min(fields["latency_ms"], LONGEST_MS)  # any more makes no difference
    return fields


def _said(sent: Sent) -> Event:
    """What a record says, empty where it is not usable."""
    event = _decoded(Logged("", 0, 0, 0, None, sent.value, sent.headers))
    return event if isinstance(event, dict) else {}


def _twice_at_once(records: Iterable[Sent]) -> Iterator[tuple[Sent, str | None]]:
    """The records with their kinds, without predictions whose id comes again much later.

    Whether an id is still remembered then depends on how far outcomes were told in all shards: ids are to be
    unique, and what comes twice, comes soon.
    """
    seen: dict[str, int] = {}
    for number, sent in enumerate(records):
        event = _said(sent)
        kind = event.get("type")
        if kind == "prediction":
            first = seen.setdefault(event["prediction_id"], number)
            if number - first > SOON:
                continue
        yield sent, kind


def test_hostile_records_end_as_dead_letters_and_the_others_are_counted(
    make_scene: MakeScene, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, clean=True, per_second=50, rejected_limit=0.05)
    (worker,) = scene.crew.hire()
    scene.stream.start()
    rnd = random.Random(3)
    topics = scene.predictions, scene.outcomes
    with scene.send() as send:
        for sent, kind in _twice_at_once(Hostile(11).records(200_000 if is_long else 20_000)):
            # What is usable has its topic: of two predictions in two topics neither is the first.
            topic = rnd.choice(topics) if kind is None else topics[kind == "outcome"]
            send(topic, rnd.randrange(scene.options.shards), b"key", sent.value, sent.headers)
    scene.stream.finish()

    def alarmed() -> bool:
        return "of the latest events cannot be used" in (worker.problem() or "")

    wait_until(alarmed, "readiness tells of the rejected events", 60, scene.crew.tails)
    verdict = scene.settle(25, read=_decoded)
    assert len(verdict.unusable) > 5_000
    assert sum(facts.predictions for facts in verdict.counted(FAST.name)) > 1_000
