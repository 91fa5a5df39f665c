import json
import zlib
from base64 import b85encode
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels
from stream.batch import DeadLetter
from stream.dead_letters import REDRIVEN
from stream.redrive import (
    IGNORED,
    MAX_TEXT,
    TOO_OLD,
    Bookmark,
    Dated,
    Judge,
    headers_again,
)
from stream.screen import SpecTable
from stream.sources import Decoder, FieldOptions, SourceOptions


OFFERS = Experiment(
    name="offers",
    control="old",
    variants={"old": 1.0, "new": 1.0},
    labels=Labels(horizon=Duration.parse("1h")),
)
SCORING = SourceOptions(
    type="prediction",
    fields={
        "prediction_id": "id",
        "experiment": FieldOptions(constant="offers"),
        "variant": FieldOptions(header="x-model"),
    },
)
NOW = 10_000_000


def dated(value: bytes | dict[str, Any], topic: str = "events", *, at: int = NOW) -> Dated:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"x-model": b"new"}
    return Dated(DeadLetter("reason", "detail", topic, 0, 0, content, b"key", headers), at)


def prediction(**fields: Any) -> dict[str, Any]:
    usual = {"type": "prediction", "prediction_id": "1", "experiment": "offers", "variant": "new"}
    return {**usual, "predicted": True, **fields}


def reasons(*letters: Dated, oldest: int | None = None) -> list[str | None]:
    decoder = Decoder({"events": SourceOptions(), "scoring": SCORING})
    return Judge(decoder, SpecTable([OFFERS]), oldest=oldest).reasons(letters)


def test_letters_are_judged_by_the_settings_of_today() -> None:
    assert reasons(
        dated(prediction()),
        dated(b"{"),
        dated({"id": 1, "predicted": True}, "scoring"),
        dated(prediction(variant="other")),
        dated({"id": 1}, "scoring"),
        dated(prediction(experiment="other")),
        dated({"type": "outcome", "prediction_id": "1", "actual": True}),
    ) == [None, "malformed_json", None, "unknown_variant", "missing_field", IGNORED, None]


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (dated(prediction(), at=NOW), None),
        (dated(prediction(), at=NOW - 1), TOO_OLD),
        (dated(prediction(time=NOW - 1), at=NOW), TOO_OLD),
        (dated(prediction(time=NOW + 1), at=NOW - 1), TOO_OLD),
        (dated({"type": "outcome", "prediction_id": "1", "actual": True}, at=1), None),
        (dated(b"{", at=1), "malformed_json"),
    ],
)
def test_predictions_whose_outcome_may_be_lost_are_too_old(
    letter: Dated, expected: str | None
) -> None:
    assert reasons(letter, oldest=NOW) == [expected]
    assert reasons(letter) == [None if expected == TOO_OLD else expected]


def test_a_record_that_is_sent_again_has_its_own_headers_and_says_where_from() -> None:
    letter = dated(b"").letter._replace(headers={"a": b"1", REDRIVEN: b"letters/0/1"})
    assert headers_again(letter, "letters/0/9") == [("a", b"1"), (REDRIVEN, b"letters/0/9")]


@given(
    st.lists(
        st.tuples(st.dictionaries(st.integers(0, 40), st.booleans()), st.integers(0, 45)),
        max_size=6,
    )
)
def test_a_bookmark_knows_what_is_done_after_any_runs(
    runs: list[tuple[dict[int, bool], int]],
) -> None:
    """Each run begins somewhere, sees some offsets from there on, and is done with some of them."""
    mark, done, seen = Bookmark(), set[int](), 0
    for run, start in runs:
        mark.skip_to(start)
        seen = max(seen, start)
        for offset in sorted(offset for offset in run if offset >= start):
            assert mark.wants(offset) == (offset not in done)
            if mark.wants(offset):
                gap = set(range(seen, offset))  # holes in the log: nothing is there
                done |= gap if offset >= seen else set()
                done |= {offset} if run[offset] else set()
                mark.note(offset, done=run[offset])
                seen = max(seen, offset + 1)
        mark = Bookmark.parse(mark.next, mark.text())
        missing = [offset for offset in range(60) if offset not in done]
        assert [offset for offset in range(60) if mark.wants(offset)] == missing
        assert mark.first == missing[0]


def test_a_bookmark_remembers_many_ranges_that_look_alike() -> None:
    mark = Bookmark()
    for offset in range(100_000):
        mark.note(offset, done=bool(offset % 7))
    again = Bookmark.parse(mark.next, mark.text())
    assert mark.given_up == 0
    assert all(again.wants(offset) == (offset % 7 == 0) for offset in range(100_000))


def test_a_bookmark_gives_up_the_oldest_ranges_where_they_are_too_many() -> None:
    random, mark = Random(1), Bookmark()
    done = [random.random() < 0.5 for _ in range(100_000)]
    for offset, is_done in enumerate(done):
        mark.note(offset, done=is_done)
    text = mark.text()
    assert len(text) <= MAX_TEXT
    again = Bookmark.parse(mark.next, text)
    remembered = [offset for offset in range(100_000) if again.wants(offset)]
    assert mark.given_up > 0
    assert mark.given_up + len(remembered) == done.count(False)
    assert not any(done[offset] for offset in remembered)
    assert all(done[offset] or again.wants(offset) for offset in range(99_000, 100_000))


def test_what_the_log_no_longer_has_is_forgotten() -> None:
    mark = Bookmark(10, [(1, 3), (5, 8)])
    mark.forget_before(6)
    assert [offset for offset in range(12) if mark.wants(offset)] == [6, 7, 10, 11]
    mark.forget_before(20)
    assert mark.first == 20


def packed(content: bytes) -> str:
    return b85encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1+",
        "-5+3",
        "ff+ff",
        "1+1+1",
        "é",
        packed(b"-5+3"),
        packed(b"ff+ff"),
        packed(b"\xff"),
    ],
)
def test_a_text_of_somebody_else_leaves_nothing_behind(text: str) -> None:
    mark = Bookmark.parse(10, text)
    assert [offset for offset in range(12) if mark.wants(offset)] == [10, 11]
