import gzip
import os
import resource
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.eventfiles import (
    DAY,
    GRACE,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Event,
    by_time,
    lines,
    outcome,
    prediction,
    traffic,
    written,
)

from stream.batch import Batch
from stream.clocks import LOOKAHEAD, Clock, Line, TimedLine
from stream.events import Outcome, Prediction, Rejected
from stream.files import BATCH_RECORDS, BATCH_SPAN, EventFileError, FileSource, Input
from stream.lines import CHUNK_LINES, MAX_LINE_BYTES, chunks_of
from stream.sources import Decoder, SourceOptions


NOW = START + 700 * DAY
"""The clock of whoever replays."""

YEAR = 365 * DAY


def source(*paths: Path, grace: int = GRACE, wait: int = 3 * GRACE) -> FileSource:
    return FileSource([Input(path) for path in paths], Decoder(), now=NOW, grace=grace, wait=wait)


def read(*paths: Path) -> list[Batch]:
    return list(source(*paths).batches())


def names_of(batches: Sequence[Batch]) -> list[str]:
    """What every record is: the id of a usable event, the reason of another."""
    events = [event for batch in batches for event in batch.events or ()]
    return [
        event.reason if isinstance(event, Rejected) else event.prediction_id for event in events
    ]


def arrivals_of(batches: Sequence[Batch]) -> list[int]:
    return [arrival for batch in batches for arrival in batch.arrivals]


def ticks(count: int, *, start: int = START, gap: int = SECOND) -> list[Event]:
    return [prediction(f"p{number}", start + number * gap) for number in range(count)]


# --- lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n \n\t\r\n", []),
        (b"one", [(1, b"one")]),
        (b"one\ntwo\n", [(1, b"one"), (2, b"two")]),
        (b"one\r\ntwo\r\n", [(1, b"one"), (2, b"two")]),
        (b"\n\n one \n\n\ntwo", [(3, b"one"), (6, b"two")]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", [(1, b"one"), (2, b"\xef\xbb\xbftwo")]),
        (b"\xef\xbb\xbf", []),
        (b"\x1f", [(1, b"\x1f")]),
    ],
)
def test_lines_are_read_whatever_their_ends_and_numbered_as_an_editor_does(
    tmp_path: Path, content: bytes, expected: list[tuple[int, bytes]], *, zipped: bool
) -> None:
    path = tmp_path / "events"
    path.write_bytes(gzip.compress(content) if zipped else content)
    found = [
        (first + index, value)
        for first, values in chunks_of(path)
        for index, value in enumerate(values)
    ]
    assert found == expected


def test_many_lines_come_in_chunks_with_the_right_numbers(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1, 2 * CHUNK_LINES + 2)))
    chunks = list(chunks_of(path))
    assert [len(values) for _, values in chunks] == [CHUNK_LINES, CHUNK_LINES, 1]
    assert all(int(values[0]) == first for first, values in chunks)


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"x" * MAX_LINE_BYTES, MAX_LINE_BYTES),
        (b"x" * MAX_LINE_BYTES + b"\r", MAX_LINE_BYTES),
        (b"x" * (MAX_LINE_BYTES + 1), MAX_LINE_BYTES + 1),
        (b"x" * (3 * MAX_LINE_BYTES + 7), MAX_LINE_BYTES + 1),
        (b" " * (2 * MAX_LINE_BYTES) + b"x", MAX_LINE_BYTES + 1),
        (b"{}" + b" " * (2 * MAX_LINE_BYTES) + b"x", MAX_LINE_BYTES + 1),
        (b"{}" + b" " * (2 * MAX_LINE_BYTES), 2),
    ],
)
def test_a_line_that_is_too_long_is_cut_and_swallows_no_other(
    tmp_path: Path, line: bytes, length: int
) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"before\n" + line + b"\nafter\n")
    values = [value for _, values in chunks_of(path) for value in values]
    assert [len(value) for value in values] == [6, length, 5]


def test_long_lines_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(gzip.compress((b"x" * (MAX_LINE_BYTES + 5) + b"\n") * 60, 1))
    tracemalloc.start()
    assert names_of(list(source(path).batches())) == ["too_long"] * 60
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120 << 20


# --- files that cannot be read --------------------------------------------------------------------


def test_a_truncated_archive_fails_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.gz"
    path.write_bytes(gzip.compress(lines(ticks(2_000)))[:-20])
    with pytest.raises(EventFileError, match=r"events\.gz: cannot be read to its end"):
        read(path)


@pytest.mark.parametrize("damage", [b"\x00" * 40, b"not deflated at all", b"\xff" * 40])
def test_a_damaged_archive_fails_and_names_the_file(tmp_path: Path, damage: bytes) -> None:
    content = bytearray(gzip.compress(lines(ticks(500))))
    content[200 : 200 + len(damage)] = damage
    (tmp_path / "events.gz").write_bytes(content)
    with pytest.raises(EventFileError, match=r"events\.gz: cannot be read to its end"):
        read(tmp_path / "events.gz")


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_fails_and_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(EventFileError, match=r"No such file|Is a directory"):
        read(tmp_path / name)


# --- records --------------------------------------------------------------------------------------


def test_archives_are_known_by_their_content(tmp_path: Path) -> None:
    events = ticks(30)
    plain = read(written(tmp_path / "plain.gz", events))
    zipped = read(written(tmp_path / "zipped.jsonl", events, zipped=True))
    assert names_of(plain) == names_of(zipped) == [f"p{number}" for number in range(30)]


def test_an_archive_of_several_members_is_one_file(tmp_path: Path) -> None:
    events = ticks(30)
    path = tmp_path / "events"
    path.write_bytes(gzip.compress(lines(events[:10])) + gzip.compress(lines(events[10:])))
    assert len(names_of(read(path))) == 30


def test_a_file_may_be_a_pipe(tmp_path: Path) -> None:
    pipe, plain = tmp_path / "pipe", written(tmp_path / "plain", ticks(5, start=START + 500))
    os.mkfifo(pipe)
    content = gzip.compress(lines(ticks(5)))
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    times = arrivals_of(read(pipe, plain))
    writer.join()
    assert len(times) == 10
    assert times == sorted(times)


def test_a_record_is_decoded_by_the_mapping_of_its_topic(tmp_path: Path) -> None:
    options = SourceOptions(type="outcome", fields={"prediction_id": "id", "actual": "sold"})
    path = tmp_path / "sales"
    path.write_bytes(b'{"id": "a", "sold": true, "time": 1}\n')
    decoder = Decoder({"sales": options})
    (batch,) = FileSource([Input(path, "sales")], decoder, now=NOW).batches()
    (event,) = batch.events or ()
    assert isinstance(event, Outcome)
    assert event.prediction_id == "a"


def test_the_place_of_every_record_of_the_latest_batch_is_known(tmp_path: Path) -> None:
    one = written(tmp_path / "one", [b"", prediction("a", START), b"", b"{"])
    two = written(tmp_path / "two", [prediction("b", START + 5)])
    events = source(one, two)
    (batch,) = events.batches()
    assert names_of([batch]) == ["a", "malformed_json", "b"]
    assert [events.places[offset] for offset in batch.offsets] == [
        f"{one}:2",
        f"{one}:4",
        f"{two}:1",
    ]


# --- order ----------------------------------------------------------------------------------------


def test_several_files_are_merged_by_time(tmp_path: Path) -> None:
    events = ticks(40)
    paths = [written(tmp_path / str(n), events[n::3]) for n in range(3)]
    assert names_of(read(*paths)) == [f"p{number}" for number in range(40)]
    assert names_of(read(*reversed(paths))) == [f"p{number}" for number in range(40)]


def test_files_given_in_any_order_are_opened_when_their_time_has_come(tmp_path: Path) -> None:
    events = by_time(ticks(400, gap=MINUTE))
    paths = [written(tmp_path / f"{n:03}", events[4 * n : 4 * n + 4]) for n in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/dev/fd").iterdir())) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        found = names_of(read(*paths[50:], *paths[:50]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [f"p{number}" for number in range(400)]


def test_an_empty_file_among_others_changes_nothing(tmp_path: Path) -> None:
    full, empty = written(tmp_path / "full", ticks(3)), written(tmp_path / "empty", [])
    assert names_of(read(empty, full, empty)) == ["p0", "p1", "p2"]


def test_arrival_is_the_running_maximum_of_time(tmp_path: Path) -> None:
    times = [START, START + 20, START + 10, START + 30]
    events = source(written(tmp_path / "events", [prediction(f"p{time}", time) for time in times]))
    batches = list(events.batches())
    assert arrivals_of(batches) == [START, START + 20, START + 20, START + 30]
    assert (events.disorder, events.disordered) == (10, 0)
    assert (events.first, events.last) == (START, START + 30)


def test_records_further_behind_than_grace_are_counted(tmp_path: Path) -> None:
    times = [START, START + GRACE + 2, START + 1, START + 2, START + 3]
    path = written(tmp_path / "events", [prediction(f"p{time}", time) for time in times])
    events = source(path)
    list(events.batches())
    assert events.disordered == 1
    assert events.disorder == GRACE + 1


def test_records_without_a_time_arrive_with_the_one_before_them(tmp_path: Path) -> None:
    untimed = {key: value for key, value in prediction("u", 0).items() if key != "time"}
    path = written(tmp_path / "events", [b"{", untimed, *ticks(3), untimed, b"[]"])
    assert arrivals_of(read(path)) == [START] * 3 + [START + 1_000] + [START + 2_000] * 3


def test_records_of_which_none_has_a_time_arrive_at_the_beginning_of_time(tmp_path: Path) -> None:
    untimed = {key: value for key, value in prediction("u", 0).items() if key != "time"}
    assert arrivals_of(read(written(tmp_path / "events", [untimed, b"{", untimed]))) == [0, 0, 0]


# --- batches --------------------------------------------------------------------------------------


def test_batches_are_bounded_and_continue_each_other(tmp_path: Path) -> None:
    batches = read(written(tmp_path / "events", traffic(6_000, gap=300)))
    assert sum(map(len, batches)) == 12_000
    assert all(len(batch) <= BATCH_RECORDS for batch in batches)
    assert all(batch.arrivals[-1] - batch.arrivals[0] <= BATCH_SPAN for batch in batches)
    assert [batch.position for batch in batches] == [0, *(b.next_position for b in batches[:-1])]
    assert all(
        list(batch.offsets) == list(range(batch.position, batch.next_position)) for batch in batches
    )


def test_in_a_gap_it_is_said_that_nothing_came(tmp_path: Path) -> None:
    events = [*ticks(3), *ticks(3, start=START + 2 * HOUR), *ticks(2, start=START + 9 * DAY)]
    batches = read(written(tmp_path / "events", events))
    told = [(len(batch), batch.complete_to) for batch in batches]
    first, second = START + 2_000 + HOUR, START + 2 * HOUR + 2_000 + HOUR
    assert told == [(3, None), (0, first), (3, None), (0, second), (2, None)]


def test_what_is_in_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = written(tmp_path / str(count), ticks(count, gap=200), zipped=True)
        tracemalloc.start()
        assert sum(map(len, source(path).batches())) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(40_000) < 1.3 * peak(10_000)


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 7, 150, 298, 299, 300])
@pytest.mark.parametrize("ahead", [2 * HOUR, 40 * DAY, YEAR, 3 * YEAR])
def test_one_clock_that_is_ahead_moves_no_other(tmp_path: Path, place: int, ahead: int) -> None:
    events = ticks(300)
    wrong = prediction("wrong", START + place * SECOND + ahead)
    times = arrivals_of(
        read(written(tmp_path / "events", [*events[:place], wrong, *events[place:]]))
    )
    if place == 300 and ahead < 30 * DAY:  # nothing follows: that may well be true
        assert times.pop() == START + place * SECOND + ahead
    assert max(times) == START + 299 * SECOND


@pytest.mark.parametrize("place", [0, 3, 10])
@pytest.mark.parametrize(("ahead", "reason"), [(YEAR, "clock_leap"), (3 * YEAR, "time_in_future")])
def test_a_clock_that_is_ahead_is_rejected_with_a_reason(
    tmp_path: Path, place: int, ahead: int, reason: str
) -> None:
    events: list[Event] = ticks(10)
    events.insert(place, prediction("wrong", START + ahead))
    found = names_of(read(written(tmp_path / "events", events)))
    assert found[place] == reason
    assert found.count(reason) == 1


@pytest.mark.parametrize("place", [0, 1, 150, 300])
@pytest.mark.parametrize("time", [0, START - 3 * YEAR])
def test_one_clock_that_is_behind_moves_no_other(tmp_path: Path, place: int, time: int) -> None:
    events = ticks(300)
    events.insert(place, prediction("wrong", time))
    batches = read(written(tmp_path / "events", events))
    assert min(arrivals_of(batches)) == START
    assert "wrong" in names_of(batches)


def test_a_wrong_clock_in_one_file_does_not_delay_the_file(tmp_path: Path) -> None:
    events = traffic(200)
    asked = [event for event in events if event["type"] == "prediction"]
    told = [event for event in events if event["type"] == "outcome"]
    asked[70] = asked[70] | {"time": asked[70]["time"] + YEAR}
    batches = read(written(tmp_path / "asked", asked), written(tmp_path / "told", told))
    kinds = [type(event) for batch in batches for event in batch.events or ()]
    assert kinds.index(Outcome) < 100
    assert kinds[-100:].count(Prediction) < 20


def test_several_clocks_may_be_wrong_as_long_as_most_are_right(tmp_path: Path) -> None:
    events = ticks(500)
    for place in range(3, 490, 4):
        events[place] = events[place] | {"time": events[place]["time"] + YEAR + place * HOUR}
    batches = read(written(tmp_path / "events", events))
    assert max(arrivals_of(batches)) == START + 499 * SECOND
    assert names_of(batches).count("clock_leap") == len(range(3, 490, 4))


@pytest.mark.parametrize("gap", [2 * HOUR, 3 * DAY, 29 * DAY])
@pytest.mark.parametrize("before", [1, 2, 60])
@pytest.mark.parametrize("after", [1, 2, 60])
def test_a_gap_of_days_is_no_wrong_clock(tmp_path: Path, gap: int, before: int, after: int) -> None:
    events = [*ticks(before), *ticks(after, start=START + gap)]
    batches = read(written(tmp_path / "events", events))
    assert arrivals_of(batches) == [event["time"] for event in events]
    assert names_of(batches) == [event["prediction_id"] for event in events]


@pytest.mark.parametrize("before", [1, 2, 60])
def test_a_gap_of_a_year_is_none_either_unless_a_single_record_says_so(
    tmp_path: Path, before: int
) -> None:
    events = [*ticks(before), *ticks(2, start=START + YEAR)]
    assert names_of(read(written(tmp_path / "two", events))) == [
        event["prediction_id"] for event in events
    ]
    alone = names_of(read(written(tmp_path / "one", [*ticks(2), *ticks(1, start=START + YEAR)])))
    assert alone == ["p0", "p1", "clock_leap"]


def test_a_last_label_may_take_as_long_as_labels_may(tmp_path: Path) -> None:
    events = [prediction("p", START), outcome("p", START + 100 * DAY)]
    path = written(tmp_path / "events", events)
    assert names_of(list(source(path, wait=60 * DAY).batches())) == ["p", "p"]
    assert names_of(list(source(path, wait=HOUR).batches())) == ["p", "clock_leap"]


_times = st.one_of(
    st.none(),
    st.integers(0, 100),
    st.sampled_from([0, HOUR, HOUR + 200, DAY, 29 * DAY, 31 * DAY, YEAR, 60 * YEAR]),
)


@given(st.lists(_times, max_size=3 * LOOKAHEAD))
def test_clocks_neither_lose_nor_repeat_nor_move_a_record(times: list[int | None]) -> None:
    def given_lines() -> Iterator[Line]:
        for number, time in enumerate(times):
            yield Line(time, 0, number, b"", Rejected("as_it_was", str(time)))

    clock = Clock.of(grace=GRACE, wait=3 * GRACE)
    found: list[TimedLine] = list(clock.believed(given_lines()))
    assert [line.number for line in found] == list(range(len(times)))
    # A time is believed, or that of another record is; and only what leaps is rejected.
    assert all(line.time in {0, *times} for line in found)
    for line in found:
        assert isinstance(line.event, Rejected)
        if line.event.reason == "clock_leap":
            assert line.time < (times[line.number] or 0)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30).map(lambda junk: junk.replace(b"\x1f", b"")),
            st.sampled_from([b"", b" ", b"\r", b"{}", b"[]", b'{"type":"outcome"}', b"\xff"]),
            st.integers(0, 50).map(lambda n: lines([prediction(f"p{n}", START + n)], b"")),
        ),
        max_size=40,
    ),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_line_that_is_not_blank_is_one_record(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[bytes], files: int, zipped: bool
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for number in range(files):
        content = b"\n".join(given_lines[number::files])
        paths.append(folder / str(number))
        paths[-1].write_bytes(gzip.compress(content) if zipped else content)
    contents = (b"\n".join(given_lines[number::files]) for number in range(files))
    expected = [
        value.strip()
        for content in contents
        for value in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if value.strip()
    ]
    found = [value for batch in read(*paths) for value in batch.values]
    assert sorted(filter(None, found)) == sorted(expected)
