"""What a worker tells of itself, and when it is ready."""

import math
from importlib.metadata import version
from typing import Any

import pytest
from prometheus_client import generate_latest

from abmonitor.worker_telemetry import (
    LEAST_EVENTS,
    SPAN_S,
    RejectedShare,
    ShardStatus,
    WorkerStatus,
    WorkerTelemetry,
)
from stream.batch import BatchReport
from stream.intake import IntakeState


NOW = 1_700_000_000_000
LIMIT = 0.05


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry(clock: Clock) -> WorkerTelemetry:
    return WorkerTelemetry(LIMIT, clock)


def value(telemetry: WorkerTelemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(f"abmonitor_worker_{name}", labels)


def shard(number: int = 0, **given: Any) -> ShardStatus:
    fields: dict[str, Any] = {
        "state": IntakeState.RUNNING,
        "problem": None,
        "lag": {"predictions": 5, "outcomes": 0},
        "watermark": NOW - 2_500,
        "pending": 40,
    }
    return ShardStatus(number, **fields | given)


def well(*shards: ShardStatus, **given: Any) -> WorkerStatus:
    return WorkerStatus(shards or (shard(),), **{"joined": True, "store_up": True} | given)


# --- events ---------------------------------------------------------------------------------------


def test_events_are_counted_by_result_and_reason(telemetry: WorkerTelemetry) -> None:
    for _ in range(2):
        telemetry.note(BatchReport({"predictions": 7, "rejected:wrong_type": 2, "late": 1}))
    assert value(telemetry, "events_total", result="predictions", reason="") == 14
    assert value(telemetry, "events_total", result="rejected", reason="wrong_type") == 4
    assert value(telemetry, "events_total", result="late", reason="") == 2


def test_what_batches_took_and_met_is_added_up(telemetry: WorkerTelemetry) -> None:
    report = BatchReport(
        {"predictions": 1}, conflicts=2, commit_seconds=[0.002, 0.2], seconds=0.3, trimmed=9
    )
    telemetry.note(report)
    telemetry.note(BatchReport(rewind={"events": 0}))
    assert value(telemetry, "commit_conflicts_total") == 2
    assert value(telemetry, "trimmed_records_total") == 9
    assert value(telemetry, "rewinds_total") == 1
    assert value(telemetry, "commit_seconds_count") == 2
    assert value(telemetry, "commit_seconds_bucket", le="0.0025") == 1
    assert value(telemetry, "batch_seconds_sum") == 0.3


def test_batches_without_events_say_nothing_of_how_long_a_batch_takes(
    telemetry: WorkerTelemetry,
) -> None:
    telemetry.note(BatchReport(seconds=0.001, commits=1, commit_seconds=[0.001]))
    assert value(telemetry, "batch_seconds_count") == 0
    assert value(telemetry, "commit_seconds_count") == 1


def test_the_share_of_outcomes_that_met_their_prediction(telemetry: WorkerTelemetry) -> None:
    assert math.isnan(value(telemetry, "join_ratio") or 0)
    telemetry.note(BatchReport({"predictions": 50}))
    assert math.isnan(value(telemetry, "join_ratio") or 0)
    telemetry.note(BatchReport({"outcomes": 6, "late": 1, "unmatched": 3, "duplicate": 9}))
    assert value(telemetry, "join_ratio") == 0.6


def test_a_worker_says_which_version_runs(telemetry: WorkerTelemetry) -> None:
    where = {"version": version("abmonitor")}
    assert telemetry.registry.get_sample_value("abmonitor_build_info", where) == 1


def test_no_name_is_exposed_without_help_and_unit(telemetry: WorkerTelemetry) -> None:
    telemetry.note(BatchReport({"predictions": 1}))
    telemetry.look_at(well(), NOW)
    text = generate_latest(telemetry.registry).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    own = names - {"abmonitor_build_info"}
    assert all(name.startswith("abmonitor_worker_") for name in own)
    assert all(len(line.split(maxsplit=3)) == 4 for line in text.splitlines() if "HELP" in line)


# --- the share of rejected events -----------------------------------------------------------------


def test_of_few_events_a_share_says_nothing(clock: Clock) -> None:
    share = RejectedShare(clock)
    share.add(LEAST_EVENTS - 1, LEAST_EVENTS - 1)
    assert share.value is None
    share.add(0, 1)
    assert share.value == (LEAST_EVENTS - 1) / LEAST_EVENTS


def test_old_events_no_longer_count(clock: Clock) -> None:
    share = RejectedShare(clock)
    share.add(100, 100)
    clock.now += SPAN_S
    share.add(0, 300)
    assert share.value == 0.25
    clock.now += 0.001
    assert share.value == 0
    clock.now += SPAN_S
    assert share.value is None


def test_nothing_is_kept_of_what_is_old(clock: Clock) -> None:
    share = RejectedShare(clock)
    for _ in range(1_000):
        share.add(0, 10)
        clock.now += 1
    assert share.value == 0
    assert len(share._seen) <= SPAN_S + 1


# --- readiness ------------------------------------------------------------------------------------


def test_before_anything_is_known_it_is_starting(telemetry: WorkerTelemetry) -> None:
    assert telemetry.problem() == "starting"


def test_what_keeps_it_from_starting_comes_first(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(WorkerStatus(problem="waiting for Kafka"), NOW)
    assert telemetry.problem() == "waiting for Kafka"


def test_it_is_ready_when_all_its_shards_run(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(well(shard(0), shard(3)), NOW)
    assert telemetry.problem() is None


def test_a_worker_that_was_given_no_shard_is_ready(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(WorkerStatus((), joined=True, store_up=True, rebalances=1), NOW)
    assert telemetry.problem() is None


def test_it_is_not_ready_while_the_group_is_divided_anew(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(well(joined=False), NOW)
    assert telemetry.problem() == (
        "the consumer group has not given this worker its partitions yet"
    )


@pytest.mark.parametrize("state", [s for s in IntakeState if s is not IntakeState.RUNNING])
def test_a_shard_that_does_not_run_is_named_with_its_problem(
    telemetry: WorkerTelemetry, state: IntakeState
) -> None:
    telemetry.look_at(well(shard(0), shard(2, state=state, problem="it is away")), NOW)
    assert telemetry.problem() == "partition 2: it is away"
    telemetry.look_at(well(shard(2, state=state)), NOW)
    assert telemetry.problem() == f"partition 2: {state.value}"


def test_a_redis_that_does_not_answer_is_told(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(well(store_up=False), NOW)
    assert telemetry.problem() == "Redis does not answer"
    assert value(telemetry, "redis_up") == 0
    telemetry.look_at(well(), NOW)
    assert telemetry.problem() is None
    assert value(telemetry, "redis_up") == 1


def test_too_many_rejected_events_are_told_until_they_are_old(
    telemetry: WorkerTelemetry, clock: Clock
) -> None:
    telemetry.note(BatchReport({"predictions": 95, "rejected:wrong_type": 5}))
    telemetry.look_at(well(), NOW)
    assert telemetry.problem() is None  # the limit itself is tolerated
    telemetry.note(BatchReport({"rejected:missing_field": 1}))
    told = telemetry.problem() or ""
    assert told.startswith("5.9% of the latest events cannot be used, more than 5.0%")
    assert "abmonitor dead-letters" in told
    telemetry.look_at(well(), NOW)
    assert value(telemetry, "rejected_ratio") == pytest.approx(6 / 101)
    clock.now += SPAN_S + 1
    telemetry.look_at(well(), NOW)
    assert telemetry.problem() is None
    assert math.isnan(value(telemetry, "rejected_ratio") or 0)


# --- shards ---------------------------------------------------------------------------------------


def test_each_shard_shows_how_it_is_doing(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(well(shard(3, state=IntakeState.STORE_AWAY)), NOW)
    assert value(telemetry, "lag_records", topic="predictions", partition="3") == 5
    assert value(telemetry, "lag_records", topic="outcomes", partition="3") == 0
    assert value(telemetry, "watermark_age_seconds", partition="3") == 2.5
    assert value(telemetry, "pending_predictions", partition="3") == 40
    shown = {
        state: value(telemetry, "partition_state", partition="3", state=state.value)
        for state in IntakeState
    }
    assert shown == {state: state is IntakeState.STORE_AWAY for state in IntakeState}


def test_what_is_not_known_is_not_shown(telemetry: WorkerTelemetry) -> None:
    telemetry.look_at(well(shard(0, lag={}, watermark=None, pending=None)), NOW)
    assert value(telemetry, "lag_records", topic="predictions", partition="0") is None
    assert value(telemetry, "watermark_age_seconds", partition="0") is None
    assert value(telemetry, "pending_predictions", partition="0") is None


def test_a_shard_that_moved_to_another_worker_is_not_shown_any_more(
    telemetry: WorkerTelemetry,
) -> None:
    telemetry.look_at(well(shard(0), shard(1)), NOW)
    telemetry.look_at(well(shard(1)), NOW)
    text = generate_latest(telemetry.registry).decode()
    assert 'partition="0"' not in text
    assert 'partition="1"' in text


def test_rebalances_are_counted_once_each(telemetry: WorkerTelemetry) -> None:
    for seen in (1, 1, 3, 3):
        telemetry.look_at(well(rebalances=seen), NOW)
    assert value(telemetry, "rebalances_total") == 3


def test_rejected_events_are_told_once() -> None:
    telemetry = WorkerTelemetry(0.05, lambda: 0.0)
    for _ in range(2):
        telemetry.note(BatchReport(tallies={"rejected:empty": 3, "predictions": 4}))
    assert telemetry.rejected() == 6
    assert telemetry.rejected() == 0
