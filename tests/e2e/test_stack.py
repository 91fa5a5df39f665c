"""The demo stack of deploy/ on real servers: traffic, a defect, a rollback, and what people were told of it."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.compose import DEPLOY
from support.dashboards import DASHBOARDS, unanswered
from support.servers.base import or_skip
from support.stack import WRITES, Stack
from support.stack_watcher import MONITORS, PAUSE_S, Alert, Watcher, asked


pytestmark = pytest.mark.serial

LOAD = "/etc/abmonitor/load.yaml"
DEFECT = "at: 3m"
"""When the load breaks in the demo; here it comes sooner, and at a known moment of the minute."""
GOOD_S = 50.0
"""How long all is well at least."""
IN_MINUTE_S = 20
"""The defect comes so long after a minute began: this minute's labels are final 35 s after its end."""

EXPERIMENT, CONTROL, TREATMENT = "offers", "rules-v1", "ranker-v2"
QUIET = {"AbmonitorWatchdog"}
"""What fires while all is well: it shows that alerts get through."""

TOLD = ("chat", "warning: AbmonitorRollback (offers)")


@dataclass
class Story:
    """What was seen."""

    targets: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    in_good_times: dict[str, Alert] = field(default_factory=dict)
    """Alerts of either server before the defect, by name."""
    ever: dict[str, Alert] = field(default_factory=dict)
    """Alerts of either server at any time, by name."""
    leader: str = ""
    """Who led, and was killed."""
    successor: str = ""
    split: dict[str, dict[str, float]] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    rollbacks: list[Alert] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    """Questions of the dashboards that get no data."""
    runbooks: list[str] = field(default_factory=list)
    """What is to be found where the alerts of the rollback say what to do."""
    told: list[tuple[str, str]] = field(default_factory=list)
    """Messages that reached people: who got it, and its headline."""
    writes: list[str] = field(default_factory=list)
    """What services of ours wrote to the file system."""
    again: dict[str, dict[str, float]] = field(default_factory=dict)
    """The split once the treatment was armed again, and given its traffic back."""
    armed: dict[str, Any] = field(default_factory=dict)
    """How the treatment stood then."""


def defect_after(now: float) -> float:
    """How many seconds after `now` (epoch seconds) the defect comes."""
    return GOOD_S + (IN_MINUTE_S - now - GOOD_S) % 60


def break_sooner(text: str) -> str:
    """The load's file, with the defect some seconds from now."""
    assert DEFECT in text
    return text.replace(DEFECT, f"at: {defect_after(time.time()):.0f}s")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The whole story, told once; every test looks at a part of it."""
    with or_skip():
        stack = Stack(edits={LOAD: break_sooner})
    with stack:
        yield told(stack)


def told(stack: Stack) -> Story:
    story = Story()
    watcher = Watcher(stack, EXPERIMENT)
    good_times(watcher, story, until=time.monotonic() + GOOD_S)
    lose_the_leader(watcher, story)
    watcher.until(lambda: rolled_back(watcher), "the treatment is rolled back, and seen to be gone")
    story.split = asked(f"{watcher.router}/split")
    watcher.until(
        lambda: len(watcher.rollbacks()) == 2, "AbmonitorRollback fires from both sources"
    )
    watcher.until(
        lambda: all(each["status"]["inhibitedBy"] for each in watcher.rollbacks()[1:]),
        "Alertmanager silences what Prometheus says, too",
    )
    for alert in watcher.rollbacks():
        path = urlsplit(alert["annotations"]["runbook_url"]).path
        with urllib.request.urlopen(f"{watcher.monitor('monitor-1')}{path}", timeout=5) as answer:
            story.runbooks.append(answer.read().decode())
    story.rollbacks, story.status = watcher.rollbacks(), watcher.treatment()
    wanted = f"{watcher.monitor('monitor-1')}/api/v1/decisions?experiment={EXPERIMENT}"
    story.decisions = asked(wanted)["decisions"]
    story.unanswered = unanswered(watcher.prometheus, DASHBOARDS, {"experiment": EXPERIMENT})
    watcher.until(lambda: TOLD in watcher.messages(), "chat is told of the rollback")
    story.told = watcher.messages()
    try_again(watcher, story)
    # When a group is first evaluated depends on where its file lies: within its interval.
    watcher.until(
        lambda: all(rule["health"] != "unknown" for rule in rules(watcher)),
        "every rule was evaluated",
    )
    story.rules = rules(watcher)
    story.ever = watcher.ever
    logs = [process.log.read_text() for process in stack.processes.values()]
    story.writes = [line for log in logs for line in log.splitlines() if WRITES in line]
    return story


def good_times(watcher: Watcher, story: Story, until: float) -> None:
    """Look at alerts while all is well, and at its end whether all is looked at."""
    while time.monotonic() < until:
        story.in_good_times |= watcher.note_alerts()
        time.sleep(PAUSE_S)
    story.targets = asked(f"{watcher.prometheus}/api/v1/targets")["data"]["activeTargets"]


def rules(watcher: Watcher) -> list[dict[str, Any]]:
    """All rules of Prometheus, and how their latest evaluation went."""
    groups = asked(f"{watcher.prometheus}/api/v1/rules")["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def lose_the_leader(watcher: Watcher, story: Story) -> None:
    """Kill the monitor that leads, and start it again, as the container engine does."""
    watcher.until(lambda: watcher.leader() is not None, "one monitor leads")
    leader = watcher.leader()
    assert leader is not None
    process = watcher.stack.processes[leader]
    process.kill()
    story.leader = leader
    watcher.until(lambda: watcher.leader() is not None, "the other monitor leads")
    story.successor = watcher.leader() or ""
    process.start()


def try_again(watcher: Watcher, story: Story) -> None:
    """Arm the treatment again and give it its traffic back, as `deploy/stack.sh again --force` does."""
    stack = watcher.stack
    operator = {
        "ABMONITOR_URL": watcher.monitor("monitor-1"),
        "ABMONITOR_TOKEN": stack.secret("operator-token"),
    }
    rearm = ["rearm", EXPERIMENT, "--treatment", TREATMENT, "--reason", "tried again", "--force"]
    script = [DEPLOY / "stack" / "give_back.py", f"{watcher.router}/rearm"]
    given = [*script, stack.secrets / "rollback-secret", EXPERIMENT, TREATMENT]
    for command in (["-m", "abmonitor", *rearm], given):
        subprocess.run([sys.executable, *command], check=True, env={**os.environ, **operator})
    story.again = asked(f"{watcher.router}/split")
    story.armed = watcher.treatment()


def rolled_back(watcher: Watcher) -> bool:
    found = watcher.treatment()
    return found.get("state") == "rolled_back" and bool(found["verified"])


def test_prometheus_scrapes_every_monitor_and_worker(story: Story) -> None:
    jobs = sorted(each["labels"]["job"] for each in story.targets)
    assert jobs == ["abmonitor-monitor"] * 2 + ["abmonitor-worker"] * 2 + ["prometheus"]
    assert {each["health"] for each in story.targets} == {"up"}, story.targets


def test_every_rule_can_be_evaluated(story: Story) -> None:
    assert any(rule["name"] == "AbmonitorRollback" for rule in story.rules)
    assert [rule for rule in story.rules if rule["health"] != "ok"] == []


def test_nothing_fires_while_all_is_well_but_the_watchdog(story: Story) -> None:
    assert set(story.in_good_times) == QUIET, story.in_good_times


def test_when_the_leader_is_killed_the_other_monitor_takes_over(story: Story) -> None:
    assert {story.leader, story.successor} == set(MONITORS)


def test_the_router_gives_the_treatment_nobody(story: Story) -> None:
    assert story.split == {EXPERIMENT: {CONTROL: 1, TREATMENT: 0}}


def test_the_traffic_is_seen_to_be_gone(story: Story) -> None:
    assert (story.status["state"], story.status["verified"]) == ("rolled_back", True)


def test_the_rollback_fires_from_both_sources_and_people_are_told_once(story: Story) -> None:
    of_monitor, of_prometheus = story.rollbacks
    for alert, source in ((of_monitor, "monitor"), (of_prometheus, "prometheus")):
        labels = alert["labels"]
        assert labels["source"] == source
        assert (labels["experiment"], labels["variant"]) == (EXPERIMENT, TREATMENT)
    assert of_monitor["status"]["state"] == "active"
    assert of_prometheus["status"]["inhibitedBy"] == [of_monitor["fingerprint"]]


def test_both_alerts_lead_to_the_page_that_says_what_to_do(story: Story) -> None:
    page = (DEPLOY / "runbooks" / "AbmonitorRollback.md").read_text()
    assert story.runbooks == [page, page]


def test_nothing_else_fires_for_a_rollback_that_went_well(story: Story) -> None:
    assert set(story.ever) == {*QUIET, "AbmonitorRollback"}, story.ever


def test_a_person_can_arm_the_treatment_again_and_give_it_its_traffic(story: Story) -> None:
    assert story.again == {EXPERIMENT: {CONTROL: 0.5, TREATMENT: 0.5}}
    assert story.armed["epoch"] == story.status["epoch"] + 1
    assert story.armed["state"] in {"collecting", "hold"}


def test_people_are_told_once(story: Story) -> None:
    assert story.told.count(TOLD) == 1
    assert [each for each in story.told if each[0] == "pager"] == []


def test_every_question_of_the_dashboards_is_answered(story: Story) -> None:
    assert story.unanswered == []


def test_nothing_of_ours_needs_a_file_system_that_can_be_written_to(story: Story) -> None:
    assert story.writes == []


def test_the_audit_says_what_was_done_and_why(story: Story) -> None:
    actions = [each["action"] for each in story.decisions]
    assert actions[-3:] == ["rollback", "accepted", "rolled_back"], story.decisions
    (rollback,) = [each for each in story.decisions if each["action"] == "rollback"]
    assert (rollback["experiment"], rollback["treatment"]) == (EXPERIMENT, TREATMENT)
    assert any(reason.startswith("rap") for reason in rollback["reasons"]), rollback
    hashes = ["", *(each["hash"] for each in story.decisions)]
    assert [each["previous"] for each in story.decisions] == hashes[:-1]
