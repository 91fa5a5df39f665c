import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import typer
from support.topics import Topics
from typer.testing import CliRunner

from abmonitor.cli import letters as command
from abmonitor.operate.admin import KafkaFailedError
from abmonitor.operate.letter_box import Filter, LetterBox
from abmonitor.operate.printable import printable
from abmonitor.operate.redrive import Redrive, Sender
from abmonitor.settings import Settings, load
from stream.batch import Batch, DeadLetter
from stream.brokers import Brokers
from stream.dead_letters import REDRIVEN, KafkaDeadLetters
from stream.pipeline import ShardPipeline
from stream.producer import Producer, Record
from stream.sources import Decoder
from stream.store import Store


Write = Callable[..., Path]

SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 1, VARIANT: 1}
    labels: {horizon: 1h}
sources: {SOURCE: {}}
kafka: {dead_letters: LETTERS, group: GROUP}
"""


class Deployment:
    """A topic with events, a topic with letters, and settings that change."""

    def __init__(self, topics: Topics, write: Write) -> None:
        self.topics, self._write = topics, write
        self.source = topics.create("events", 3)
        self.letters = topics.create("letters", 2)
        self.brokers = Brokers((topics.servers,))

    def config(self, variant: str = "new", more: str = "") -> Path:
        text = SETTINGS.replace("VARIANT", variant).replace("LETTERS", self.letters)
        text = text.replace("GROUP", self.topics.name("group")).replace("SOURCE", self.source)
        return self._write(text + more)

    def keep(self, *letters: DeadLetter) -> None:
        async def keep() -> None:
            kept = KafkaDeadLetters(self.brokers, self.letters)
            await kept.send(letters)
            await kept.stop()

        asyncio.run(keep())

    def put(self, topic: str, *records: Record) -> None:
        async def put() -> None:
            producer = Producer(self.brokers)
            assert await producer.send(topic, records) == []
            await producer.stop()

        asyncio.run(put())

    def run(self, *arguments: object, variant: str = "new") -> Any:
        app = typer.Typer()
        app.callback()(lambda: None)
        command.register(app)
        given = ["dead-letters", *map(str, arguments), "-c", str(self.config(variant))]
        return CliRunner().invoke(app, given, env={"ABMONITOR_KAFKA": self.topics.servers})

    def redrive(self, *arguments: object, variant: str = "new") -> dict[str, Any]:
        done = self.run("redrive", "--json", *arguments, variant=variant)
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        for counts in ("sent", "unusable"):
            found[counts] = {each["reason"]: each["count"] for each in found[counts]}
        return {**found}

    def letter(self, number: int, value: bytes, **fields: Any) -> DeadLetter:
        usual = DeadLetter(
            "unknown_variant", "detail", self.source, number % 3, number, value, b"k"
        )
        return usual._replace(**fields)

    def events(self) -> list[Any]:
        return read(self.topics.servers, self.source)


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


def prediction(number: int, variant: str = "new", **fields: Any) -> bytes:
    usual = {"type": "prediction", "prediction_id": f"p{number}", "experiment": "offers"}
    return json.dumps({**usual, "variant": variant, "predicted": True, **fields}).encode()


@pytest.fixture
def deployment(kafka_topics: Topics, write: Write) -> Deployment:
    return Deployment(kafka_topics, write)


@pytest.mark.parametrize(
    ("value", "width", "expected"),
    [
        (b"plain", None, "plain"),
        (b"a\x1b[2J\xff\r\n", None, r"a\x1b[2J\xff\r\n"),
        ("\u202eevil\x9b0m", None, r"\u202eevil\x9b0m"),
        ("schön 漢 [bold]", None, "schön 漢 [bold]"),
        ("\ud800", None, r"\ud800"),
        (b"abcdef", 4, "abc…"),
        ("ü".encode() * 9, 9, "ü" * 9),
        (b"\x00" * 100, 10, r"\x00\x00\…"),
        (b"", 5, ""),
        (b"abc", 0, "…"),
    ],
)
def test_what_is_printed_does_nothing_to_a_terminal(
    value: bytes | str, width: int | None, expected: str
) -> None:
    assert printable(value, width) == expected


def test_letters_are_counted_by_reason_and_topic_and_the_last_are_shown(
    deployment: Deployment,
) -> None:
    hostile = b"\x1b]0;title\x07\xff[bold]" + b"x" * 500
    deployment.keep(
        *(deployment.letter(n, b"{", reason="malformed_json") for n in range(30)),
        deployment.letter(31, hostile, detail="\x1b[31m[/x]", reason="[bold]\x1b"),
        deployment.letter(32, b"", topic="else\x9b", key=None),
    )
    deployment.put(deployment.letters, Record(0, None, None), Record(1, b"k", b"not a letter"))
    shown = deployment.run("--limit", 5)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    assert "\x9b" not in shown.stdout
    assert r"[bold]\x1b" in shown.stdout
    assert f"30  malformed_json   {deployment.source}" in shown.stdout
    assert "2 records are no letters" in shown.stderr
    document = json.loads(deployment.run("--json", "--limit", 3).stdout)
    assert sum(each["count"] for each in document["counts"]) == 32
    assert document["strange"] == 2
    assert len(document["letters"]) == 3
    written = [letter["at"] for letter in document["letters"]]
    assert written == sorted(written, reverse=True)
    assert max(len(letter["value"]) for letter in document["letters"]) <= 200
    few = json.loads(deployment.run("--json", "--reason", "malformed_json", "--limit", 0).stdout)
    assert [each["count"] for each in few["counts"]] == [30]
    assert json.loads(deployment.run("--json", "--topic", "nothing").stdout)["counts"] == []


def test_letters_can_be_limited_to_the_last_while(deployment: Deployment) -> None:
    deployment.keep(deployment.letter(1, b"{"))
    time.sleep(1.1)
    deployment.keep(deployment.letter(2, b"{"))
    document = json.loads(deployment.run("--json", "--since", "1s").stdout)
    assert [letter["offset"] for letter in document["letters"]] in ([2], [])
    assert len(json.loads(deployment.run("--json", "--since", "1h").stdout)["letters"]) == 2
    assert deployment.run("--since", "yesterday").exit_code == 2


def invoke(*arguments: str, **environ: str) -> Any:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return CliRunner().invoke(app, ["dead-letters", *arguments], env=environ)


@pytest.mark.parametrize(
    "option",
    [("--reason", "a"), ("--topic", "t"), ("--since", "1h"), ("--limit", "3"), ("--json",)],
)
def test_options_before_redrive_are_refused_where_they_would_be_lost(
    write: Write, option: tuple[str, ...]
) -> None:
    done = invoke(*option, "redrive", ABMONITOR_CONFIG=str(write(SETTINGS)))
    assert done.exit_code == 2
    assert f"{option[0]}: expected behind `redrive`" in done.stderr


@pytest.mark.parametrize("behind", [True, False])
def test_settings_that_are_typed_go_before_those_of_the_environment(
    write: Write, tmp_path: Path, behind: bool
) -> None:
    typed = ("-c", str(tmp_path / "typed.yaml"))
    arguments = ("redrive", *typed) if behind else (*typed, "redrive")
    done = invoke(*arguments, ABMONITOR_CONFIG=str(write(SETTINGS)), ABMONITOR_KAFKA="127.0.0.1:1")
    assert done.exit_code == 2
    assert "typed.yaml" in done.stderr


def test_a_dead_letter_topic_that_does_not_exist_is_told(deployment: Deployment) -> None:
    deployment.letters = deployment.topics.name("nowhere")
    for arguments in ((), ("redrive",)):
        done = deployment.run(*arguments)
        assert done.exit_code == 1
        assert "abmonitor topics create" in done.stderr


def test_an_empty_topic_has_no_letters(deployment: Deployment) -> None:
    assert deployment.run().stdout == "no letters\n"
    assert deployment.redrive()["sent"] == {}


def test_letters_are_sent_as_they_were_to_where_they_were(deployment: Deployment) -> None:
    headers = {"trace": b"\xff1", "abmonitor-reason": b"mine"}
    deployment.keep(
        deployment.letter(4, prediction(4), key=None),
        deployment.letter(5, prediction(5), key=b"\x00k", headers=headers),
    )
    assert deployment.redrive()["sent"] == {"unknown_variant": 2}
    found = {record.value: record for record in deployment.events()}
    assert set(found) == {prediction(4), prediction(5)}
    assert [(found[prediction(n)].partition, found[prediction(n)].key) for n in (4, 5)] == [
        (1, None),
        (2, b"\x00k"),
    ]
    sent = dict(found[prediction(5)].headers)
    assert sent.pop(REDRIVEN).decode().startswith(f"{deployment.letters}/0/")
    assert sent == headers


def test_what_cannot_be_used_yet_is_left_for_the_next_run(deployment: Deployment) -> None:
    deployment.keep(
        *(deployment.letter(n, prediction(n, "new" if n % 2 else "newer")) for n in range(10)),
        deployment.letter(10, b"{"),
        deployment.letter(11, prediction(11), topic="payments"),
        deployment.letter(12, prediction(12), partition=77),
        deployment.letter(13, None),  # type: ignore[arg-type]  # a tombstone
    )
    dry = deployment.redrive("--dry-run")
    first = deployment.redrive()
    left = {
        "unknown_variant": 5,
        "malformed_json": 2,
        "topic_not_configured": 1,
        "no_such_partition": 1,
    }
    assert dry["sent"] == first["sent"] == {"unknown_variant": 5}
    assert dry["unusable"] == first["unusable"] == left
    again = deployment.redrive()
    assert (again["sent"], again["unusable"]) == ({}, left)
    later = deployment.redrive(variant="newer")  # the settings know it now
    assert later["sent"] == {"unknown_variant": 5}
    ids = [json.loads(record.value)["prediction_id"] for record in deployment.events()]
    assert sorted(ids) == [f"p{n}" for n in range(10)]
    assert deployment.redrive("--all")["sent"] == {"unknown_variant": 5}
    assert len(deployment.events()) == 15


def test_letters_that_were_not_asked_for_are_left_for_the_next_run(deployment: Deployment) -> None:
    deployment.keep(
        deployment.letter(1, prediction(1), reason="a"),
        deployment.letter(2, prediction(2), reason="b"),
        deployment.letter(3, prediction(3), reason="a"),
    )
    assert deployment.redrive("--reason", "a")["sent"] == {"a": 2}
    assert deployment.redrive("--reason", "a")["sent"] == {}
    assert deployment.redrive("--topic", "other")["sent"] == {}
    assert deployment.redrive("--since", "1ms")["sent"] == {}
    assert deployment.redrive("--topic", deployment.source)["sent"] == {"b": 1}


def test_letters_that_were_cut_are_not_sent(deployment: Deployment) -> None:
    async def keep() -> None:
        kept = KafkaDeadLetters(deployment.brokers, deployment.letters, limit=1_000)
        value = prediction(1) + b" " * 2_000  # what is left can be decoded, and is not the original
        await kept.send([deployment.letter(1, value)])
        await kept.stop()

    asyncio.run(keep())
    assert deployment.redrive()["unusable"] == {"truncated": 1}
    assert " (cut)" in deployment.run().stdout


def test_a_prediction_whose_outcome_may_be_lost_is_not_sent_unasked(
    deployment: Deployment,
) -> None:
    hour_ago = int(time.time() * 1000) - 3_600_000
    outcome = {"type": "outcome", "prediction_id": "p1", "actual": True, "time": hour_ago}
    deployment.keep(
        deployment.letter(1, prediction(1, time=hour_ago)),
        deployment.letter(2, json.dumps(outcome).encode()),
    )
    first = deployment.run("redrive")
    assert "prediction_too_old" in first.stdout
    assert "--stale" in first.stderr
    assert [json.loads(record.value)["type"] for record in deployment.events()] == ["outcome"]
    assert deployment.redrive("--stale")["sent"] == {"unknown_variant": 1}


def test_a_run_that_dies_half_way_is_finished_by_the_next(deployment: Deployment) -> None:
    """Kafka takes letters, then the process dies before the bookmark is kept."""
    deployment.keep(*(deployment.letter(3 * n, prediction(n)) for n in range(10)))
    settings = load(deployment.config())
    group = f"{settings.group}-redrive"

    def send_and_die(letters: Sequence[tuple[DeadLetter, str]]) -> None:
        with Sender(deployment.brokers) as sender:
            sender.send(letters)
        raise KafkaFailedError("gone")

    with LetterBox(deployment.brokers, deployment.letters, group=group) as box:
        redrive = Redrive(settings, box, {deployment.source: 3}, now=int(time.time() * 1000))
        with pytest.raises(KafkaFailedError):
            redrive.run(Filter(), send_and_die)
    assert deployment.redrive()["sent"] == {"unknown_variant": 10}
    assert len(deployment.events()) == 20
    with Workers(deployment) as workers:
        assert workers.count()["predictions"] == 10


class Workers:
    """Workers that count what is new in the source topic; their store outlives changes of settings."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._store = Store.embedded("default")
        self._runner = asyncio.Runner()
        self._next = dict.fromkeys(range(3), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._store.close())
        self._runner.close()

    def count(self, variant: str = "new") -> dict[str, int]:
        """Start with the settings as they are now, and count to the end."""
        return self._runner.run(self._count(load(self._deployment.config(variant))))

    async def _count(self, settings: Settings) -> dict[str, int]:
        letters = KafkaDeadLetters(self._deployment.brokers, self._deployment.letters)
        tallies = Counter[str]()
        for batch in self._new():
            worker = ShardPipeline(
                self._store,
                batch.shard,
                settings.experiments,
                Decoder(settings.sources),
                letters,
                topics=settings.topics,
            )
            tallies.update((await worker.process(batch)).tallies)
        await letters.stop()
        return {result: count for result, count in tallies.items() if count}

    def _new(self) -> Iterator[Batch]:
        records = self._deployment.events()
        for shard, start in self._next.items():
            new = [r for r in records if r.partition == shard and r.offset >= start]
            if new:
                self._next[shard] = new[-1].offset + 1
                yield Batch(
                    self._deployment.source,
                    shard,
                    start,
                    self._next[shard],
                    [record.offset for record in new],
                    [record.timestamp for record in new],
                    [record.value for record in new],
                    [record.key for record in new],
                    [dict(record.headers) for record in new],
                )


def test_after_the_settings_are_mended_letters_count_as_if_nothing_had_happened(
    deployment: Deployment,
) -> None:
    deployment.put(
        deployment.source,
        *(Record(n % 3, b"p%d" % n, prediction(n, "new" if n % 2 else "old")) for n in range(30)),
        Record(0, None, b"junk"),
    )
    outcomes = [
        b'{"type": "outcome", "prediction_id": "p%d", "actual": true}' % n for n in range(30)
    ]
    with Workers(deployment) as workers:
        assert workers.count(variant="mistyped") == {
            "predictions": 15,
            "rejected:unknown_variant": 15,
            "rejected:malformed_json": 1,
        }
        deployment.put(
            deployment.source,
            *(Record(n % 3, b"p%d" % n, value) for n, value in enumerate(outcomes)),
        )
        # The outcomes of the lost predictions come before anybody has mended anything.
        assert workers.count(variant="mistyped") == {"outcomes": 15}
        assert deployment.redrive()["sent"] == {"unknown_variant": 15}
        assert workers.count() == {"predictions": 15, "outcomes": 15}
        assert deployment.redrive("--all")["sent"] == {"unknown_variant": 15}
        assert workers.count() == {"duplicate": 15}  # sent twice, counted once
