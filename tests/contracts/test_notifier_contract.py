"""What every notifier must do, wherever it tells people: none raises, none waits for long, none tells secrets."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.pretty import pretty_repr
from support.news import NOW, Receiver, decision, served, situation, wired

from alerts.notifiers.alertmanager import Alertmanager, AlertmanagerOptions
from alerts.notifiers.grafana import Grafana, GrafanaOptions
from alerts.notifiers.news import News, Notifier
from alerts.notifiers.outlets import Decisions
from alerts.notifiers.post import Target
from alerts.notifiers.slack import Slack, SlackOptions
from alerts.order import Receipt


SECRET = "T0P5ECRET"
SHORT_S = 0.2


def options(kind: type[Target], url: str, **more: Any) -> Any:
    """Options in which everything that can be secret is."""
    return kind(url=f"{url}/{SECRET}/x", token=f"token-{SECRET}", **more)


def slack(url: str, **more: Any) -> Notifier:
    return Slack(options(SlackOptions, url, **more))


def grafana(url: str, **more: Any) -> Notifier:
    return Grafana(options(GrafanaOptions, url, **more))


def alertmanager(url: str, **more: Any) -> Notifier:
    return Alertmanager(options(AlertmanagerOptions, url, **more))


Make = Callable[..., Notifier]
make = pytest.mark.parametrize("make", [slack, grafana, alertmanager])


def news_for(notifier: Notifier, **changes: Any) -> News:
    """What this notifier is told of a rollback."""
    if notifier.every_s is None:
        return News(NOW, decision=decision(**changes))
    told = decision(**changes)
    standing = situation(
        experiment=told.experiment,
        treatment=told.treatment,
        decisions=(told,),
        causes=told.reasons,
        decision=told.id,
        ordered_at=told.at,
    )
    return News(NOW, situations=(standing,))


@asynccontextmanager
async def opened(made: Notifier) -> AsyncIterator[Notifier]:
    try:
        yield made
    finally:
        await made.close()


async def told(made: Notifier, **changes: Any) -> Receipt:
    async with opened(made):
        receipt = await made.notify(news_for(made, **changes))
    assert receipt is not None
    return receipt


@make
@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_success_is_told(make: Make, status: int) -> None:
    receiver = Receiver(status=status)
    async with served(receiver) as url:
        receipt = await told(make(url))
    assert receipt.accepted
    [request] = receiver.requests
    assert request.method == "POST"
    assert request.content_type == "application/json"
    assert request.headers["Authorization"] == f"Bearer token-{SECRET}"
    assert "ranker-v2" in receiver.bodies[0].decode()


@make
@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 410])
async def test_refusals_are_not_worth_another_try(make: Make, status: int) -> None:
    receiver = Receiver(status=status, headers={"Location": "/elsewhere"})
    async with served(receiver) as url:
        receipt = await told(make(url))
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert receipt.detail == f"POST {url} answered {status}"
    assert len(receiver.requests) == 1


@make
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_failures_that_may_pass_are_worth_another_try(make: Make, status: int) -> None:
    receiver = Receiver(status=status, headers={"Retry-After": "7"}, body=SECRET.encode())
    async with served(receiver) as url:
        receipt = await told(make(url))
    assert (receipt.accepted, receipt.retry, receipt.retry_after) == (False, True, 7.0)


@make
@pytest.mark.parametrize(("header", "seconds"), [("86400", 300.0), ("soon", None), ("-1", None)])
async def test_nobody_can_ask_for_a_very_long_wait(
    make: Make, header: str, seconds: float | None
) -> None:
    async with served(Receiver(status=429, headers={"Retry-After": header})) as url:
        receipt = await told(make(url))
    assert receipt.retry_after == seconds


async def hangs(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for letter in b"HTTP/1.1 200 OK\r\n" * 1000:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def babbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n\r\n")
    await writer.drain()


@make
@pytest.mark.parametrize("manners", [hangs, resets, drips, babbles])
async def test_a_receiver_without_manners_is_a_failure_that_may_pass(
    make: Make, manners: Any
) -> None:
    async with wired(manners) as url, asyncio.timeout(10):
        receipt = await told(make(url, timeout=SHORT_S))
    assert (receipt.accepted, receipt.retry) == (False, True)


@make
async def test_an_endless_answer_is_not_read(make: Make) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with wired(endless) as url, asyncio.timeout(10):
        receipt = await told(make(url))
    assert receipt.accepted


@make
async def test_nobody_there_is_a_failure_that_may_pass(make: Make) -> None:
    receipt = await told(make("http://127.0.0.1:1"))
    assert (receipt.accepted, receipt.retry) == (False, True)


@make
@pytest.mark.parametrize(
    "changes",
    [
        {"experiment": "../?#\n{treatment}", "treatment": ""},
        {"treatment": "\ud800", "reasons": ("\udfff",)},
        {"at": 10**30},
        {"at": -1},
        {"reasons": ()},
        {"reasons": ("%s {} \x00\n\u2028</script>",) * 1000},
        {"reasons": ("x" * 1_000_000,)},
        {"actor": "<!channel> @channel & co"},
        {"action": "something new"},
    ],
)
async def test_no_decision_makes_a_notifier_raise_or_write_what_cannot_be_read(
    make: Make, changes: dict[str, Any]
) -> None:
    receiver = Receiver()
    async with served(receiver) as url:
        receipt = await told(make(url, link="https://a.example/{experiment}"), **changes)
    assert receipt.accepted
    assert json.loads(receiver.bodies[0])
    assert len(receiver.bodies[0]) < 10_000


@make
async def test_secrets_are_in_no_log_no_receipt_and_no_representation(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    for status in (200, 302, 401, 404, 429, 500):
        async with served(Receiver(status=status)) as url:
            seen += await shown_by(make(url))
    seen += await shown_by(make("http://127.0.0.1:1", timeout=SHORT_S))  # nobody listens there
    # What the receivers log is theirs: they are aiohttp's, too.
    ours = [r.getMessage() for r in caplog.records if r.name != "aiohttp.access"]
    assert any("answered 401" in line for line in ours)
    assert not [line for line in (*seen, *ours) if SECRET in line]


async def shown_by(made: Notifier) -> list[str]:
    """Everything that a notifier shows of itself; what it does is logged as well."""
    outlet = Decisions("it", made, lambda _: None, pace_s=0)
    async with opened(made):
        receipt = await outlet._attempt(news_for(made))
    assert receipt is not None
    return [repr(made), pretty_repr(made), receipt.detail]


@make
async def test_options_that_cannot_work_are_refused_without_quoting_them(make: Make) -> None:
    for bad in (
        {"timeout": 0},
        {"proxy": f"socks://{SECRET}"},
        {"link": "https://a.example/{secret}"},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))) as raised:
            make("http://a.example", **bad)
        assert SECRET not in str(raised.value)
    for address in (f"ftp://a.example/{SECRET}", SECRET, "", f"http:///{SECRET}"):
        with pytest.raises(ValueError, match="url: expected") as raised:
            make(address)
        assert SECRET not in str(raised.value)


@make
async def test_a_token_must_fit_into_a_header(make: Make) -> None:
    kind = {slack: SlackOptions, grafana: GrafanaOptions, alertmanager: AlertmanagerOptions}[make]
    for token in ("", "a b", "a\r\nx: y", "ü"):
        assert [field for field, _ in kind(url="http://a.example", token=token).problems()] == [
            "token"
        ]
    both = kind(url="http://me:pass@a.example", token="t")
    assert [field for field, _ in both.problems()] == ["token"]


@make
async def test_a_proxy_is_used_where_one_is_given(make: Make) -> None:
    proxy = Receiver()
    async with served(proxy) as url:
        receipt = await told(make("http://far.invalid", proxy=url))
    assert receipt.accepted
    assert [request.host for request in proxy.requests] == ["far.invalid"]


@make
async def test_closing_twice_is_harmless_and_nothing_raises_afterwards(make: Make) -> None:
    async with served(Receiver()) as url:
        made = make(url)
        await made.notify(news_for(made))
        await made.close()
        await made.close()
        receipt = await made.notify(news_for(made))
    assert receipt is not None
    assert not receipt.accepted


@make
async def test_there_is_nothing_to_say_without_news(make: Make) -> None:
    async with served(Receiver()) as url, opened(make(url)) as made:
        assert await made.notify(News(NOW)) is None


async def test_a_log_that_fails_over_and_over_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(Receiver(status=401)) as url, opened(slack(url)) as made:
        outlet = Decisions("chat", made, lambda _: None, pace_s=0)
        for number in range(5):
            outlet.offer(decision(number))
        outlet.end()
        await outlet.run()
    assert caplog.messages == [f"notifier chat: POST {url} answered 401"]
    assert outlet.counts == {"sent": 0, "failed": 5, "dropped": 5}
