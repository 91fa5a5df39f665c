"""Alertmanager: what it is told, and, where there is a real one, what it makes of that."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.news import NOW, Receiver, decision, served, situation
from support.servers.alertmanager import AlertmanagerServer, alertmanager_server, alerts_in
from support.servers.base import or_skip

from alerts.notifiers.alertmanager import (
    LASTS_MS,
    RESOLVED_FOR_MS,
    Alertmanager,
    AlertmanagerOptions,
)
from alerts.notifiers.firing import SEVERITY
from alerts.notifiers.news import News, Situation
from alerts.notifiers.words import rfc3339
from alerts.standing import State
from metrics.experiment import MINUTE


WAIT_S = 20.0
GUIDE = Path(__file__).parents[2] / "docs" / "notifications.md"
HEALTHY = situation(State.HEALTHY)


class Bench:
    """An Alertmanager's notifier whose messages are kept, and whose time is told."""

    def __init__(self, **options: Any) -> None:
        self.receiver = Receiver()
        self.options = options

    async def told(self, *news: News) -> list[list[dict[str, Any]]]:
        """The messages that these news make."""
        async with served(self.receiver) as url:
            made = Alertmanager(AlertmanagerOptions(url=url, **self.options))
            for one in news:
                await made.notify(one)
            await made.close()
        return [json.loads(body) for body in self.receiver.bodies]


def standing_now(*situations: Situation, at: int = NOW) -> News:
    return News(at, situations=situations)


async def test_an_alert_has_labels_without_numbers_and_annotations_with_them() -> None:
    made = decision(reasons=("rap -0.03 breaches -0.02",))
    told = situation(decisions=(made,), decision=made.id, ordered_at=made.at)
    bench = Bench(labels={"team": "growth"}, link="https://a.example/{experiment}?d={decision}")
    [[alert]] = await bench.told(standing_now(told))
    assert alert == {
        "labels": {
            "alertname": "AbmonitorRollback",
            "experiment": "offers",
            "variant": "ranker-v2",
            "severity": "warning",
            "source": "monitor",
            "team": "growth",
        },
        "annotations": {
            "summary": "ranker-v2 of offers is being rolled back",
            "description": "rap -0.03 breaches -0.02",
            "since": "2026-03-01T11:59:59.250Z",
            "actor": "abmonitor",
            "decision": made.id,
        },
        "startsAt": "2026-03-01T11:59:59.250Z",
        "endsAt": rfc3339(NOW + LASTS_MS),
        "generatorURL": f"https://a.example/offers?d={made.id.replace(':', '%3A')}",
    }


async def test_an_alert_says_where_its_runbook_is() -> None:
    bench = Bench(runbooks="https://a.example/runbooks/{alert}?from=page")
    [[alert]] = await bench.told(standing_now(situation(State.HOLD)))
    assert alert["annotations"]["runbook_url"] == (
        "https://a.example/runbooks/AbmonitorHold?from=page"
    )


@pytest.mark.parametrize("pattern", ["/runbooks/{alert}", "https://a.example/{experiment}"])
def test_runbooks_that_lead_nowhere_are_refused(pattern: str) -> None:
    options = AlertmanagerOptions(url="http://a.example", runbooks=pattern)
    [(field, told)] = options.problems()
    assert field == "runbooks"
    assert "in which {alert} is filled in" in told


async def test_all_alerts_go_in_one_message_below_the_path_of_the_address() -> None:
    bench = Bench()
    async with served(bench.receiver) as url:
        for address in (url, f"{url}/am", f"{url}/am/api/v2/alerts"):
            made = Alertmanager(AlertmanagerOptions(url=address))
            await made.notify(standing_now(situation(State.ROLLBACK_FAILED)))
            await made.close()
    paths = [request.path for request in bench.receiver.requests]
    assert paths == ["/api/v2/alerts", "/am/api/v2/alerts", "/am/api/v2/alerts"]
    names = {alert["labels"]["alertname"] for alert in json.loads(bench.receiver.bodies[0])}
    assert names == {"AbmonitorRollback", "AbmonitorRollbackFailed"}


async def test_what_fires_is_said_again_to_end_later() -> None:
    hold = situation(State.HOLD)
    later = NOW + MINUTE
    [[first], [second]] = await Bench().told(standing_now(hold), standing_now(hold, at=later))
    assert first["labels"] == second["labels"]
    assert first["startsAt"] == second["startsAt"]
    assert (first["endsAt"], second["endsAt"]) == (
        rfc3339(NOW + LASTS_MS),
        rfc3339(later + LASTS_MS),
    )


async def test_what_is_over_is_said_for_five_minutes_to_have_ended_then() -> None:
    hold = situation(State.HOLD)
    over, last = NOW + MINUTE, NOW + MINUTE + RESOLVED_FOR_MS
    news = [
        standing_now(hold),
        standing_now(HEALTHY, at=over),
        standing_now(HEALTHY, at=last - 1),
        standing_now(HEALTHY, at=last),
    ]
    messages = await Bench().told(*news)
    ends = [alert["endsAt"] for [alert] in messages]
    assert ends == [rfc3339(NOW + LASTS_MS), rfc3339(over), rfc3339(over)]


async def test_what_fires_anew_is_not_said_to_be_over() -> None:
    hold, again = situation(State.HOLD), situation(State.HOLD, since=NOW + 2 * MINUTE)
    times = (NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    news = [standing_now(one, at=at) for one, at in zip((hold, HEALTHY, again), times, strict=True)]
    messages = await Bench().told(*news)
    [alert] = messages[-1]
    assert alert["startsAt"] == rfc3339(NOW + 2 * MINUTE)
    assert alert["endsAt"] == rfc3339(NOW + 2 * MINUTE + LASTS_MS)


async def test_nothing_is_said_any_more_of_what_another_monitor_leads() -> None:
    hold = situation(State.HOLD)
    other = situation(State.HOLD, experiment="prices")
    messages = await Bench().told(standing_now(hold, other), standing_now(other, at=NOW + MINUTE))
    names = [{alert["labels"]["experiment"] for alert in message} for message in messages]
    assert names == [{"offers", "prices"}, {"prices"}]


async def test_who_takes_over_ends_what_the_one_before_left_firing() -> None:
    failing = situation(state=State.ROLLBACK_FAILED)
    [message] = await Bench().told(standing_now(), standing_now(failing))
    ends = {alert["labels"]["alertname"]: alert["endsAt"] for alert in message}
    assert set(ends) == set(SEVERITY)
    firing_still = {name for name, at in ends.items() if at > rfc3339(NOW)}
    assert firing_still == {"AbmonitorRollback", "AbmonitorRollbackFailed"}
    assert {alert["labels"]["severity"] for alert in message} == set(SEVERITY.values())


async def test_a_moment_ends_when_it_was_said_to() -> None:
    done = situation(State.ROLLED_BACK, noticed=NOW, verified=True)
    times = [NOW, NOW + 3 * MINUTE, NOW + 6 * MINUTE]
    news = [standing_now(done, at=at) for at in times]
    messages = await Bench(once_for_ms=5 * MINUTE).told(*news)
    ends = [alert["endsAt"] for [alert] in messages]
    assert ends == [rfc3339(NOW + LASTS_MS)] + 2 * [rfc3339(NOW + 5 * MINUTE)]


async def test_an_alert_never_starts_after_its_end_or_after_now() -> None:
    ahead = situation(State.HOLD, since=NOW + 10 * MINUTE)
    messages = await Bench().told(standing_now(ahead), standing_now(HEALTHY, at=NOW + 1))
    for [alert] in messages:
        assert alert["startsAt"] <= min(alert["endsAt"], rfc3339(NOW + 1))


async def test_decisions_are_none_of_its_business() -> None:
    assert await Bench().told(News(NOW, decision=decision())) == []


async def test_what_inhibits_others_begins_first_and_ends_last() -> None:
    failed = situation(State.ROLLBACK_FAILED)
    messages = await Bench().told(standing_now(failed), standing_now(HEALTHY, at=NOW + 1))
    names = [[alert["labels"]["alertname"] for alert in message] for message in messages]
    both = ["AbmonitorRollbackFailed", "AbmonitorRollback"]
    assert names == [both, both[::-1]]


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=3), st.integers(0, 10**12))
def test_numbers_never_change_which_alert_it_is(numbers: list[float], at: int) -> None:
    causes = tuple(f"rap {number:.6g} fails" for number in numbers)
    made = decision(reasons=causes)
    keys = [
        alert.key
        for alert in Alertmanager(AlertmanagerOptions(url="http://a.example"))._look(
            standing_now(
                situation(State.ROLLBACK_FAILED, causes=causes, decisions=(made,), since=at), at=at
            )
        )
    ]
    assert keys == [
        ("AbmonitorRollbackFailed", "offers", "ranker-v2"),
        ("AbmonitorRollback", "offers", "ranker-v2"),
    ]


@pytest.mark.parametrize(
    "labels",
    [
        {"a-b": "x"},
        {"": "x"},
        {"1a": "x"},
        {"alertname": "x"},
        {"severity": "x"},
        {"source": "x"},
        {"team": ""},
        {"team": "a\nb"},
        {"team": "x" * 200},
    ],
)
def test_labels_that_cannot_be_are_refused(labels: dict[str, str]) -> None:
    options = AlertmanagerOptions(url="http://a.example", labels=labels)
    assert [field for field, _ in options.problems()] == ["labels"]


# --- a real one -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    with or_skip(), alertmanager_server() as url:
        yield url


@pytest.fixture
def experiment() -> str:
    """A name that no other test uses."""
    return f"offers-{uuid.uuid4().hex[:12]}"


def wall() -> int:
    return int(time.time() * 1000)


async def reads(url: str, experiment: str) -> list[dict[str, Any]]:
    return await asyncio.to_thread(alerts_in, url, experiment)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # another process makes it true
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


async def test_a_real_one_takes_it_once_over_and_lets_it_end(real: str, experiment: str) -> None:
    made = Alertmanager(AlertmanagerOptions(url=real, link="https://a.example/{experiment}"))

    def failed(why: str, at: int) -> News:
        told = decision(2, "rollback_failed", at=began, reasons=(why,), experiment=experiment)
        one = situation(
            State.ROLLBACK_FAILED, since=began, experiment=experiment, decisions=(told,)
        )
        return standing_now(one, at=at)

    began = wall() - 5000
    try:
        receipt = await made.notify(failed("POST answered 503", wall()))
        assert receipt is not None
        assert receipt.accepted, receipt.detail
        first = await reads(real, experiment)
        again = await made.notify(failed("tried 17 times", wall() + 1000))
        assert again is not None
        second = await reads(real, experiment)
        healthy = situation(State.HEALTHY, experiment=experiment)
        await made.notify(standing_now(healthy, at=wall()))
        third = await reads(real, experiment)
    finally:
        await made.close()
    assert [alert["labels"] for alert in first] == [
        {
            "alertname": name,
            "experiment": experiment,
            "variant": "ranker-v2",
            "severity": severity,
            "source": "monitor",
        }
        for name, severity in (
            ("AbmonitorRollback", "warning"),
            ("AbmonitorRollbackFailed", "critical"),
        )
    ]
    assert [a["fingerprint"] for a in first] == [a["fingerprint"] for a in second]
    assert first[1]["annotations"]["description"] == "POST answered 503"
    assert second[1]["annotations"]["description"] == "tried 17 times"
    assert first[1]["endsAt"] < second[1]["endsAt"]
    assert first[1]["startsAt"] == second[1]["startsAt"] == rfc3339(began)
    assert first[1]["generatorURL"] == f"https://a.example/{experiment}"
    assert third == []


async def test_a_monitor_that_starts_anew_goes_on_where_the_one_before_was(
    real: str, experiment: str
) -> None:
    since = wall() - 60_000
    hold = situation(State.HOLD, experiment=experiment, since=since)
    healthy = situation(State.HEALTHY, experiment=experiment)
    found = []
    for states in ((hold,), (hold, healthy)):  # each knows nothing of the one before
        made = Alertmanager(AlertmanagerOptions(url=real))
        for state in states:
            await made.notify(standing_now(state, at=wall()))
            found.append(await reads(real, experiment))
        await made.close()
    [first], [second], after = found
    assert first["fingerprint"] == second["fingerprint"]
    assert first["startsAt"] == second["startsAt"] == rfc3339(since)
    assert after == []


ROUTES = """\
route:
  receiver: hook
  group_by: [experiment, variant, alertname]
  group_wait: 500ms
  group_interval: 100ms
inhibit_rules:
  - source_matchers: [alertname="AbmonitorRollbackFailed"]
    target_matchers: [alertname="AbmonitorRollback"]
    equal: [experiment, variant]
receivers:
  - name: hook
    webhook_configs: [{url: "%s", send_resolved: true}]
"""


@asynccontextmanager
async def routed(receiver: Receiver) -> AsyncIterator[tuple[str, Callable[[], list[str]]]]:
    """An Alertmanager of its own that passes alerts on to `receiver`: its address, and what was heard."""

    def heard() -> list[str]:
        told = [json.loads(body) for body in receiver.bodies]
        return [f"{one['groupLabels']['alertname']} {one['status']}" for one in told]

    async with served(receiver) as hook:
        with or_skip():
            server = AlertmanagerServer(ROUTES % hook)
            await asyncio.to_thread(server.__enter__)
        try:
            yield server.url, heard
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


async def test_people_hear_once_that_it_fires_and_once_that_it_is_over() -> None:
    began = wall() - 1000
    async with routed(Receiver()) as (url, heard):
        made = Alertmanager(AlertmanagerOptions(url=url))
        for _ in range(3):
            await made.notify(standing_now(situation(State.HOLD, since=began), at=wall()))
        await until(heard, "the page")
        for _ in range(3):
            await made.notify(standing_now(HEALTHY, at=wall()))
        await until(lambda: len(heard()) > 1, "the end of it")
        await made.close()
    assert heard() == ["AbmonitorHold firing", "AbmonitorHold resolved"]


async def test_who_takes_over_ends_what_fires_and_tells_people_of_nothing_else() -> None:
    began = wall() - 1000
    async with routed(Receiver()) as (url, heard):
        before, after = (Alertmanager(AlertmanagerOptions(url=url)) for _ in range(2))
        await after.notify(standing_now(at=wall()))
        await before.notify(standing_now(situation(State.HOLD, since=began), at=wall()))
        await until(heard, "the page")
        for _ in range(3):
            await after.notify(standing_now(HEALTHY, at=wall()))
        await until(lambda: len(heard()) > 1, "the end of it")
        await before.close()
        await after.close()
    assert heard() == ["AbmonitorHold firing", "AbmonitorHold resolved"]


async def test_a_rollback_that_failed_says_it_all() -> None:
    async with routed(Receiver()) as (url, heard):
        made = Alertmanager(AlertmanagerOptions(url=url))
        failed = situation(State.ROLLBACK_FAILED, since=wall())  # what is old is passed on at once
        await made.notify(standing_now(failed, at=wall()))
        await until(heard, "the page")
        [less, more] = await reads(url, "offers")
        await made.close()
    # One inhibits the other, because it has the same labels.
    assert less["labels"]["alertname"] == "AbmonitorRollback"
    assert less["status"]["inhibitedBy"] == [more["fingerprint"]]
    assert more["status"]["state"] == "active"
    assert heard() == ["AbmonitorRollbackFailed firing"]


def test_the_routes_of_the_guide_are_right() -> None:
    [config] = re.findall(r"```yaml\n(route:.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    with or_skip():
        server = AlertmanagerServer(config)
    with server:  # it ends at once where it does not understand them
        assert server.is_running
