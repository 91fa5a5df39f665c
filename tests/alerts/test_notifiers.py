"""What chat and Grafana are told of a decision."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.news import NOW, Receiver, decision, served

from alerts.notifiers.grafana import Grafana, GrafanaOptions, annotation
from alerts.notifiers.news import News
from alerts.notifiers.slack import REASON, REASONS, Slack, SlackOptions, escaped, message
from alerts.notifiers.words import HEADLINES, QUIET, filled, link_problems, plain, rfc3339
from alerts.standing import State


LINK = "https://grafana.example/d/ab?var-experiment={experiment}&var-variant={treatment}"


async def posted_to_slack(*decisions: Any, link: str | None = None) -> list[Any]:
    receiver = Receiver()
    async with served(receiver) as url:
        made = Slack(SlackOptions(url=f"{url}/services/T0/B0/xyz", link=link))
        for one in decisions:
            await made.notify(News(NOW, decision=one))
        await made.close()
    return [json.loads(body) for body in receiver.bodies]


async def test_chat_is_told_what_of_which_why_by_whom_and_when() -> None:
    told = await posted_to_slack(decision(reasons=("rap fails", "errors fail")), link=LINK)
    assert told == [
        {
            "text": ":rotating_light: *ranker-v2* of *offers* is being rolled back\n"
            "• rap fails\n"
            "• errors fail\n"
            "by abmonitor · 2026-03-01 11:59:59 UTC · healthy → rolling back · "
            "<https://grafana.example/d/ab?var-experiment=offers&amp;var-variant=ranker-v2|more>"
        }
    ]


def test_without_a_link_and_without_a_change_of_state_there_is_less_to_say() -> None:
    made = decision(action="pause", actor="ann", state=State.HEALTHY, reasons=())
    assert message(made) == ("*ranker-v2* of *offers* was paused\nby ann · 2026-03-01 11:59:59 UTC")


def test_who_said_it_is_told_once() -> None:
    said = ("ann: holidays, until 2026-03-01T13:59:59Z",)
    made = decision(action="pause", actor="ann", state=State.HEALTHY, reasons=said)
    assert message(made) == (
        "*ranker-v2* of *offers* was paused\n• holidays, until 2026-03-01T13:59:59Z\n"
        "by ann · 2026-03-01 11:59:59 UTC"
    )
    text = str(annotation(made)["text"])
    assert "- holidays, until 2026-03-01T13:59:59Z" in text
    assert text.count("ann") == 1


@pytest.mark.parametrize("action", sorted(HEADLINES))
def test_every_action_has_words_of_its_own(action: str) -> None:
    made = decision(action=action)
    assert HEADLINES[action] in message(made)
    assert HEADLINES[action] in str(annotation(made)["text"])
    assert list(HEADLINES.values()).count(HEADLINES[action]) == 1


def test_an_action_that_is_not_known_is_told_as_it_is() -> None:
    assert "ranker-v2* of *offers* beamed up" in message(decision(action="beamed_up"))


def test_what_is_quiet_has_words_for_those_who_ask() -> None:
    assert set(HEADLINES) > QUIET


def test_nobody_can_call_people_or_make_links_by_a_reason() -> None:
    reasons = ("ann: <!channel> <https://bad.example|fine> a & b", "@here @Channel me@x.example")
    lines = message(decision(action="rollback", reasons=reasons)).splitlines()
    assert lines[1] == "• ann: &lt;!channel&gt; &lt;https://bad.example|fine&gt; a &amp; b"
    assert lines[2] == "• @\u200bhere @\u200bChannel me@x.example"


def test_a_reason_cannot_pretend_to_be_another_line() -> None:
    made = decision(reasons=("a\nby root\r\n\u2028• b\x00\u202e",))
    assert message(made).splitlines()[1] == "• a by root • b"


def test_many_and_long_reasons_are_cut() -> None:
    made = decision(reasons=tuple(f"{n} " + "x" * 10_000 for n in range(REASONS + 3)))
    lines = message(made).splitlines()
    assert len(lines) == 1 + REASONS + 1 + 1
    assert lines[-2] == "• and 3 more"
    assert all(len(line) <= REASON + 2 for line in lines[1:-1])
    assert lines[1].endswith("…")
    assert len(message(made)) < 2000


@given(st.text(), st.integers(1, 50))
def test_text_is_one_short_line_that_every_encoder_can_write(text: str, longest: int) -> None:
    short = plain(text, longest)
    assert len(short) <= longest
    assert len(short.splitlines()) <= 1
    assert short.isprintable() or not set(short) & set("\n\r\t\x00\u2028\u202e")
    short.encode()


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_escaped_text_has_no_brackets_and_reads_back(text: str) -> None:
    safe = escaped(text, 40)
    assert not set(safe) & set("<>")
    back = safe.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert back.replace("@\u200b", "@") == plain(text, 40)


async def test_grafana_gets_one_annotation_below_its_own_path() -> None:
    receiver = Receiver()
    async with served(receiver) as url:
        options = GrafanaOptions(url=f"{url}/grafana/", token="glsa_x", dashboard="abc")
        made = Grafana(options)
        await made.notify(News(NOW, decision=decision(reasons=("rap < 0.9",))))
        await made.close()
    [request] = receiver.requests
    assert request.path == "/grafana/api/annotations"
    assert request.headers["Authorization"] == "Bearer glsa_x"
    assert json.loads(receiver.bodies[0]) == {
        "time": NOW - 750,
        "tags": ["abmonitor", "experiment:offers", "treatment:ranker-v2", "rollback"],
        "text": "ranker-v2 of offers is being rolled back\n- rap &lt; 0.9\nby abmonitor",
        "dashboardUID": "abc",
    }


def test_an_annotation_can_be_seen_on_all_dashboards_and_links_further() -> None:
    made = annotation(decision(), LINK)
    assert "dashboardUID" not in made
    assert str(made["text"]).endswith(
        '<a href="https://grafana.example/d/ab?var-experiment=offers&amp;var-variant=ranker-v2">'
        "more</a>"
    )


def test_an_annotation_is_no_way_for_markup() -> None:
    made = annotation(decision(reasons=("<script>x</script>",), actor='"><img>'))
    assert not {"<script", "<img"} & {part[:7] for part in str(made["text"]).split(" ")}
    assert "&lt;script&gt;" in str(made["text"])


def test_a_dashboard_without_a_name_is_refused() -> None:
    options = GrafanaOptions(url="https://grafana.example", token="t", dashboard=" ")
    assert [field for field, _ in options.problems()] == ["dashboard"]


def test_links_are_filled_with_what_addresses_can_hold() -> None:
    link = "https://a.example/{experiment}/{treatment}?d={decision}"
    assert filled(link, "a/b", "{decision}", "x y&z") == (
        "https://a.example/a%2Fb/%7Bdecision%7D?d=x%20y%26z"
    )
    assert list(link_problems(link)) == []


@pytest.mark.parametrize(
    "link",
    [
        "",
        "a.example/{experiment}",
        "javascript:alert(1)",
        "https://",
        "https://a.example/{variant}",
        "https://a.example/{}",
        "https://a.example/|x",
        "https://a.example/>x",
        "https://a.example/ x",
    ],
)
def test_links_that_lead_nowhere_are_refused(link: str) -> None:
    assert list(link_problems(link))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-5, "1970-01-01T00:00:00.000Z"),
        (10**20, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_that_no_date_can_hold_become_the_nearest(at: int, text: str) -> None:
    assert rfc3339(at) == text
