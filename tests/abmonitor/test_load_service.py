"""A load that runs until it is told to end, beside a broker that may be away. Needs Kafka."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from support.monitors import ROOT
from support.servers import KafkaServer
from support.topics import Topics

from abmonitor.cli import loading
from alerts.actuators import signing
from alerts.actuators.cloudevent import document
from alerts.order import Order


Write = Callable[..., Path]

SECRET = "a secret of the tests"
WAIT_S = 60.0
SPEC = """\
experiments:
- name: offers
  prevalence: 0.3
  horizon: 1s
  predictions_per_unit: 3
  variants:
    old: {tpr: 0.9, fpr: 0.1, latency: {median_ms: 40}}
    new: {tpr: 0.9, fpr: 0.1, latency: {median_ms: 40}}
  change:
  - {at: 2s, variant: new, tpr: 0, error_rate: 0.9, latency: {median_ms: 4000}}
"""
SETTINGS = """\
experiments:
- name: offers
  control: old
  variants: {{old: 1, new: 1}}
  labels: {{horizon: 1s}}
sources: {{{topic}: {{}}}}
"""
pytestmark = pytest.mark.serial


class Process:
    """`abmonitor simulate --kafka`."""

    def __init__(self, servers: str, log: Path, *arguments: object) -> None:
        self._log = log
        environ = {"ABMONITOR_KAFKA": servers, "ABMONITOR_CONFIG": "", loading.SECRET: SECRET}
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "abmonitor", "simulate", "--kafka", *map(str, arguments)],
                stdout=said,
                stderr=said,
                env=os.environ | environ | {"PYTHONPATH": str(ROOT)},
            )

    def said(self) -> str:
        return self._log.read_text()

    def until(self, is_true: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (found := is_true()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}\n{self.said()}"
            time.sleep(0.05)
        return found

    def router(self) -> str:
        """The address of its router."""
        found = self.until(lambda: re.search(r"http://\S+(?=/rollback)", self.said()), "listens")
        return str(found[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(servers: str, *arguments: object) -> Process:
        log = tmp_path / f"load-{len(processes)}.log"
        processes.append(Process(servers, log, *arguments))
        return processes[-1]

    yield start
    for each in processes:
        each.process.kill()
        each.process.wait()


class Log:
    """Reads all that is in a topic, again and again."""

    def __init__(self, servers: str, topic: str) -> None:
        from kafka import KafkaConsumer, TopicPartition

        self.events: list[dict[str, Any]] = []
        self.arrivals: list[int] = []
        self._consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
        self._consumer.assign([TopicPartition(topic, 0)])

    def read(self) -> list[dict[str, Any]]:
        """What came since the last time."""
        before = len(self.events)
        for records in self._consumer.poll(timeout_ms=300).values():
            self.events += [json.loads(record.value) for record in records]
            self.arrivals += [record.timestamp for record in records]
        return self.events[before:]

    def variants(self) -> Counter[str]:
        """Of the predictions that came since the last time."""
        return Counter(event["variant"] for event in self.read() if "variant" in event)

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def topic(kafka_topics: Topics) -> str:
    return kafka_topics.create("all")


@pytest.fixture
def log(kafka_topics: Topics, topic: str) -> Iterator[Log]:
    found = Log(kafka_topics.servers, topic)
    yield found
    found.close()


def arguments(write: Write, topic: str) -> Sequence[object]:
    """An endless load to one topic, of a treatment that breaks after two seconds."""
    config = write(SETTINGS.format(topic=topic))
    return "-c", config, "--spec", write(SPEC, "spec.yaml"), "--for", "forever", "--rate", 100


def rollback(router: str, number: int) -> None:
    """Order a rollback as the webhook does."""
    order = Order(
        id=f"offers:new:{number}", experiment="offers", treatment="new", control="old", decided_at=0
    )
    body, now = document(order), int(time.time())
    headers = {
        "webhook-id": order.id,
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign(SECRET, order.id, now, body),
    }
    answer = requests.post(f"{router}/rollback", data=body, headers=headers, timeout=10)
    assert answer.status_code == 204


def test_an_endless_load_obeys_a_rollback_gives_traffic_back_and_ends_by_a_signal(
    started: Callable[..., Process], kafka_topics: Topics, topic: str, log: Log, write: Write
) -> None:
    given = arguments(write, topic)
    load = started(kafka_topics.servers, *given, "--router", "127.0.0.1:0", "--json")
    router = load.router()
    load.until(lambda: log.variants()["new"], "the treatment has traffic")
    load.until(lambda: any(e.get("latency_ms", 0) > 1_000 for e in log.read()), "it breaks")

    rollback(router, 1)
    load.until(lambda: set(log.variants()) == {"old"}, "the control alone has traffic")
    for _ in range(5):
        assert "new" not in log.variants()

    body = {"experiment": "offers", "treatment": "new"}
    bearer = {"Authorization": f"Bearer {SECRET}"}
    given_back = requests.post(f"{router}/rearm", json=body, headers=bearer, timeout=10)
    assert given_back.json() == {"offers": {"old": 0.5, "new": 0.5}}
    load.until(lambda: log.variants()["new"], "the treatment has traffic again")

    assert load.end() == 0, load.said()
    assert "gets no traffic from now on" in load.said()
    assert "stopped before its end" in load.said()
    while log.read():
        pass
    sent = int(re.search(r"([\d,]+) events sent", load.said())[1].replace(",", ""))  # type: ignore[index]
    assert sent == len(log.events)


def test_the_defect_hurts_the_treatment_alone_from_its_time_on(
    started: Callable[..., Process], kafka_topics: Topics, topic: str, log: Log, write: Write
) -> None:
    load = started(kafka_topics.servers, *arguments(write, topic))
    load.until(lambda: log.read() is None or len(log.events) > 1_000, "a thousand events")
    assert load.end(signal.SIGINT) == 0, load.said()
    predictions = [event for event in log.events if "variant" in event]
    begun = predictions[0]["time"]
    actual = {e["prediction_id"]: e["actual"] for e in log.events if "actual" in e}
    seen: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for event in predictions:
        seen.setdefault((event["variant"], event["time"] >= begun + 2_000), []).append(event)
    for (variant, late), events in seen.items():
        failed = sum(event.get("error", False) for event in events) / len(events)
        slow = sum(event["latency_ms"] > 500 for event in events) / len(events)
        found = [e for e in events if actual.get(e["prediction_id"]) and not e.get("error")]
        hits = sum(event["predicted"] for event in found)
        broken = variant == "new" and late
        assert (failed > 0.7, slow > 0.7, hits == 0) == (broken, broken, broken), (variant, late)
        assert all(event["unit_id"].startswith("u") for event in events)
    delays = {e["prediction_id"]: e["time"] for e in log.events if "actual" in e}
    waits = [
        delays[e["prediction_id"]] - e["time"] for e in predictions if e["prediction_id"] in delays
    ]
    assert min(waits) > 0
    assert all(
        abs(arrival - event["time"]) < 30_000
        for arrival, event in zip(log.arrivals, log.events, strict=True)
    )


def test_a_load_waits_for_a_broker_that_is_away_at_the_start_and_goes_on_after_a_restart(
    started: Callable[..., Process], own_kafka: KafkaServer, write: Write
) -> None:
    topics = Topics(own_kafka.servers)
    topic = topics.create("all")
    own_kafka.stop()
    load = started(own_kafka.servers, *arguments(write, topic))
    load.until(lambda: "trying again for 60 s" in load.said(), "it tells that nobody answers")
    own_kafka.start()
    before = come(load, own_kafka.servers, topic, 1)
    own_kafka.stop()
    time.sleep(1)
    own_kafka.start()
    come(load, own_kafka.servers, topic, before + 300)
    assert load.end() == 0, load.said()


def come(load: Process, servers: str, topic: str, least: int) -> int:
    """Wait until a topic holds so many events, and say how many."""
    log = Log(servers, topic)
    load.until(lambda: log.read() is None or len(log.events) >= least, f"{least} events")
    log.close()
    return len(log.events)


def test_a_signal_ends_it_while_it_waits_for_a_broker(started: Callable[..., Process]) -> None:
    load = started("127.0.0.1:1", "--for", "forever")
    load.until(lambda: "trying again" in load.said(), "it tells that nobody answers")
    assert load.end() == 0
