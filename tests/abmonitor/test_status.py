"""The status: what each number is made of, and that what cannot be known is not shown as known."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.api import END, Shop, shop
from support.eventfiles import traffic
from support.panes import pane
from support.views import view_of

from abmonitor.api_types import GuardrailStatus, Status, TreatmentStatus
from abmonitor.breach import OnBreach
from abmonitor.status import SEEN_LATELY, commands, status
from abmonitor.status_text import show
from abmonitor.view import ExperimentView, View
from alerts.actuators.flagd import FlagdOptions
from alerts.judge import Evidence, Judgement
from alerts.judge import Phase as Verdict
from alerts.machine import Command
from alerts.standing import Pause, Standing, State
from metrics.experiment import MINUTE, Profitability
from metrics.uncertainty import Difference


NAMES = ("offers",)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as opened:
        await opened.pass_time()
        yield opened


def text_of(found: Status) -> str:
    console = Console(width=80, file=io.StringIO(), record=True, highlight=False)
    show(console, found)
    return console.export_text()


def changed(made: Shop, **changes: object) -> View:
    """The view with something else about offers."""
    view = made.monitor.view
    shown: ExperimentView = replace(view.experiments["offers"], **changes)  # type: ignore[arg-type]
    return replace(view, experiments={"offers": shown})


def treatment(view: View, now: int) -> TreatmentStatus:
    return status(view, None, now, NAMES).experiments[0].treatments[0]


async def test_profit_at_risk_is_the_loss_of_a_prediction_times_predictions_an_hour(
    made: Shop,
) -> None:
    shown = made.monitor.view.experiments["offers"]
    lost = {"profit_per_prediction": Difference(-0.25, -0.5, 0.0)}
    compared = replace(shown.comparisons["new"], differences=lost)
    at_risk = treatment(changed(made, comparisons={"new": compared}), made.now).at_risk
    came = shown.snapshot.variants["new"].predictions(made.now, 5 * MINUTE)
    assert came > 0
    assert at_risk.predictions_an_hour == came * 12
    assert at_risk.an_hour == 0.25 * came * 12
    assert at_risk.unit == "unit costs"
    better = replace(compared, differences={"profit_per_prediction": Difference(0.25, 0.0, 0.5)})
    assert treatment(changed(made, comparisons={"new": better}), made.now).at_risk.an_hour == 0.0
    unknown = replace(compared, differences={"profit_per_prediction": None})
    assert treatment(changed(made, comparisons={"new": unknown}), made.now).at_risk.an_hour is None
    priced = msgspec.structs.replace(
        shown.experiment, profitability=Profitability(unit_revenue=60, unit_cost=20)
    )
    found = treatment(changed(made, comparisons={"new": compared}, experiment=priced), made.now)
    assert (found.at_risk.an_hour, found.at_risk.unit) == (0.25 * came * 12 * 20, "money")


async def test_the_share_is_of_the_latest_predictions(made: Shop) -> None:
    await made.monitor.tick()
    assert treatment(made.monitor.view, made.now).share == 0.5
    made.break_new()
    await made.pass_time(10)
    found = treatment(made.monitor.view, made.now)
    assert found.state in {State.ROLLED_BACK, State.VERIFYING, State.ROLLING_BACK}
    assert (found.share, found.intended_share) == (0.0, 0.0)
    assert found.causes


async def test_a_treatment_that_lost_its_traffic_shows_so_within_a_minute(made: Shop) -> None:
    start = made.now - made.now % MINUTE
    made.world.arrive("new", start, END, pane(0))
    await made.pass_time(2)
    found = treatment(made.monitor.view, made.now)
    assert found.share_lately == 0.0
    assert found.share is not None
    assert found.share > 0.0


async def test_what_is_rolled_back_has_no_profit_at_risk(made: Shop) -> None:
    made.break_new()
    await made.pass_time(10)
    book = made.monitor.view.experiments["offers"].book
    rolled = msgspec.structs.replace(book.standings["new"], state=State.ROLLED_BACK)
    book = msgspec.structs.replace(book, standings={"new": rolled})
    view = changed(made, book=book)
    assert treatment(view, made.now).at_risk.an_hour is None
    assert "profit at risk  n/a" in text_of(status(view, None, made.now, NAMES))


async def test_who_leads_is_told(made: Shop) -> None:
    view = made.monitor.view
    assert status(view, None, made.now, NAMES).experiments[0].leads
    other = status(replace(view, leads=frozenset()), None, made.now, NAMES)
    assert not other.experiments[0].leads
    assert "standing by: another one leads" in text_of(other)


async def test_after_a_rearm_it_asks_for_traffic_until_there_is_some(made: Shop) -> None:
    made.break_new()
    await made.pass_time(15)
    assert treatment(made.monitor.view, made.now).advice is None
    said = Command(made.now, "rearm", "ann", "mended", force=True)
    done = await made.monitor.command("offers", "new", said)
    assert not done.refused
    await made.pass_time(1)
    found = status(made.monitor.view, None, made.now, NAMES)
    assert "give it traffic again" in text_of(found)
    by_flag = OnBreach(action="flagd", flagd=FlagdOptions(path="flags.json"))
    declared = msgspec.structs.replace(
        made.monitor.view.experiments["offers"].experiment, on_breach=by_flag
    )
    assert treatment(changed(made, experiment=declared), made.now).advice is None
    made.world.arrive("new", made.now, END, pane(10))
    await made.pass_time(1)
    assert treatment(made.monitor.view, made.now).advice is None


@pytest.mark.parametrize(
    ("standing", "verbs"),
    [
        (Standing(), ["rollback", "pause"]),
        (Standing(state=State.ROLLED_BACK), ["rearm"]),
        (Standing(state=State.WOULD_ROLL_BACK), ["rearm"]),
        (Standing(state=State.HOLD), ["resume", "rollback"]),
        (Standing(paused=Pause("ann", "why")), ["resume", "rollback"]),
        (Standing(state=State.ROLLED_BACK, paused=Pause("ann", "why")), ["rearm", "resume"]),
        (Standing(state=State.ENDED), []),
    ],
)
def test_only_commands_are_suggested_that_change_something(
    standing: Standing, verbs: list[str]
) -> None:
    assert [command.split()[1] for command in commands("offers", "new", standing)] == verbs


async def test_versions_are_those_seen_lately_newest_first(made: Shop) -> None:
    snapshot = made.monitor.view.experiments["offers"].snapshot
    for seen, expected in (
        ({}, ()),
        ({"1": made.now - 9 * MINUTE, "2": made.now}, ("2", "1")),
        ({"1": made.now - SEEN_LATELY - 1, "2": made.now}, ("2",)),
        ({"1": made.now - 2 * SEEN_LATELY, "2": made.now - 3 * SEEN_LATELY}, ("1",)),
    ):
        facts = replace(snapshot.variants["new"], versions=seen)
        variants = {**snapshot.variants, "new": facts}
        view = changed(made, snapshot=replace(snapshot, variants=variants))
        assert treatment(view, made.now).versions == expected


async def test_a_sequential_guardrail_says_how_far_it_is(made: Shop) -> None:
    judgement = Judgement(
        guardrail="rap:sequential",
        metric="rap",
        phase=Verdict.INCONCLUSIVE,
        at=made.now,
        reason="too early",
        evidence=Evidence(harm=2.0, harm_needed=4.0, safe=1.0, safe_needed=4.0),
    )
    book = msgspec.structs.replace(
        made.monitor.view.experiments["offers"].book, judgements={"new": {"rap": judgement}}
    )
    (found,) = treatment(changed(made, book=book), made.now).guardrails
    assert found == GuardrailStatus(
        guardrail="rap:sequential",
        phase="inconclusive",
        reason="too early",
        nearest="rollback",
        evidence=0.5,
    )
    assert "rollback 50 %" in text_of(status(changed(made, book=book), None, made.now, NAMES))


async def test_before_anything_came_nothing_is_known(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        made.world.fine.clear()
        made.world.cohorts.clear()
        await made.pass_time(1)
        snapshot = made.monitor.view.experiments["offers"].snapshot
        empty = replace(snapshot, watermark=None, matured=None)
        found = status(changed(made, snapshot=empty), None, made.now, NAMES)
    (shown,) = found.experiments
    assert (shown.data_age_ms, shown.labels_final_to, shown.labels_stalled) == (None, None, False)
    (new,) = shown.treatments
    assert (new.share, new.at_risk.an_hour, new.versions) == (None, None, ())
    text = text_of(found)
    assert "none yet" in text
    assert "n/a" in text


async def test_what_a_person_must_not_overlook_is_in_the_text(made: Shop) -> None:
    book = made.monitor.view.experiments["offers"].book
    standing = Standing(
        state=State.ROLLED_BACK,
        since=made.now - MINUTE,
        causes=("error_rate is 0.8",),
        verified=False,
        latched=("more harm",),
    )
    book = msgspec.structs.replace(
        book, standings={"new": standing}, quarantined={"new": {"2.3.1": made.now}}
    )
    text = text_of(status(changed(made, book=book), "the tick failed", made.now + 90_000, NAMES))
    for told in (
        "! the monitor is not ready: the tick failed",
        "1m30s old",
        "(1m)",
        "whether its traffic is gone cannot be seen",
        "2.3.1",
        "error_rate is 0.8",
        "when the brake is off: more harm",
    ):
        assert told in text
    paused = msgspec.structs.replace(standing, paused=Pause("ann", "because"))
    book = msgspec.structs.replace(book, standings={"new": paused})
    assert "when the pause ends: more harm" in text_of(
        status(changed(made, book=book), None, made.now, NAMES)
    )


async def test_nothing_read_is_told() -> None:
    assert "nothing was read yet" in text_of(status(View(), None, 0, ()))


def test_stalled_labels_are_told_from_real_events() -> None:
    events = [event for event in traffic(3_000) if event["type"] == "prediction"]
    view = view_of(events)
    now = view.experiments["offers"].snapshot.watermark or 0
    found = status(view, None, now, NAMES)
    assert found.experiments[0].labels_stalled
    assert "STALLED" in text_of(found)


async def test_commands_can_be_copied_whole_however_long_they_are(made: Shop) -> None:
    long = "a-very-long-name-of-an-experiment-that-fills-a-line-of-a-terminal"
    found = status(made.monitor.view, None, made.now, NAMES)
    new = found.experiments[0].treatments[0]
    new = msgspec.structs.replace(new, commands=commands(long, long, Standing()))
    shown = msgspec.structs.replace(found.experiments[0], treatments=(new,))
    lines = text_of(msgspec.structs.replace(found, experiments=(shown,))).splitlines()
    assert set(commands(long, long, Standing())) <= {line.rstrip() for line in lines}


@pytest.mark.parametrize("name", ["offers", "a.b_c-1"])
def test_commands_name_experiment_and_treatment(name: str) -> None:
    for command in commands(name, "new", Standing()):
        assert f" {name} --treatment new " in command
