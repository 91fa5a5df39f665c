import asyncio
import gzip
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.eventfiles import (
    DAY,
    GRACE,
    HORIZON,
    HOUR,
    MINUTE,
    SECOND,
    SETTINGS,
    START,
    Event,
    by_time,
    lines,
    outcome,
    prediction,
    shuffled,
    traffic,
    written,
)
from support.truth import Log, truth_of

from abmonitor.document import document
from abmonitor.replay import Replayed, replay
from abmonitor.settings import Settings, load
from stream.files import EventFileError, Input


YEAR = 365 * DAY
KINDS = ("accepted", "duplicate", "late", "rejected", "ignored", "unmatched")
Told = dict[str, Any]


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(SETTINGS)
    return load(path)


async def told(declared: Settings, *paths: Path, complete: bool = False) -> Told:
    """The document of a replay."""
    return document((await found(declared, *paths, complete=complete)).view)


async def found(declared: Settings, *paths: Path, complete: bool = False) -> Replayed:
    return await replay(declared, [Input(path) for path in paths], complete=complete)


def offers(document: Told) -> Told:
    experiment: Told = document["experiments"]["offers"]
    return experiment


def counts(document: Told, which: str = "counts") -> dict[str, dict[str, int]]:
    return {name: facts[which] for name, facts in offers(document)["variants"].items()}


def results(document: Told) -> dict[str, int]:
    """How many events had which result, those that there were."""
    return {kind: document["events"][kind] for kind in KINDS if document["events"][kind]}


def actions(document: Told) -> list[str]:
    return [decision["action"] for decision in offers(document)["decisions"]]


def counted(events: Sequence[Event]) -> dict[str, dict[str, int]]:
    """The confusion counts of events of which each has its outcome in time."""
    truths = {e["prediction_id"]: e["actual"] for e in events if e["type"] == "outcome"}
    made = {v: {"tp": 0, "fp": 0, "tn": 0, "fn": 0} for v in ("old", "new")}
    for event in events:
        if event["type"] == "prediction":
            right = event["predicted"] == truths[event["prediction_id"]]
            cell = ("t" if right else "f") + ("p" if event["predicted"] else "n")
            made[event["variant"]][cell] += 1
    return made


# --- the contract ---------------------------------------------------------------------------------


async def test_a_replay_counts_what_a_plain_loop_counts(declared: Settings, tmp_path: Path) -> None:
    events = traffic(1_200)
    document = await told(declared, written(tmp_path / "events", events))
    assert counts(document) == counted(events)
    assert results(document) == {"accepted": 2_400}
    assert document["events"]["predictions"] == document["events"]["outcomes"] == 1_200
    final = [e for e in events if e["time"] + HORIZON + GRACE < events[-1]["time"]]
    names = {e["prediction_id"] for e in final if e["type"] == "prediction"}
    assert counts(document, "mature_counts") == counted(
        [event for event in events if event["prediction_id"] in names]
    )


async def test_the_document_has_everything_that_was_agreed(
    declared: Settings, tmp_path: Path
) -> None:
    document = await told(declared, written(tmp_path / "events", traffic(400)))
    assert set(KINDS) <= document["events"].keys()
    experiment = offers(document)
    assert {"state", "decisions", "variants", "comparisons"} <= experiment.keys()
    for facts in experiment["variants"].values():
        assert facts["counts"].keys() == facts["mature_counts"].keys() == {"tp", "fp", "tn", "fn"}
        assert {"predictions", "errors", "unlabelled"} <= facts.keys()
        assert {"rap", "roi", "accuracy"} <= facts["metrics"].keys()
        assert facts["latency_ms"].keys() == {"p50", "p95", "p99", "mean"}
    (comparison,) = experiment["comparisons"].values()
    assert {"estimate", "lower", "upper"} <= comparison["rap_difference"].keys()
    assert {"estimate", "lower", "upper"} <= comparison["net_business_value"].keys()
    assert isinstance(comparison["srm_p_value"], float)
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


async def test_a_harmful_treatment_is_rolled_back_once_with_reasons(
    declared: Settings, tmp_path: Path
) -> None:
    events = traffic(1_500)
    for event in events:
        if event.get("variant") == "new" and event["time"] > START + 20 * MINUTE:
            event["error"] = True
    document = await told(declared, written(tmp_path / "events", events))
    assert offers(document)["state"] == "rolled_back"
    assert actions(document) == ["rollback", "rolled_back"]
    decision, _ = offers(document)["decisions"]
    assert decision["treatment"] == "new"
    assert START + 20 * MINUTE < decision["at"] < START + 25 * MINUTE
    assert "error_rate" in decision["reasons"][0]
    comparison = offers(document)["comparisons"]["new"]
    assert (comparison["state"], comparison["verified"]) == ("rolled_back", False)


async def test_healthy_traffic_decides_nothing(declared: Settings, tmp_path: Path) -> None:
    events = [event for event in traffic(2_000) if event["time"] < START + 2_000 * SECOND]
    document = await told(declared, written(tmp_path / "events", events))
    assert actions(document) == []
    assert offers(document)["state"] == "healthy"


async def test_complete_files_make_every_label_final(declared: Settings, tmp_path: Path) -> None:
    events = traffic(300)
    document = await told(declared, written(tmp_path / "events", events), complete=True)
    assert counts(document, "mature_counts") == counted(events)


# --- files ----------------------------------------------------------------------------------------


async def test_plain_and_zipped_files_and_files_in_parts_give_the_same_document(
    declared: Settings, tmp_path: Path
) -> None:
    events = traffic(600)
    plain = await told(declared, written(tmp_path / "plain", events))
    assert plain == await told(declared, written(tmp_path / "zipped", events, zipped=True))
    asked = written(tmp_path / "asked", [e for e in events if e["type"] == "prediction"])
    answers = written(tmp_path / "told", [e for e in events if e["type"] == "outcome"], zipped=True)
    assert plain == await told(declared, asked, answers) == await told(declared, answers, asked)
    early, late = written(tmp_path / "1", events[:500]), written(tmp_path / "2", events[500:])
    assert plain == await told(declared, late, early)


async def test_times_may_be_written_as_people_do(declared: Settings, tmp_path: Path) -> None:
    events = traffic(300)
    plain = await told(declared, written(tmp_path / "plain", events))
    for number, event in enumerate(events):
        zone = timezone(timedelta(hours=number % 3))
        event["time"] = datetime.fromtimestamp(event["time"] / 1000, zone).isoformat()
    assert plain == await told(declared, written(tmp_path / "told", events))


async def test_a_file_given_twice_gives_duplicates_and_the_same_counts(
    declared: Settings, tmp_path: Path
) -> None:
    path = written(tmp_path / "events", traffic(500))
    once, twice = await told(declared, path), await told(declared, path, path)
    assert results(twice) == {"accepted": 1_000, "duplicate": 1_000}
    assert offers(once) == offers(twice)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n \r\n", gzip.compress(b"")],
    ids=["empty", "blank lines", "gzipped and empty"],
)
async def test_files_without_events_are_no_failure(
    declared: Settings, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "empty"
    path.write_bytes(content)
    document = await told(declared, path)
    assert results(document) == {}
    assert offers(document)["state"] == "collecting"
    assert actions(document) == []
    metrics = offers(document)["variants"]["new"]["metrics"]
    assert set(metrics.values()) == {None}


async def test_a_file_that_ends_in_the_middle_fails(declared: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "events.gz", traffic(900), zipped=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EventFileError, match=r"events\.gz"):
        await told(declared, path)


async def test_a_replay_that_is_cancelled_stops(declared: Settings, tmp_path: Path) -> None:
    path, seen = written(tmp_path / "events", traffic(9_000)), list[int]()

    def cancel(done: int) -> None:
        seen.append(done)
        running.cancel()

    running = asyncio.create_task(replay(declared, [Input(path)], progress=cancel))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(seen) == 1


# --- records that cannot be used ------------------------------------------------------------------

SPOILT: list[tuple[bytes, str]] = [
    (b"{", "malformed_json"),
    (b"\x00\x01\x02 binary \x7f junk", "malformed_json"),
    (b"\xff\xfe{", "malformed_json"),
    (lines([prediction("\udcff", START)], b"").replace(b"\\udcff", b"\xff"), "not_utf8"),
    (b"[]", "wrong_type"),
    (b"null", "wrong_type"),
    (b"7", "wrong_type"),
    (b"{}", "missing_field"),
    (b"[" * 100_000, "wrong_type"),
    (b'{"type": ' + b"[" * 100_000, "malformed_json"),
    (b'{"type": "prediction", "prediction_id": "x"}', "missing_field"),
    (b'{"type": "outcome", "prediction_id": "x"}', "missing_field"),
    (b'{"type": "feedback", "prediction_id": "x", "actual": true}', "unknown_type"),
    (b'{"type": "outcome", "prediction_id": "x", "actual": "yes"}', "wrong_type"),
    (b'{"type": "outcome", "prediction_id": "x", "actual": true, "time": -1}', "out_of_range"),
    (b'{"type": "outcome", "prediction_id": "x", "actual": true, "time": 1e400}', "out_of_range"),
    (b'{"type": "outcome", "prediction_id": "", "actual": true}', "out_of_range"),
    (lines([prediction("x", START, variant="newer")], b""), "unknown_variant"),
    (lines([prediction("x", START, predicted=None)], b""), "missing_field"),
    (lines([prediction("x", START, predicted="yes")], b""), "wrong_type"),
    (lines([prediction("x", START, latency_ms=-1)], b""), "out_of_range"),
    (lines([prediction("x", START, score=1.5)], b""), "out_of_range"),
    (lines([prediction("x", START + 20 * YEAR)], b""), "time_in_future"),
    (lines([prediction("x", START + YEAR)], b""), "clock_leap"),
    (b'{"pad": "' + b"x" * (1 << 20) + b'"}', "too_long"),
]


@pytest.mark.parametrize("place", [0, 80])
@pytest.mark.parametrize(("spoilt", "reason"), SPOILT)
async def test_a_record_that_cannot_be_used_is_counted_by_reason_and_changes_nothing_else(
    declared: Settings, tmp_path: Path, spoilt: bytes, reason: str, place: int
) -> None:
    events = traffic(40)
    good = await told(declared, written(tmp_path / "good", events))
    mixed = await found(
        declared, written(tmp_path / "mixed", [*events[:place], spoilt, *events[place:]])
    )
    document_ = document(mixed.view)
    assert document_["events"]["rejected_by_reason"] == {reason: 1}
    assert results(document_) == {"accepted": 80, "rejected": 1}
    assert offers(document_) == offers(good)
    (example,) = mixed.examples[reason]
    assert example.startswith(f"{tmp_path / 'mixed'}:{place + 1}: ")


async def test_dead_letters_are_kept_as_they_came(declared: Settings, tmp_path: Path) -> None:
    usable = prediction("a", START)
    kept = tmp_path / "letters"
    kept.write_bytes(b"earlier\n")
    path = written(tmp_path / "events", [b"{", usable, b"  [1] ", b"\xff", b"{"])
    again = await replay(declared, [Input(path)], dead_letters=kept)
    assert kept.read_bytes() == b"earlier\n{\n[1]\n\xff\n{\n"
    assert len(again.examples["malformed_json"]) == 3


async def test_some_examples_of_each_reason_are_enough(declared: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "events", [b"{"] * 50)
    replayed = await found(declared, path)
    assert replayed.examples == {
        "malformed_json": [f"{path}:{line}: Input data was truncated" for line in (1, 2, 3)]
    }


async def test_experiments_that_are_not_configured_are_ignored_and_named(
    declared: Settings, tmp_path: Path
) -> None:
    events = [*traffic(50), prediction("x", START + MINUTE, experiment="offer")]
    events.append(outcome("y", START + MINUTE, experiment="else"))
    replayed = await found(declared, written(tmp_path / "events", by_time(events)))
    assert results(document(replayed.view)) == {"accepted": 100, "ignored": 2}
    assert sorted(replayed.strangers) == ["else", "offer"]


async def test_outcomes_too_late_or_without_a_prediction_are_counted_as_that(
    declared: Settings, tmp_path: Path
) -> None:
    late = outcome("0-0", START + HORIZON + MINUTE)
    strange, waiting = outcome("nobody", START + 1), outcome("nobody yet", START + 40 * MINUTE)
    events = [event for event in traffic(60) if event["prediction_id"] != "0-0"]
    events += [prediction("0-0", START), late, strange, waiting]
    document = await told(declared, written(tmp_path / "events", by_time(events)))
    assert results(document) == {"accepted": 119, "late": 1, "unmatched": 2}


_ids = st.integers(0, 6).map(lambda number: f"id{number}")
_moments = st.integers(0, 12 * MINUTE).map(lambda after: START + after)
_wild = st.sampled_from([START + 30 * YEAR, START - HOUR, START + 3 * HOUR])
_at = st.one_of(_moments, _moments, _moments, _wild)
_records = st.one_of(
    st.builds(prediction, _ids, _at, st.sampled_from(["old", "new", "new", "none"])),
    st.builds(outcome, _ids, _at, actual=st.booleans()),
    st.builds(outcome, _ids, _at, actual=st.booleans()),
    st.builds(lambda name, at: prediction(name, at, experiment="strange"), _ids, _at),
    st.sampled_from([spoilt for spoilt, _ in SPOILT if len(spoilt) < 200]),
    # Not what an archive begins with.
    st.binary(max_size=20).map(lambda junk: junk.replace(b"\n", b"").replace(b"\x1f", b"")),
    st.just(b""),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=st.lists(_records, max_size=60),
    end=st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    files=st.integers(1, 3),
    complete=st.booleans(),
)
async def test_every_line_that_is_not_blank_has_exactly_one_result(
    declared: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    records: list[Event | bytes],
    end: bytes,
    files: int,
    complete: bool,
) -> None:
    folder, paths = tmp_path_factory.mktemp("mixture"), []
    for number in range(files):
        paths.append(folder / str(number))
        paths[-1].write_bytes(lines(records[number::files], end).removesuffix(b"\n"))
    written_lines = [line for path in paths for line in path.read_bytes().split(b"\n")]
    document = await told(declared, *paths, complete=complete)
    assert sum(results(document).values()) == sum(bool(line.strip()) for line in written_lines)
    events = document["events"]
    assert events["predictions"] + events["outcomes"] == events["accepted"]
    assert sum(events["rejected_by_reason"].values()) == events["rejected"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=st.lists(
        st.one_of(
            st.builds(prediction, _ids, _moments, st.sampled_from(["old", "new"])),
            st.builds(outcome, _ids, _moments, actual=st.booleans()),
        ),
        max_size=40,
    )
)
async def test_counts_equal_the_reference_model(
    declared: Settings, tmp_path_factory: pytest.TempPathFactory, records: list[Event]
) -> None:
    path = written(tmp_path_factory.mktemp("reference") / "events", records)
    document = await told(declared, path)
    log: Log = [(event["time"], event) for event in records]  # the log takes the running maximum
    truth = truth_of(log, declared.experiments, early_for=int(declared.early_for))
    assert document["events"]["predictions"] == truth.tallies["predictions"]
    assert document["events"]["outcomes"] == truth.tallies["outcomes"]
    assert document["events"]["duplicate"] == truth.tallies["duplicate"]
    assert document["events"]["late"] == truth.tallies["late"]
    assert document["events"]["unmatched"] == truth.tallies["unmatched"] + truth.waiting
    for variant, cells in counts(document).items():
        facts = truth.totals["offers", variant]
        assert cells == {name: facts.cells.get(name, (0,))[0] for name in cells}


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_a_file_shuffled_within_grace_gives_the_same_counts(
    declared: Settings, tmp_path: Path, seed: int
) -> None:
    events = traffic(900, seed=seed, gap=2 * SECOND)
    first = await told(declared, written(tmp_path / "sorted", events))
    again = await told(declared, written(tmp_path / "mixed", shuffled(events, GRACE, seed)))
    assert counts(again) == counts(first) == counted(events)
    assert counts(again, "mature_counts") == counts(first, "mature_counts")
    assert results(again) == results(first)


async def test_disorder_within_grace_is_no_reason_to_lose_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS.replace("grace: 5m", "grace: 45m"))
    patient = load(path)
    events = traffic(400, gap=10 * SECOND)
    mixed = written(tmp_path / "events", shuffled(events, 45 * MINUTE, 1))
    document = await told(patient, mixed)
    assert results(document) == {"accepted": 800}
    assert counts(document) == counted(events)


async def test_predictions_before_outcomes_in_one_file_are_told_apart_from_disorder(
    declared: Settings, tmp_path: Path
) -> None:
    events = traffic(800, gap=5 * SECOND)
    grouped = sorted(events, key=lambda event: str(event["type"]), reverse=True)
    replayed = await found(declared, written(tmp_path / "events", grouped))
    assert replayed.source.disordered > 500


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 600, 1200])
@pytest.mark.parametrize("at", [START + YEAR, START + 50 * YEAR])
@pytest.mark.parametrize("kind", [prediction, outcome])
async def test_one_clock_that_is_ahead_spoils_nothing(
    declared: Settings, tmp_path: Path, place: int, at: int, kind: Any
) -> None:
    events = traffic(600)
    good = await told(declared, written(tmp_path / "good", events))
    events.insert(place, kind("wrong", at))
    document = await told(declared, written(tmp_path / "wrong", events))
    assert results(document) == {"accepted": 1_200, "rejected": 1}
    assert offers(document) == offers(good)


@pytest.mark.parametrize("place", [0, 600, 1200])
@pytest.mark.parametrize("at", [0, START - 2 * YEAR])
async def test_one_clock_that_is_behind_spoils_nothing(
    declared: Settings, tmp_path: Path, place: int, at: int
) -> None:
    events = traffic(600)
    good = await told(declared, written(tmp_path / "good", events))
    events.insert(place, outcome("wrong", at))
    document = await told(declared, written(tmp_path / "wrong", events))
    assert results(document) == {"accepted": 1_200, "unmatched": 1}
    assert offers(document) == offers(good)


async def test_a_gap_of_days_is_no_wrong_clock(declared: Settings, tmp_path: Path) -> None:
    one, two = traffic(400), traffic(400, seed=1, start=START + 5 * DAY)
    document = await told(declared, written(tmp_path / "events", [*one, *two]))
    assert results(document) == {"accepted": 1_600}
    assert counts(document) == counted([*one, *two])
    assert "rollback" not in actions(document)


async def test_what_happened_just_before_a_gap_is_judged_as_if_time_had_gone_on(
    tmp_path: Path,
) -> None:
    # Panes expire two hours behind the watermark, which a gap makes leap.
    events = traffic(900)
    end = START + 900 * SECOND
    for event in events:
        if event.get("variant") == "new" and event["time"] >= end - 5 * SECOND:
            event["latency_ms"] = 60_000.0
    path = tmp_path / "settings.yaml"
    rail = "{metric: latency_p99_ms, window: 10m, max: 1000, min_count: 20, consecutive: 5}"
    path.write_text(SETTINGS + f"      - {rail}\n")
    events = [event for event in events if event["time"] < end]
    later = traffic(100, seed=1, start=START + 6 * HOUR)
    document = await told(load(path), written(tmp_path / "events", [*events, *later]))
    assert actions(document)[0] == "rollback"
    assert offers(document)["decisions"][0]["at"] == end + 4 * MINUTE


# --- labels ---------------------------------------------------------------------------------------


def without_labels(events: Sequence[Event], after: int = 0) -> list[Event]:
    return [e for e in events if not (e["type"] == "outcome" and e["time"] > after)]


async def test_without_labels_nothing_is_known_that_needs_them(
    declared: Settings, tmp_path: Path
) -> None:
    document = await told(declared, written(tmp_path / "events", without_labels(traffic(3_000))))
    for facts in offers(document)["variants"].values():
        assert facts["unlabelled"] == facts["predictions"] > 1_000
        assert facts["mature_predictions"] == 0
        assert not any(facts["mature_counts"].values())
        labelled = ("rap", "roi", "accuracy", "precision", "recall", "profit_per_prediction")
        assert {facts["metrics"][name] for name in labelled} == {None}
        assert facts["latency_ms"]["p50"] > 0
    comparison = offers(document)["comparisons"]["new"]
    assert comparison["rap_difference"] == {"estimate": None, "lower": None, "upper": None}
    assert comparison["net_business_value"]["estimate"] is None
    assert comparison["roi_range"] is None
    assert "rollback" not in actions(document)


async def test_labels_that_stop_hold_and_never_roll_back(
    declared: Settings, tmp_path: Path
) -> None:
    events = without_labels(traffic(7_000), START + 40 * MINUTE)
    document = await told(declared, written(tmp_path / "events", events))
    assert offers(document)["state"] == "hold"
    assert actions(document) == ["hold"]
    assert "labels stalled" in offers(document)["decisions"][0]["reasons"][0]
    for facts in offers(document)["variants"].values():
        assert facts["mature_predictions"] < 1_300  # of about 3,500


async def test_a_prediction_whose_outcome_fell_into_an_outage_is_not_taken_for_negative(
    declared: Settings, tmp_path: Path
) -> None:
    events = without_labels(traffic(3_000), START + 25 * MINUTE)
    document = await told(declared, written(tmp_path / "events", events))
    seen, final = counts(document), counts(document, "mature_counts")
    # Every prediction has an outcome here: what is final without one was made up.
    assert all(
        final[variant][cell] <= seen[variant][cell] for variant in seen for cell in seen[variant]
    )


async def test_an_outage_ends_at_the_same_prediction_in_a_shuffled_file(
    declared: Settings, tmp_path: Path
) -> None:
    events = without_labels(traffic(3_000), START + 25 * MINUTE)
    first = await told(declared, written(tmp_path / "sorted", events))
    again = await told(declared, written(tmp_path / "mixed", shuffled(events, GRACE, 3)))
    assert counts(again) == counts(first)
    assert counts(again, "mature_counts") == counts(first, "mature_counts")


@pytest.mark.parametrize("predicted", [True, False])
@pytest.mark.parametrize("actual", [True, False])
async def test_one_class_only_leaves_unknown_what_it_does_not_tell(
    declared: Settings, tmp_path: Path, predicted: bool, actual: bool
) -> None:
    events = traffic(900)
    for event in events:
        if event["type"] == "prediction":
            event["predicted"] = predicted
        else:
            event["actual"] = actual
    document = await told(declared, written(tmp_path / "events", events), complete=True)
    for facts in offers(document)["variants"].values():
        metrics = facts["metrics"]
        assert (metrics["recall"] is None) == (metrics["rap"] is None) == (not actual)
        assert (metrics["specificity"] is None) == actual
        assert (metrics["precision"] is None) == (metrics["roi"] is None) == (not predicted)
        assert metrics["accuracy"] == float(predicted == actual)


async def test_a_variant_without_predictions_is_unknown_and_not_rolled_back(
    declared: Settings, tmp_path: Path
) -> None:
    events = [event for event in traffic(1_500) if event["time"] < START + 1_500 * SECOND]
    for event in events:
        if event["type"] == "prediction":
            event["variant"] = "old"
    document = await told(declared, written(tmp_path / "events", events))
    facts = offers(document)["variants"]["new"]
    assert facts["predictions"] == 0
    assert set(facts["metrics"].values()) == {None}
    assert set(facts["latency_ms"].values()) == {None}
    assert offers(document)["state"] == "hold"
    assert "rollback" not in actions(document)


async def test_only_outcomes_are_all_unmatched(declared: Settings, tmp_path: Path) -> None:
    events = [event for event in traffic(300) if event["type"] == "outcome"]
    document = await told(declared, written(tmp_path / "events", events))
    assert results(document) == {"unmatched": 300}
    assert actions(document) == []


# --- size -----------------------------------------------------------------------------------------

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from abmonitor.replay import replay
from abmonitor.settings import load
from stream.files import Input
found = asyncio.run(replay(load(Path(sys.argv[1])), [Input(Path(sys.argv[2]))]))
status = Path("/proc/self/status").read_text()
print(found.view.fleet.tallies["predictions"], status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the kernel of Linux")
def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(
        SETTINGS.replace("horizon: 10m, grace: 5m", "horizon: 1m, grace: 10s, late_for: 10s")
    )

    def most(count: int) -> int:
        """The memory (KiB) that a replay of ten minutes with `count` predictions needs at most."""
        events = traffic(count, gap=10 * MINUTE // count, horizon=MINUTE)
        path = written(tmp_path / "events", events)
        command = [sys.executable, "-c", _PROGRAM, str(config), str(path)]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        predictions, used = map(int, done.stdout.split())
        assert predictions == count
        return used

    small, large = most(10_000), most(60_000)
    assert large - small < 20 << 10  # 100,000 events more are about 100 MiB once they are decoded
