import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.servers import KafkaServer
from support.topics import Topics

from stream.batch import DeadLetter
from stream.brokers import Brokers
from stream.dead_letters import (
    LEAST_BYTES,
    REDRIVEN,
    TRUNCATED,
    KafkaDeadLetters,
    from_record,
    to_record,
    truncated,
)
from stream.producer import MissingTopicError


NAMES = st.one_of(
    st.text(max_size=10),
    st.builds(
        lambda moves, rest: "original-" * moves + "abmonitor-" + rest,
        st.integers(0, 3),
        st.sampled_from(["reason", "topic", "offset", "truncated", "x", ""]),
    ),
).filter(lambda name: name.isprintable())

LETTERS = st.builds(
    DeadLetter,
    st.text(max_size=20),
    st.text(max_size=100),
    st.text(max_size=20),
    st.integers(0, 1 << 31),
    st.integers(0, 1 << 62),
    st.binary(max_size=2_000),
    st.none() | st.binary(max_size=300),
    st.dictionaries(NAMES, st.binary(max_size=100), max_size=5),
)

LETTER = DeadLetter("malformed_json", "what", "events", 3, 7, b"{", b"key", {"trace": b"1"})


def kept(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> Any:
    return from_record(key, value, dict(headers))


@given(LETTERS)
def test_what_is_kept_can_be_read_again(letter: DeadLetter) -> None:
    key, value, headers = to_record(letter)
    assert len(dict(headers)) == len(headers)
    assert not truncated(dict(headers))
    assert kept(key, value, headers) == letter


@given(LETTERS, st.integers(LEAST_BYTES, 3_000))
def test_a_letter_is_cut_to_what_the_topic_takes(letter: DeadLetter, limit: int) -> None:
    key, value, headers = to_record(letter, limit)
    size = len(key or b"") + len(value or b"")
    size += sum(len(name.encode()) + len(held) for name, held in headers)
    again = kept(key, value, headers)
    assert again is not None
    assert again[2:5] == letter[2:5]
    assert (letter.value or b"").startswith(again.value or b"")
    if truncated(dict(headers)):
        assert size <= limit or len(again.detail) > limit // 4
        original = len(letter.key or b"") + len(letter.value or b"")
        assert int(dict(headers)[TRUNCATED]) >= original
    else:
        assert again == letter


def test_headers_that_look_like_ours_keep_apart() -> None:
    original = {"abmonitor-reason": b"mine", "original-abmonitor-reason": b"older", "a": b""}
    key, value, headers = to_record(LETTER._replace(headers=original))
    assert dict(headers)["abmonitor-reason"] == b"malformed_json"
    assert dict(headers)["original-abmonitor-reason"] == b"mine"
    assert kept(key, value, headers).headers == original


def test_a_record_that_was_sent_again_shows_that_in_its_letter() -> None:
    letter = LETTER._replace(headers={REDRIVEN: b"letters/0/1"})
    assert kept(*to_record(letter)).headers == {REDRIVEN: b"letters/0/1"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"abmonitor-reason": b"x"},
        {"abmonitor-partition": b"x"},
        {"abmonitor-offset": b"-1"},
        {"abmonitor-topic": b"\xff"},
    ],
)
def test_what_somebody_else_wrote_is_no_letter(headers: dict[str, bytes]) -> None:
    whole = dict(to_record(LETTER)[2]) if headers and "abmonitor-reason" not in headers else {}
    assert from_record(b"key", b"value", whole | headers) is None


def test_a_tombstone_is_a_letter_without_a_value() -> None:
    tombstone = LETTER._replace(value=None)
    key, value, headers = to_record(tombstone)
    assert value is None
    assert kept(key, value, headers) == LETTER._replace(value=b"")


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


def letters_in(servers: str, topic: str) -> list[Any]:
    return [kept(r.key, r.value, r.headers) for r in read(servers, topic)]


async def test_hostile_letters_are_kept_as_they_are(kafka_topics: Topics) -> None:
    topic = kafka_topics.create("letters", 2, configs={"max.message.bytes": str(2 << 20)})
    hostile = [
        LETTER,
        LETTER._replace(value=b"", key=None, headers={}),
        LETTER._replace(value=bytes(range(256)), headers={"": b"", "h\x00": b"\xff"}),
        LETTER._replace(value=b"x" * (1 << 20), partition=2),
        LETTER._replace(detail="\ud800" * 5_000, reason="ünï", offset=1 << 62),
    ]
    letters = KafkaDeadLetters(Brokers((kafka_topics.servers,)), topic)
    await letters.start()
    await letters.send(hostile)
    await letters.send([])
    await letters.stop()
    found = letters_in(kafka_topics.servers, topic)
    assert {letter[:1] + letter[2:6] for letter in found} == {
        letter[:1] + letter[2:6] for letter in hostile
    }
    assert max(len(letter.detail) for letter in found) <= 500


async def test_letters_that_the_topic_has_no_room_for_are_cut_and_none_is_lost(
    kafka_topics: Topics,
) -> None:
    topic = kafka_topics.create("letters", configs={"max.message.bytes": "20000"})
    noise = b"".join(n.to_bytes(4, "big") * 3 for n in range(50_000))
    many = [LETTER._replace(offset=n, value=noise[: n * 200]) for n in range(300)]
    letters = KafkaDeadLetters(Brokers((kafka_topics.servers,)), topic)
    await letters.send(many)
    await letters.stop()
    found = letters_in(kafka_topics.servers, topic)
    assert {letter.offset for letter in found} == set(range(300))
    assert all(noise.startswith(letter.value) for letter in found)
    assert max(len(letter.value) for letter in found) > 8_000


async def test_a_topic_that_does_not_exist_is_told_with_what_to_do(kafka_topics: Topics) -> None:
    letters = KafkaDeadLetters(Brokers((kafka_topics.servers,)), kafka_topics.name("nowhere"))
    with pytest.raises(MissingTopicError, match="abmonitor topics create"):
        await letters.start()
    with pytest.raises(MissingTopicError, match="nowhere"):
        await letters.send([LETTER])
    await letters.stop()


async def test_several_tasks_may_send_at_once(kafka_topics: Topics) -> None:
    topic = kafka_topics.create("letters", 3)
    letters = KafkaDeadLetters(Brokers((kafka_topics.servers,)), topic)
    own = [[LETTER._replace(partition=p, offset=n) for n in range(200)] for p in range(6)]
    await asyncio.gather(*(letters.send(each[:100]) for each in own))
    await asyncio.gather(*(letters.send(each[100:]) for each in own))
    await letters.stop()
    found = letters_in(kafka_topics.servers, topic)
    for partition in range(6):
        offsets = [letter.offset for letter in found if letter.partition == partition]
        assert offsets == list(range(200))


async def test_no_letter_is_lost_while_kafka_is_away(own_kafka: KafkaServer) -> None:
    topics = Topics(own_kafka.servers)
    topic = topics.create("letters")
    letters = KafkaDeadLetters(Brokers((own_kafka.servers,)), topic)
    await letters.start()
    await letters.send([LETTER])
    own_kafka.kill()
    sending = asyncio.create_task(
        letters.send([LETTER._replace(offset=n) for n in range(100, 200)])
    )
    starting = KafkaDeadLetters(Brokers((own_kafka.servers,)), topic)
    started = asyncio.create_task(starting.start())
    await asyncio.sleep(1)
    assert not sending.done()
    assert letters.waiting_s > 0.9
    await asyncio.to_thread(own_kafka.start)
    async with asyncio.timeout(60):
        await sending
        await started
    assert letters.waiting_s == 0
    await letters.stop()
    await starting.stop()
    found = {letter.offset for letter in letters_in(own_kafka.servers, topic)}
    assert found == {7, *range(100, 200)}
