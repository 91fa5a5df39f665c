import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support.topics import Topics
from typer.testing import CliRunner

from abmonitor.cli import rekey
from abmonitor.operate.admin import KafkaAdmin
from stream.brokers import Brokers
from stream.producer import Producer, Record


Write = Callable[..., Path]

SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 1, new: 1}
    labels: {horizon: 1h}
sources:
  SCORING: {type: prediction, fields: {prediction_id: id, experiment: {constant: offers}}}
  ORDERS: {type: outcome, fields: {actual: {path: status, true_when: [paid]}}}
kafka: {dead_letters: LETTERS, group: GROUP}
"""


class Deployment:
    """Two mapped topics, settings for them, and the command."""

    def __init__(self, topics: Topics, write: Write) -> None:
        self.topics = topics
        self.scoring, self.orders = topics.create("scoring", 2), topics.create("orders", 3)
        self.letters = topics.create("letters")
        self.into = topics.name("into")
        text = SETTINGS.replace("SCORING", self.scoring).replace("ORDERS", self.orders)
        text = text.replace("LETTERS", self.letters).replace("GROUP", topics.name("group"))
        self.config = write(text)
        self.environ = {"ABMONITOR_KAFKA": topics.servers}

    def put(self, count: int) -> None:
        predictions = [b'{"id": %d, "variant": "old", "predicted": true}' % n for n in range(count)]
        outcomes = [b'{"prediction_id": %d, "status": "paid"}' % n for n in range(count)]

        async def put() -> None:
            producer = Producer(Brokers((self.topics.servers,)))
            await producer.send(self.scoring, [Record(0, None, v) for v in predictions])
            await producer.send(self.orders, [Record(2, None, v) for v in [*outcomes, b"junk"]])
            await producer.stop()

        asyncio.run(put())

    def run(self, *arguments: object) -> Any:
        app = typer.Typer()
        rekey.register(app)
        given = ["-c", str(self.config), *map(str, arguments)]
        return CliRunner().invoke(app, given, env=self.environ)

    def document(self, *arguments: object) -> dict[str, Any]:
        done = self.run("--into", self.into, "--until-end", "--json", *arguments)
        assert done.exit_code == 0, done.stderr
        return {**json.loads(done.stdout)}

    def written(self) -> int:
        """How many records the target has."""
        from kafka import KafkaConsumer, TopicPartition

        with KafkaConsumer(bootstrap_servers=self.topics.servers) as consumer:
            parts = [
                TopicPartition(self.into, n) for n in consumer.partitions_for_topic(self.into) or ()
            ]
            return sum(consumer.end_offsets(parts).values()) if parts else 0


@pytest.fixture
def deployment(kafka_topics: Topics, write: Write) -> Deployment:
    return Deployment(kafka_topics, write)


def test_the_topic_is_created_and_filled(deployment: Deployment) -> None:
    deployment.put(100)
    document = deployment.document("--partitions", 5)
    assert (document["copied"], document["dead_letters"]) == (200, 1)
    with KafkaAdmin(Brokers((deployment.topics.servers,))) as admin:
        made = admin.find([deployment.into])[deployment.into]
    assert made.partitions == 5
    assert made.configs["message.timestamp.type"] == "LogAppendTime"
    assert deployment.document()["copied"] == 0
    assert deployment.document("--from-beginning")["copied"] == 200


def test_a_source_is_no_target(deployment: Deployment) -> None:
    for name in (deployment.scoring, deployment.orders, deployment.letters):
        done = deployment.run("--into", name, "--until-end")
        assert done.exit_code == 2
        assert name in done.stderr


def test_partitions_that_differ_from_those_there_are_refused(deployment: Deployment) -> None:
    deployment.topics.create("into", 4)
    done = deployment.run("--into", deployment.into, "--until-end", "--partitions", 5)
    assert done.exit_code == 2
    assert "with 4 partitions" in done.stderr


def test_a_missing_source_or_dead_letter_topic_is_told(
    deployment: Deployment, write: Write
) -> None:
    text = deployment.config.read_text()
    for name in (deployment.letters, deployment.orders):
        deployment.config = write(text.replace(name, deployment.topics.name("nowhere")))
        done = deployment.run("--into", deployment.into, "--until-end")
        assert done.exit_code == 1
        assert deployment.topics.name("nowhere") in done.stderr


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_follows_until_it_is_told_to_end(deployment: Deployment, told: signal.Signals) -> None:
    deployment.put(50)
    command = [sys.executable, "-m", "abmonitor", "rekey", "-c", str(deployment.config)]
    process = subprocess.Popen(
        [*command, "--into", deployment.into, "--partitions", "2", "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, **deployment.environ},
    )
    try:
        for _ in range(600):
            if deployment.written() == 100:
                break
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(told)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert json.loads(out)["copied"] == 100
    assert deployment.document()["copied"] == 0
