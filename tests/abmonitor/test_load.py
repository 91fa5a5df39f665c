import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from support.topics import Topics
from typer.testing import CliRunner

from abmonitor.cli import loading, simulate
from abmonitor.operate.load import Load, Pace, Route, StuckError
from abmonitor.settings import load
from abmonitor.simulation import EXAMPLE
from stream.arms import Run
from stream.brokers import Brokers
from stream.producer import MissingTopicError, Producer
from stream.rekey import partition_of
from stream.simulate import CHUNK, Simulator
from stream.split import Split


Write = Callable[..., Path]

SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 1, new: 1}
    labels: {horizon: 10s}
"""


def settings_with(write: Write, sources: str) -> Path:
    return write(f"{SETTINGS}sources: {sources}\n")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("{}", Route("predictions", "outcomes")),
        ("{a: {type: prediction}, b: {type: outcome}}", Route("a", "b")),
        ("{a: {}}", Route("a", "a")),
        ("{p: {}, o: {}}", Route("p", "o")),
        ("{m: {type: prediction, fields: {variant: v}}, a: {}}", Route("a", "a")),
        ("{a: {type: outcome}, b: {}}", Route("b", "a")),
    ],
)
def test_events_go_to_topics_that_take_them_plain(
    write: Write, sources: str, expected: Route
) -> None:
    assert Route.of(load(settings_with(write, sources))) == expected


@pytest.mark.parametrize(
    "sources",
    [
        "{a: {type: prediction, fields: {variant: v}}, b: {type: outcome}}",
        "{a: {type: prediction}}",
    ],
)
def test_topics_that_take_no_plain_events_are_refused(write: Write, sources: str) -> None:
    with pytest.raises(ValueError, match="as plain events"):
        Route.of(load(settings_with(write, sources)))


def test_less_is_made_at_a_time_the_slower_it_goes() -> None:
    assert Pace(0, None).chunk(5.0) == CHUNK
    assert Pace(0, 1.0).chunk(5.0) == 1
    assert Pace(0, 1.0).chunk(1_000.0) == 50
    assert Pace(0, 1_000.0).chunk(1e9) == CHUNK


class Kept(Producer):
    """Remembers when it was told to write what."""

    def __init__(self) -> None:
        super().__init__(Brokers(("nowhere:1",)))
        self.sent: list[tuple[float, str, list[dict[str, Any]]]] = []

    async def partitions(self, topic: str) -> int:
        return len(topic) + 2

    async def send(self, topic: str, records: Sequence[Any]) -> list[int]:
        events = [json.loads(record.value) for record in records]
        self.sent.append((time.monotonic(), topic, events))
        return []


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_no_event_is_sent_before_its_time(speed: float) -> None:
    run = Run(int(40 * speed), seed=3, start=5_000_000, rate=80.0)
    pace, kept = Pace(run.start, speed), Kept()
    began = time.monotonic()
    simulator = Simulator(EXAMPLE, run, chunk=pace.chunk(run.rate))
    blocks = (block for n, block in enumerate(simulator.blocks()) if n < run.predictions)
    sender = Load(kept, Route("p", "o"), pace)
    predictions = [b for b in blocks if b'"type":"prediction"' in b]
    await sender.run(predictions)
    assert sender.sent == sum(len(events) for *_, events in kept.sent) > run.predictions // 2
    for at, topic, events in kept.sent:
        for event in events:
            assert event["type"] == ("prediction" if topic == "p" else "outcome")
            assert (at - began) * 1000 * speed >= event["time"] - run.start - 1
    times = [[event["time"] for event in events] for _, topic, events in kept.sent if topic == "p"]
    flat = [time for each in times for time in each]
    assert flat == sorted(flat)


async def test_without_a_pace_events_keep_their_order() -> None:
    kept = Kept()
    run = Run(40_000, rate=1_000.0)
    simulator = Simulator(EXAMPLE, run)
    await Load(kept, Route("all", "all"), Pace(run.start, None)).run(simulator.blocks())
    times = [event["time"] for *_, events in kept.sent for event in events]
    assert len(times) == simulator.truth()["events"]["written"]
    assert all(a <= b for a, b in pairwise(times))


def abmonitor(*arguments: object, servers: str = "") -> Any:
    app = typer.Typer()
    simulate.register(app)
    environ = {"ABMONITOR_KAFKA": servers, "ABMONITOR_CONFIG": ""}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environ)


def read(servers: str, topic: str) -> list[Any]:
    """All records of a topic."""
    from kafka import KafkaConsumer, TopicPartition

    with KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        parts = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        found: list[Any] = []
        while any(consumer.position(part) < end for part, end in ends.items()):
            found += [r for part in consumer.poll(timeout_ms=500).values() for r in part]
    return found


def test_the_command_sends_what_the_truth_says_to_the_topics_of_the_settings(
    kafka_topics: Topics, write: Write
) -> None:
    predictions, outcomes = kafka_topics.create("p", 3), kafka_topics.create("o", 3)
    sources = f"{{{predictions}: {{type: prediction}}, {outcomes}: {{type: outcome}}}}"
    config = settings_with(write, sources)
    before = int(time.time() * 1000)
    done = abmonitor(
        "--kafka", "-c", config, "--speed", "max", "--predictions", 20_000, "--json",
        servers=kafka_topics.servers,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    truth = json.loads(done.stdout)["events"]
    assert f"{truth['written']:,} events sent" in done.stderr
    found = {topic: read(kafka_topics.servers, topic) for topic in (predictions, outcomes)}
    assert sum(map(len, found.values())) == truth["written"]
    assert len(found[predictions]) == truth["predictions"]
    for topic, kind in ((predictions, "prediction"), (outcomes, "outcome")):
        for record in found[topic]:
            event = json.loads(record.value)
            assert event["type"] == kind
            assert record.key == event["prediction_id"].encode()
            assert record.partition == partition_of(record.key, 3)
    first = min(json.loads(record.value)["time"] for record in found[predictions])
    assert before <= first <= before + 60_000


def test_the_command_keeps_the_pace_of_the_clock(kafka_topics: Topics, write: Write) -> None:
    topic = kafka_topics.create("all", 2)
    config = settings_with(write, f"{{{topic}: {{}}}}")
    spec = write(
        "experiments:\n- name: offers\n  prevalence: 0.5\n  horizon: 1s\n  variants:\n"
        "    old: {tpr: 1, fpr: 0, missing: 1}\n    new: {tpr: 1, fpr: 0, missing: 1}\n",
        "spec.yaml",
    )
    done = abmonitor(
        "--kafka", "-c", config, "--spec", spec, "--predictions", 300, "--rate", 200, "--json",
        servers=kafka_topics.servers,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    records = read(kafka_topics.servers, topic)
    assert len(records) == 300
    arrivals = [record.timestamp for record in records]
    assert max(arrivals) - min(arrivals) >= 1_000
    assert all(json.loads(record.value)["time"] <= record.timestamp + 50 for record in records)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "expected one of --file FILE and --kafka"),
        (("--kafka", "--file", "x"), 2, "expected one of --file FILE and --kafka"),
        (("--file", "x", "--speed", "2"), 2, "--speed"),
        (("--kafka", "--speed", "fast"), 2, "--speed: expected a number above 0, or max"),
        (("--kafka", "--speed", "0"), 2, "--speed: expected a number above 0, or max"),
        (("--kafka", "--speed", "nan"), 2, "--speed: expected a number above 0, or max"),
        (("--kafka",), 2, "ABMONITOR_KAFKA"),
        (("--file", "x", "--router", "127.0.0.1:1"), 2, "--router is only for --kafka"),
        (("--file", "x", "--for", "forever"), 2, "--for: expected a duration of at most 10 years"),
        (("--kafka", "--for", "0s"), 2, "such as 8h, or forever, got '0s'"),
        (("--kafka", "--for", "11000d"), 2, "at most 10 years"),
        (("--kafka", "--for", "1h", "--predictions", "5"), 2, "one of --predictions and --for"),
        (("--kafka", "--router", "127.0.0.1"), 2, "--router: expected HOST:PORT such as"),
        (("--kafka", "--router", "x:y"), 2, "--router: expected HOST:PORT such as"),
        (("--kafka", "--router", "ann@x:80"), 2, "--router: expected HOST:PORT such as"),
        (("--kafka", "--router", "127.0.0.1:0"), 2, "orders have to be signed: give what"),
        (("--kafka", "--router", "127.0.0.1:0"), 2, "ABMONITOR_ROUTER_SECRET is not set or empty"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], status: int, says: str) -> None:
    done = abmonitor(*arguments)
    assert done.exit_code == status
    assert says in done.stderr


def test_what_happens_at_a_part_of_a_load_without_an_end_is_wrong_usage(write: Write) -> None:
    spec = write(
        "experiments:\n- name: offers\n  prevalence: 0.5\n  horizon: 1s\n  labels_stop: 0.5\n"
        "  variants: {old: {tpr: 1, fpr: 0}, new: {tpr: 1, fpr: 0, silent_from: 0}}\n",
        "spec.yaml",
    )
    done = abmonitor("--kafka", "--spec", spec, "--for", "forever", servers="127.0.0.1:1")
    assert done.exit_code == 2
    expected = "--for forever: offers: the end of the labels at 0.5 of the whole never comes;"
    assert expected in done.stderr


def test_a_router_whose_secret_or_address_cannot_be_had_ends_a_load(write: Write) -> None:
    wrong = write("whsec_%\n", "wrong")
    given = ("--kafka", "--router", "127.0.0.1:0", "--router-secret-file")
    done = abmonitor(*given, wrong, servers="127.0.0.1:1")
    assert (done.exit_code, "expected base64 after" in done.stderr) == (2, True)
    done = abmonitor(*given, wrong.parent / "none", servers="127.0.0.1:1")
    assert (done.exit_code, "none: No such file or directory" in done.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        good = write("a secret", "good")
        done = abmonitor(
            "--kafka", "--router", where, "--router-secret-file", good, servers="127.0.0.1:1"
        )
    assert done.exit_code == 1
    assert f"cannot listen at {where}" in done.stderr


async def test_a_kafka_that_takes_nothing_for_too_long_ends_a_load() -> None:
    class Stuck(Kept):
        async def send(self, topic: str, records: Sequence[Any]) -> list[int]:
            await asyncio.Event().wait()
            return await super().send(topic, records)

    run = Run(10)
    load = Load(Stuck(), Route("p", "o"), Pace(run.start, None), give_up_s=0.05)
    with pytest.raises(StuckError, match=r"took nothing for 0\.05 s"):
        await load.run(Simulator(EXAMPLE, run).blocks())


async def test_what_is_not_due_is_not_sent_after_a_stop() -> None:
    run, stop, kept = Run(100, rate=0.001), asyncio.Event(), Kept()
    load = Load(kept, Route("p", "o"), Pace(run.start, 1.0), stop)
    asyncio.get_running_loop().call_later(0.05, stop.set)
    await asyncio.wait_for(load.run(Simulator(EXAMPLE, run, chunk=1).blocks()), 10)
    assert load.sent == 0
    assert kept.sent == []


async def test_a_signal_ends_a_load_whose_kafka_went_away_before_a_container_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert loading.PATIENCE_S + loading.CLOSING_S < 10
    sending_began = asyncio.Event()

    class Gone(Kept):
        async def start(self) -> None:
            """It is there at first."""

        async def send(self, topic: str, records: Sequence[Any]) -> list[int]:
            sending_began.set()
            await asyncio.Event().wait()
            return await super().send(topic, records)

        async def stop(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(loading, "Producer", lambda _: Gone())
    monkeypatch.setattr(loading, "PATIENCE_S", 0.05)
    monkeypatch.setattr(loading, "CLOSING_S", 0.05)
    run = Run(10)
    pace, split = Pace(run.start, None), Split(EXAMPLE)
    sending = loading._Sending(EXAMPLE, run, split, pace, from_now=False)
    ending = asyncio.ensure_future(sending.run(Brokers(("nowhere:1",)), Route("p", "o"), None))
    await sending_began.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(ending, 10)
    assert sending.stop.is_set()
    assert sending.sent == 0


def test_settings_whose_topics_take_no_plain_events_are_wrong_usage(write: Write) -> None:
    config = settings_with(write, "{a: {type: prediction}}")
    done = abmonitor("--kafka", "-c", config, servers="127.0.0.1:1")
    assert done.exit_code == 2
    assert "as plain events" in done.stderr


def test_a_topic_that_does_not_exist_is_told(kafka_topics: Topics, write: Write) -> None:
    config = settings_with(write, f"{{{kafka_topics.name('nowhere')}: {{}}}}")
    done = abmonitor("--kafka", "-c", config, servers=kafka_topics.servers)
    assert done.exit_code == 1
    assert "abmonitor topics create" in done.stderr


def test_a_kafka_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "START_S", 0.0)
    done = abmonitor("--kafka", servers="127.0.0.1:1")
    assert done.exit_code == 1
    assert "127.0.0.1" in done.stderr


async def test_a_missing_topic_ends_a_load(kafka_topics: Topics) -> None:
    producer = Producer(Brokers((kafka_topics.servers,)))
    name = kafka_topics.name("nowhere")
    with pytest.raises(MissingTopicError, match="nowhere"):
        await Load(producer, Route(name, name), Pace(0, None)).run([])
    await producer.stop()
