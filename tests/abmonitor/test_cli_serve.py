"""`abmonitor worker` and `abmonitor monitor` as people run them: their ends, and all of it together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.servers import RedisCluster, RedisServer
from support.servers.base import HOST, free_ports
from support.topics import Topics
from typer.testing import CliRunner, Result

from abmonitor.cli.main import app
from abmonitor.settings import load
from abmonitor.worker import Worker
from stream.brokers import Brokers
from stream.dead_letters import KafkaDeadLetters
from stream.fetch import LogUnavailableError
from stream.fleet import PartitionsChangedError
from stream.store import Store


WAIT_S = 40.0
END_S = 15.0
"""Ending takes a few seconds; on a busy machine some more."""

EXPERIMENT = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {observed: all, horizon: 3s, grace: 2s, cohort: 10s}
    profitability: {unit_revenue: 60, unit_cost: 20}
worker: {max_skew: 5s, clock_skew: 1s, session_timeout: 6s}
"""
NOWHERE = "127.0.0.1:1"
REDIS_NOWHERE = "redis://127.0.0.1:1/0"

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("ABMONITOR_CONFIG", "ABMONITOR_KAFKA", "ABMONITOR_REDIS"):
        monkeypatch.delenv(name, raising=False)

    def given(*arguments: object, **environ: str) -> Result:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return given


# --- wrong usage: status 2 ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_without_settings_it_says_how_to_give_them(run: Run, command: str) -> None:
    result = run(command)
    assert result.exit_code == 2
    assert result.stderr == "no settings given: pass -c FILE, or set ABMONITOR_CONFIG\n"


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_settings_that_are_not_there_are_named(run: Run, command: str, tmp_path: Path) -> None:
    result = run(command, "-c", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_mistakes_in_the_settings_are_told_with_their_place(
    run: Run, command: str, config: Path
) -> None:
    config.write_text(EXPERIMENT.replace("max_skew: 5s", "max_skew: 5m"))
    result = run(command, "-c", config)
    assert result.exit_code == 2
    assert "settings.yaml:7:" in result.stderr
    assert "at most the shortest horizon + grace (5s), got 5m" in result.stderr


def test_a_worker_without_the_address_of_kafka_names_the_variable(run: Run, config: Path) -> None:
    result = run("worker", "-c", config, ABMONITOR_REDIS=REDIS_NOWHERE)
    assert result.exit_code == 2
    assert "the environment variable ABMONITOR_KAFKA is not set" in result.stderr


def test_an_address_of_kafka_that_is_none_is_not_repeated(run: Run, config: Path) -> None:
    result = run("worker", "-c", config, ABMONITOR_KAFKA="hunter2", ABMONITOR_REDIS=REDIS_NOWHERE)
    assert result.exit_code == 2
    assert "ABMONITOR_KAFKA: expected host:port" in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_without_the_address_of_redis_it_names_the_variable(
    run: Run, command: str, config: Path
) -> None:
    result = run(command, "-c", config, ABMONITOR_KAFKA=NOWHERE)
    assert result.exit_code == 2
    assert "redis: the environment variable ABMONITOR_REDIS is not set" in result.stderr


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_an_address_of_redis_that_is_none_is_not_repeated(
    run: Run, command: str, config: Path
) -> None:
    result = run(command, "-c", config, ABMONITOR_KAFKA=NOWHERE, ABMONITOR_REDIS="http://hunter2")
    assert result.exit_code == 2
    assert result.stderr.startswith("redis: ")
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "on_breach: the environment variable ROLLBACK_URL is not set"),
        ({"ROLLBACK_URL": "hunter2"}, "on_breach: webhook: url: expected an http://"),
    ],
)
def test_a_monitor_that_could_not_act_does_not_start(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str], said: str
) -> None:
    monkeypatch.delenv("ROLLBACK_URL", raising=False)
    breach = "    on_breach: {action: webhook, url: {env: ROLLBACK_URL}}\nworker:"
    config.write_text(EXPERIMENT.replace("worker:", breach))
    result = run("monitor", "-c", config, ABMONITOR_REDIS=REDIS_NOWHERE, **environ)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize("command", ["worker", "monitor"])
@pytest.mark.parametrize("option", [("--port", "65536"), ("--port", "-1"), ("--log-level", "loud")])
def test_options_out_of_range_are_refused(
    run: Run, command: str, option: tuple[str, str], config: Path
) -> None:
    assert run(command, "-c", config, *option).exit_code == 2


# --- processes ------------------------------------------------------------------------------------


class Service:
    """A worker or a monitor in a process of its own."""

    def __init__(self, command: str, config: Path, kafka: str, redis: str, port: int) -> None:
        self.port = port
        self._log = config.parent / f"{command}-{port}.log"
        environ = {**os.environ, "ABMONITOR_KAFKA": kafka, "ABMONITOR_REDIS": redis}
        options = ["-c", str(config), "--host", HOST, "--port", str(port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "abmonitor", command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
            )

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float = WAIT_S) -> int:
        """The status that it ends with by itself."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end within {seconds} s\n{self.said}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; gives the status."""
        self._process.send_signal(number)
        return self.wait(END_S)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an answer; 0 where there is none."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with closing(error):
                return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for `condition`; fails after a while, or when the process has ended."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"waited for {what}; {self.get('/readyz')}\n{self.said}")
            time.sleep(0.1)

    def until_ready(self) -> None:
        """Wait until it says that it is."""
        self.until(lambda: self.get("/readyz")[0] == 200, "readiness")


@contextmanager
def service(
    command: str, config: Path, *, kafka: str = NOWHERE, redis: str = REDIS_NOWHERE, port: int = 0
) -> Iterator[Service]:
    """A running service; it is killed at the end."""
    made = Service(command, config, kafka, redis, port or free_ports(1)[0])
    try:
        yield made
    finally:
        made.kill()


def settings_on(topics: Topics, config: Path, *, letters: str = "letters") -> Path:
    """The settings for topics with names that nobody else uses."""
    names = [topics.name("predictions"), topics.name("outcomes")]
    config.write_text(
        EXPERIMENT
        + f"deployment: {topics.name('d')}\n"
        + f"kafka: {{group: {topics.name('group')}, dead_letters: {topics.name(letters)},"
        + f" control: {topics.name('control')}}}\n"
        + "sources:\n"
        + "".join(f"  {name}: {{}}\n" for name in names)
    )
    return config


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_a_port_that_is_taken_is_told(command: str, config: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with service(command, config, port=port) as found:
            assert found.wait() == 1
    (line,) = found.said.splitlines()
    assert line.startswith(f"{command}: cannot listen at {HOST}:{port}: ")
    assert line.endswith("choose another one with --port")


@pytest.mark.parametrize("missing", ["predictions", "letters"])
def test_a_topic_that_does_not_exist_is_told_with_what_to_do(
    kafka_topics: Topics, config: Path, missing: str
) -> None:
    for name in {"predictions", "outcomes", "letters"} - {missing}:
        kafka_topics.create(name)
    given = settings_on(kafka_topics, config)
    with service("worker", given, kafka=kafka_topics.servers) as found:
        assert found.wait() == 1
    assert f"worker: topic '{kafka_topics.name(missing)}' does not exist" in found.said
    assert "abmonitor topics create" in found.said
    assert "Traceback" not in found.said
    assert "Unclosed" not in found.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_kafka_says_so_and_can_be_ended(config: Path, number: int) -> None:
    with service("worker", config) as found:
        found.until(lambda: found.get("/healthz")[0] == 200, "the server")
        status, text = found.get("/readyz")
        assert (status, json.loads(text)["reason"]) == (503, "waiting for Kafka")
        assert found.stop(number) == 0
    assert "Traceback" not in found.said
    assert "Unclosed" not in found.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_monitor_without_redis_says_so_and_can_be_ended(config: Path, number: int) -> None:
    with service("monitor", config) as found:
        found.until(lambda: found.get("/healthz")[0] == 200, "the server")
        found.until(lambda: "Redis does not answer" in found.get("/readyz")[1], "the reason")
        assert found.get("/readyz")[0] == 503
        assert found.get("/api/v1/experiments") == (200, '{"as_of":null,"experiments":[]}')
        assert found.stop(number) == 0
    assert "Traceback" not in found.said


@pytest.mark.parametrize("command", ["worker", "monitor"])
def test_a_redis_that_hangs_keeps_nothing_from_ending(
    kafka_topics: Topics, own_redis: RedisServer, config: Path, command: str
) -> None:
    for name in ("predictions", "outcomes", "letters"):
        kafka_topics.create(name)
    given = settings_on(kafka_topics, config)
    with service(command, given, kafka=kafka_topics.servers, redis=own_redis.url) as found:
        found.until_ready()
        own_redis.suspend()
        time.sleep(3)  # whatever asks it, waits by now
        try:
            assert found.stop() == 0
        finally:
            own_redis.resume()
    assert "Traceback" not in found.said


def test_topics_of_different_sizes_are_told_and_end_the_worker(
    kafka_topics: Topics, redis_url: str, config: Path
) -> None:
    for name, partitions in (("predictions", 2), ("outcomes", 3), ("letters", 1)):
        kafka_topics.create(name, partitions=partitions)
    given = settings_on(kafka_topics, config)
    with service("worker", given, kafka=kafka_topics.servers, redis=redis_url) as found:
        assert found.wait() == 1
    assert "worker: all topics must have the same number of partitions" in found.said
    assert f"{kafka_topics.name('outcomes')} has 3" in found.said
    assert "Traceback" not in found.said


def test_a_worker_without_redis_says_so_and_can_be_ended(
    kafka_topics: Topics, config: Path
) -> None:
    for name in ("predictions", "outcomes", "letters"):
        kafka_topics.create(name)
    given = settings_on(kafka_topics, config)
    with service("worker", given, kafka=kafka_topics.servers) as found:
        found.until(
            lambda: "partition 0: Redis does not answer" in found.get("/readyz")[1], "the reason"
        )
        assert found.get("/readyz")[0] == 503
        text = found.get("/metrics")[1]
        assert samples(text, "abmonitor_worker_redis_up") == {(): 0}
        assert samples(text, "abmonitor_worker_lag_records") == {}  # nothing is known yet
        assert found.stop() == 0
    assert found.said.count("shard 0 waits") == 1
    assert "Traceback" not in found.said


# --- what Kafka does not tell ---------------------------------------------------------------------


@pytest.fixture
async def worker(config: Path) -> Worker:
    brokers = Brokers((NOWHERE,))
    letters = KafkaDeadLetters(brokers, "letters")
    return Worker(load(config), brokers, Store.embedded(), letters)


async def agree(worker: Worker, monkeypatch: pytest.MonkeyPatch, **counts: int) -> None:
    """Compare with what Kafka says."""
    monkeypatch.setattr(worker._member.log, "partitions", lambda _: counts)
    await worker._agree()


async def test_topics_that_kafka_does_not_tell_of_for_a_moment_are_waited_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LogUnavailableError, match="of predictions, outcomes"):
        await agree(worker, monkeypatch, predictions=0, outcomes=0)
    with pytest.raises(LogUnavailableError, match="of outcomes"):
        await agree(worker, monkeypatch, predictions=4, outcomes=0)
    await agree(worker, monkeypatch, predictions=4, outcomes=4)  # nothing else was written down


async def test_another_number_of_partitions_than_was_counted_is_refused(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agree(worker, monkeypatch, predictions=4, outcomes=4)
    with pytest.raises(PartitionsChangedError, match="have 6 partitions, but deployment"):
        await agree(worker, monkeypatch, predictions=6, outcomes=6)
    with pytest.raises(PartitionsChangedError, match="predictions has 4, outcomes has 6"):
        await agree(worker, monkeypatch, predictions=4, outcomes=6)


# --- all of it ------------------------------------------------------------------------------------


def produce(servers: str, records: list[tuple[str, int, Any]]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=servers)
    for topic, partition, event in records:
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        producer.send(topic, value, partition=partition)
    producer.flush()
    producer.close()


def stream_of(predictions: str, outcomes: str, count: int) -> list[tuple[str, int, Any]]:
    """Predictions, all of them first, and then their outcomes; the variants differ."""
    asked, told = list[tuple[str, int, Any]](), list[tuple[str, int, Any]]()
    for number in range(count):
        name, partition = f"p{number}", number % 2
        event = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": "offers",
            "variant": ("old", "new")[number % 3 == 0],
            "predicted": number % 5 == 0,
            "latency_ms": 12.5,
        }
        asked.append((predictions, partition, event))
        told.append(
            (
                outcomes,
                partition,
                {"type": "outcome", "prediction_id": name, "actual": number % 2 == 0},
            )
        )
    return asked + told


def expected_counts(count: int) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {"old": Counter(), "new": Counter()}
    for number in range(count):
        predicted, actual = number % 5 == 0, number % 2 == 0
        cell = ("tn", "fn", "fp", "tp")[2 * predicted + actual]
        found[("old", "new")[number % 3 == 0]][cell] += 1
    return {
        name: {cell: cells[cell] for cell in ("tp", "fp", "tn", "fn")}
        for name, cells in found.items()
    }


def samples(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of one name by their labels."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_a_node_of_a_cluster_is_not_taken_for_one_redis(
    kafka_topics: Topics, redis_cluster: RedisCluster, config: Path
) -> None:
    for name in ("predictions", "outcomes", "letters"):
        kafka_topics.create(name, partitions=8)  # so many that no node has the slots of all
    given = settings_on(kafka_topics, config)
    with service("worker", given, kafka=kafka_topics.servers, redis=redis_cluster.url) as worker:
        worker.until(lambda: "redis+cluster://" in worker.get("/readyz")[1], "the reason")


@pytest.fixture(params=["one Redis", "Redis Cluster"])
def any_redis(request: pytest.FixtureRequest) -> str:
    """The address of a Redis, or of a cluster of three."""
    if request.param == "one Redis":
        return str(request.getfixturevalue("redis_url"))
    nodes = request.getfixturevalue("redis_cluster").addresses
    return "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in nodes)


def test_what_is_produced_is_counted_and_shown_and_both_end_when_told_to(
    kafka_topics: Topics, any_redis: str, config: Path
) -> None:
    predictions = kafka_topics.create("predictions", partitions=2)
    outcomes = kafka_topics.create("outcomes", partitions=2)
    kafka_topics.create("letters")
    kafka_topics.create("control")
    given, count = settings_on(kafka_topics, config), 600
    records = stream_of(predictions, outcomes, count)
    produce(kafka_topics.servers, [*records[:count], (predictions, 0, b"{"), *records[count:]])
    with (
        service("worker", given, kafka=kafka_topics.servers, redis=any_redis) as worker,
        service("monitor", given, kafka=kafka_topics.servers, redis=any_redis) as monitor,
    ):
        worker.until_ready()
        monitor.until_ready()
        for found in (worker, monitor):
            assert json.loads(found.get("/healthz")[1]) == {"status": "ok"}

        def variants(of: str) -> dict[str, Any]:
            status, text = monitor.get("/api/v1/experiments/offers")
            document = json.loads(text) if status == 200 else {"variants": {}}
            return {name: facts[of] for name, facts in document["variants"].items()}

        expected = expected_counts(count)
        monitor.until(lambda: variants("counts") == expected, "the counts")
        # Outcomes come no more: the last predictions of a cohort stay open. One outcome closes them.
        time.sleep(6)
        last = {"type": "outcome", "prediction_id": "nobody", "actual": True}
        produce(kafka_topics.servers, [(outcomes, 0, last)])
        monitor.until(lambda: variants("mature_counts") == expected, "the mature counts")

        def matured() -> dict[str, dict[str, int]]:
            text = monitor.get("/metrics")[1]
            shown: dict[str, dict[str, int]] = {"old": {}, "new": {}}
            names = {("1", "1"): "tp", ("1", "0"): "fp"}
            names |= {("0", "0"): "tn", ("0", "1"): "fn"}
            for labels, value in samples(text, "abmonitor_matured_predictions_total").items():
                named = dict(labels)
                cell = names.get((named["predicted"], named["actual"]))
                if cell:
                    shown[named["variant"]][cell] = int(value)
            return shown

        monitor.until(lambda: matured() == expected, "the same on /metrics")
        text = worker.get("/metrics")[1]
        events = {
            dict(k)["result"]: n for k, n in samples(text, "abmonitor_worker_events_total").items()
        }
        assert events["predictions"] == events["outcomes"] == count
        assert events["rejected"] == 1
        worker.until(
            lambda: (
                set(samples(worker.get("/metrics")[1], "abmonitor_worker_lag_records").values())
                == {0.0}
            ),
            "no lag",
        )
        assert worker.get("/readyz")[0] == monitor.get("/readyz")[0] == 200
        assert worker.stop() == 0
        assert monitor.stop() == 0
    for found in (worker, monitor):
        assert "Traceback" not in found.said
        assert "Unclosed" not in found.said
        assert "ERROR" not in found.said
