"""What the settings may say about workers."""

from pathlib import Path
from typing import Any

import pytest

from abmonitor.settings import SettingsError, load
from abmonitor.worker_settings import WorkerSettings
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE


TEXT = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {horizon: 10m, grace: 5m}
  - name: quick
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {horizon: 2m, grace: 30s}
"""


def fields_with_problems(wait: int = HOUR, **given: Any) -> list[str]:
    return [field for field, _ in WorkerSettings(**given).problems(wait)]


def problem(wait: int = HOUR, **given: Any) -> str:
    ((_, message),) = WorkerSettings(**given).problems(wait)
    return message


def test_what_is_not_given_suits_most() -> None:
    given = WorkerSettings()
    assert list(given.problems(HOUR)) == []
    assert (given.skew(HOUR), given.clock_skew, given.session_timeout) == (MINUTE, 5_000, 10_000)
    assert list(given.problems(6_000)) == []
    assert given.skew(6_000) == 6_000
    assert given.rejected_limit == 0.05


@pytest.mark.parametrize(
    ("skew", "accepted"), [(0, False), (1, True), (HOUR, True), (HOUR + 1, False)]
)
def test_a_topic_may_run_ahead_by_the_shortest_wait_at_most(skew: int, accepted: bool) -> None:
    assert fields_with_problems(max_skew=Duration(skew)) == ([] if accepted else ["max_skew"])


@pytest.mark.parametrize(("skew", "accepted"), [(0, True), (HOUR, True), (HOUR + 1, False)])
def test_clocks_may_differ_by_the_shortest_wait_at_most(skew: int, accepted: bool) -> None:
    assert fields_with_problems(clock_skew=Duration(skew)) == ([] if accepted else ["clock_skew"])


@pytest.mark.parametrize(
    ("timeout", "accepted"),
    [(5_999, False), (6_000, True), (5 * MINUTE, True), (5 * MINUTE + 1, False)],
)
def test_the_session_time_out_is_one_that_kafka_takes(timeout: int, accepted: bool) -> None:
    found = fields_with_problems(session_timeout=Duration(timeout))
    assert found == ([] if accepted else ["session_timeout"])


def test_problems_name_what_was_expected_and_what_was_given() -> None:
    assert problem(max_skew=Duration(2 * HOUR)) == (
        "expected a time above 0, at most the shortest horizon + grace (1h), got 2h"
    )
    assert problem(clock_skew=Duration(2 * HOUR)) == (
        "expected at most the shortest horizon + grace (1h), got 2h"
    )
    assert problem(session_timeout=Duration(1_000)) == "expected 6s to 5m, got 1s"


def test_all_problems_are_told_at_once() -> None:
    found = fields_with_problems(
        max_skew=Duration(0), clock_skew=Duration(2 * HOUR), session_timeout=Duration(0)
    )
    assert found == ["max_skew", "clock_skew", "session_timeout"]


# --- in a file ------------------------------------------------------------------------------------


def mistakes(tmp_path: Path, worker: str) -> list[str]:
    path = tmp_path / "settings.yaml"
    path.write_text(f"{TEXT}worker: {worker}\n")
    with pytest.raises(SettingsError) as told:
        load(path)
    return [mistake.message for mistake in told.value.mistakes]


def test_a_file_gives_them_as_durations(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"{TEXT}worker: {{max_skew: 90s, clock_skew: 0s, rejected_limit: 1}}\n")
    found = load(path).worker
    assert (found.max_skew, found.clock_skew, found.rejected_limit) == (90_000, 0, 1)


def test_the_experiment_that_waits_least_sets_the_limit(tmp_path: Path) -> None:
    (message,) = mistakes(tmp_path, "{max_skew: 3m}")
    assert "(2m30s)" in message


@pytest.mark.parametrize("limit", ["0", "-0.1", "1.01", "often"])
def test_the_limit_of_rejected_events_is_a_share(tmp_path: Path, limit: str) -> None:
    (message,) = mistakes(tmp_path, f"{{rejected_limit: {limit}}}")
    assert "expected" in message.lower()


def test_an_unknown_field_is_told_and_the_others_are_still_checked(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "{max_skew: 3m, treads: 4}")
    assert len(found) == 2
    assert any("treads" in message for message in found)


def test_where_waits_cannot_be_known_nothing_is_said_of_skew(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(TEXT.replace("horizon: 2m", "horizon: soon") + "worker: {max_skew: 3m}\n")
    with pytest.raises(SettingsError) as told:
        load(path)
    assert len(told.value.mistakes) == 1
