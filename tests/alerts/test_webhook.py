"""The webhook against real receivers on the loopback: polite ones, and ones that misbehave."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.pretty import pretty_repr

from alerts.actuators import signing
from alerts.actuators.webhook import Webhook, WebhookOptions, document
from alerts.order import Order, Receipt, Verification


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_772_366_400.75
ORDER = Order(
    id="0197f3c2-offers-ranker",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    reasons=("rap:sequential fails",),
    evidence={"lower": -0.2, "upper": float("inf")},
)


@dataclass
class Receiver:
    """Answers as told and remembers what it was sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def served(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/hook"))


@asynccontextmanager
async def webhook(
    url: str,
    secret: str | None = SECRET,
    seconds: float = 5.0,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Webhook]:
    options = WebhookOptions(url=url, secret=secret, timeout=seconds, headers=headers or {})
    made = Webhook(options, clock=lambda: NOW)
    try:
        yield made
    finally:
        await made.close()


async def posted(receiver: Receiver, *orders: Order, secret: str | None = SECRET) -> list[Receipt]:
    async with served(receiver) as url, webhook(url, secret) as hook:
        return [await hook.apply(order) for order in orders or (ORDER,)]


Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wired(answer: Wire) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server without manners: `answer` has the socket after the request; the event tells its end."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            done.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/hook", done


# What is sent


async def test_the_body_is_a_cloud_event_with_the_order_as_its_data() -> None:
    receiver = Receiver()
    await posted(receiver)
    [request] = receiver.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert json.loads(receiver.bodies[0]) == {
        "specversion": "1.0",
        "id": ORDER.id,
        "source": "/abmonitor/offers",
        "type": "dev.abmonitor.rollback.v1",
        "time": "2026-03-01T11:59:59.250Z",
        "subject": "ranker-v2",
        "datacontenttype": "application/json",
        "dryrun": False,
        "data": {
            "id": ORDER.id,
            "experiment": "offers",
            "treatment": "ranker-v2",
            "control": "rules-v1",
            "action": "rollback",
            "decided_at": 1_772_366_399_250,
            "epoch": 1,
            "split": {},
            "versions": [],
            "reasons": ["rap:sequential fails"],
            "evidence": {"lower": -0.2, "upper": None},
            "dry_run": False,
        },
    }


async def test_the_signature_is_the_one_that_standard_webhooks_describes() -> None:
    receiver = Receiver()
    await posted(receiver)
    headers, body = receiver.requests[0].headers, receiver.bodies[0]
    assert headers["webhook-id"] == headers["Idempotency-Key"] == ORDER.id
    assert headers["webhook-timestamp"] == "1772366400"
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = f"{ORDER.id}.1772366400.".encode() + body
    expected = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


async def test_receivers_can_verify_orders_whose_ids_headers_cannot_carry() -> None:
    receiver = Receiver()
    awkward = msgspec.structs.replace(ORDER, id="offers v2.1\r\nx: ü")
    [receipt] = await posted(receiver, awkward)
    assert receipt.accepted
    headers, body = receiver.requests[0].headers, receiver.bodies[0]
    parts = headers["webhook-id"], headers["webhook-timestamp"]
    assert signing.verify(SECRET, *parts, body, headers["webhook-signature"], now=NOW)
    assert json.loads(body)["id"] == awkward.id


async def test_without_a_secret_nothing_is_signed() -> None:
    receiver = Receiver()
    await posted(receiver, secret=None)
    assert "webhook-signature" not in receiver.requests[0].headers
    assert receiver.requests[0].headers["webhook-id"] == ORDER.id


async def test_headers_of_the_settings_are_sent_along() -> None:
    receiver = Receiver()
    async with served(receiver) as url:
        options = WebhookOptions(url=url, headers={"Authorization": "Bearer x", "User-Agent": "us"})
        hook = Webhook(options)
        await hook.apply(ORDER)
        await hook.close()
    headers = receiver.requests[0].headers
    assert headers["Authorization"] == "Bearer x"
    assert headers.getall("User-Agent") == ["us"]


async def test_a_user_in_the_address_becomes_basic_authentication() -> None:
    receiver = Receiver()
    async with served(receiver) as url, webhook(url.replace("//", "//me:pass@")) as hook:
        await hook.apply(ORDER)
    credentials = base64.b64encode(b"me:pass").decode()
    assert receiver.requests[0].headers["Authorization"] == f"Basic {credentials}"


async def test_no_receiver_can_mistake_a_dry_run_for_an_order() -> None:
    receiver = Receiver()
    await posted(receiver, msgspec.structs.replace(ORDER, dry_run=True), ORDER)
    dry, real = (json.loads(body) for body in receiver.bodies)
    assert (dry["type"], dry["dryrun"], dry["data"]["dry_run"]) == (
        "dev.abmonitor.dryrun.v1",
        True,
        True,
    )
    assert "rollback" not in dry["type"]
    assert real["type"] == "dev.abmonitor.rollback.v1"
    sent = [request.headers.get("abmonitor-dry-run") for request in receiver.requests]
    assert sent == ["true", None]


def test_every_attempt_has_the_same_body() -> None:
    assert document(ORDER) == document(msgspec.structs.replace(ORDER))


# How answers are read


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_success_is_accepted(status: int) -> None:
    [receipt] = await posted(Receiver(status=status))
    assert (receipt.accepted, receipt.retry) == (True, False)
    assert receipt.detail.endswith(f"answered {status}")


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 410, 413, 422, 451])
async def test_refusals_are_not_worth_another_try(status: int) -> None:
    [receipt] = await posted(Receiver(status=status))
    assert (receipt.accepted, receipt.retry, receipt.retry_after) == (False, False, None)
    assert receipt.detail.endswith(f"answered {status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_failures_that_may_pass_are_worth_another_try(status: int) -> None:
    [receipt] = await posted(Receiver(status=status))
    assert (receipt.accepted, receipt.retry, receipt.retry_after) == (False, True, None)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        ("86400", 300.0),
        (formatdate(NOW + 20.25, usegmt=True), 20.25),
        (formatdate(NOW - 3600, usegmt=True), 0.0),
        (formatdate(NOW + 86_400, usegmt=True), 300.0),
        ("tomorrow", None),
    ],
)
async def test_retry_after_is_passed_on(status: int, header: str, seconds: float | None) -> None:
    [receipt] = await posted(Receiver(status=status, headers={"Retry-After": header}))
    assert receipt.retry
    assert receipt.retry_after == seconds


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": ORDER.id},
        {"Idempotency-Key": ORDER.id},
        {"Idempotency-Key": f'"{ORDER.id}"'},  # as structured headers (RFC 9651) write text
    ],
)
async def test_a_conflict_that_names_the_order_means_it_is_known(headers: dict[str, str]) -> None:
    [receipt] = await posted(Receiver(status=409, headers=headers))
    assert (receipt.accepted, receipt.retry) == (True, False)


@pytest.mark.parametrize("headers", [{}, {"webhook-id": "another"}, {"Idempotency-Key": ""}])
async def test_a_conflict_about_something_else_is_tried_again(headers: dict[str, str]) -> None:
    [receipt] = await posted(Receiver(status=409, headers=headers))
    assert (receipt.accepted, receipt.retry) == (False, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    elsewhere = Receiver()
    async with served(elsewhere) as url:
        [receipt] = await posted(Receiver(status=status, headers={"Location": url}))
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert elsewhere.requests == []


@pytest.mark.parametrize("body", [b'{"truncated":', b"\xff\x00", b"null", b"<html>"])
async def test_what_the_body_says_does_not_matter(body: bytes) -> None:
    receiver = Receiver(body=body, headers={"Content-Type": "application/json"})
    [receipt] = await posted(receiver)
    assert receipt.accepted


async def test_a_body_that_claims_to_be_compressed_is_not_unpacked() -> None:
    [receipt] = await posted(Receiver(body=b"no gzip", headers={"Content-Encoding": "gzip"}))
    assert receipt.accepted


# Receivers that misbehave


async def test_no_answer_in_time_is_tried_again() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with wired(hang) as (url, done), webhook(url, seconds=0.05) as hook:
        receipt = await hook.apply(ORDER)
        await asyncio.wait_for(done.wait(), 10)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.endswith("no answer within 0.05 s")


async def test_headers_that_drip_for_ever_are_a_time_out() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with wired(drip) as (url, _), webhook(url, seconds=0.05) as hook:
        receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)


@pytest.mark.parametrize(("chunk", "pause"), [(b"x", 0.01), (b"x" * 65_536, 0.0)])
@pytest.mark.parametrize("status", [200, 503])
async def test_an_endless_body_is_left_unread(chunk: bytes, pause: float, status: int) -> None:
    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\nRetry-After: 3\r\n\r\n" % status)
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)

    async with wired(stream) as (url, done), webhook(url, seconds=60.0) as hook:
        receipt = await hook.apply(ORDER)
        await asyncio.wait_for(done.wait(), 10)  # the webhook hung up
    assert receipt.accepted == (status == 200)
    assert receipt.retry == (status == 503)
    assert receipt.retry_after == (3.0 if status == 503 else None)


async def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with webhook(f"http://127.0.0.1:{port}/") as hook:
            receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.endswith("ClientConnectorError (ConnectionRefusedError)")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 "])
async def test_a_connection_reset_before_the_answer_is_complete_is_tried_again(said: bytes) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        plug: socket.socket = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with wired(reset) as (url, _), webhook(url) as hook:
        receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)


async def test_an_answer_cut_short_in_its_body_is_an_answer() -> None:
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with wired(cut) as (url, _), webhook(url) as hook:
        receipt = await hook.apply(ORDER)
    assert receipt.accepted


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_tried_again(said: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async with wired(babble) as (url, _), webhook(url) as hook:
        receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)


# The life of a webhook


async def test_a_session_that_cannot_be_made_is_a_receipt() -> None:
    def broken() -> aiohttp.ClientSession:
        raise RuntimeError("no certificates in /secret/place")

    hook = Webhook(WebhookOptions(url="http://127.0.0.1/"), session=broken)
    receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail == "POST http://127.0.0.1: RuntimeError"
    await hook.close()


async def test_the_session_comes_from_the_factory_once_and_is_closed() -> None:
    made: list[aiohttp.ClientSession] = []

    def session() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[-1]

    async with served(Receiver()) as url:
        hook = Webhook(WebhookOptions(url=url), session=session)
        assert [(await hook.apply(ORDER)).accepted for _ in range(3)] == [True] * 3
        await hook.close()
    assert len(made) == 1
    assert made[0].closed


async def test_a_closed_webhook_accepts_nothing_and_opens_nothing() -> None:
    async with served(Receiver()) as url, webhook(url) as hook:
        await hook.close()
        receipt = await hook.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)


async def test_cancelling_an_attempt_is_not_swallowed() -> None:
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    async with wired(hang) as (url, _), webhook(url) as hook:
        attempt = asyncio.create_task(hook.apply(ORDER))
        await asyncio.wait_for(arrived.wait(), 10)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def test_there_is_nothing_to_read_back() -> None:
    async with webhook("http://127.0.0.1/") as hook:
        assert await hook.verify(ORDER) is Verification.UNSUPPORTED


# Secrets


async def test_secrets_appear_nowhere_but_in_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hidden = ["hunter2", SECRET.removeprefix("whsec_"), "T0KEN", "s3cr3t", "Zm9vYmFy"]
    receiver = Receiver(status=500, body=" ".join(hidden).encode())
    seen: list[object] = []
    async with served(receiver) as url:
        for status in (200, 401, 409, 500):
            receiver.status = status
            secretive = url.replace("//", "//me:hunter2@") + "/T0KEN?key=s3cr3t"
            async with webhook(secretive, headers={"x-api-key": "Zm9vYmFy"}) as hook:
                seen += [await hook.apply(ORDER), hook, pretty_repr(hook), vars(hook)]
                seen += [hook._options, pretty_repr(hook._options), f"{hook._options}"]
    async with webhook(secretive) as hook:  # nobody listens there any more
        seen.append(await hook.apply(ORDER))
    # The receiver's own access log is not the webhook's.
    logged = [vars(record) for record in caplog.records if record.name != "aiohttp.access"]
    shown = repr(seen) + repr(logged)
    assert len(receiver.requests) == 4
    assert [text for text in hidden if text in shown] == []


def test_problems_with_options_do_not_quote_secrets() -> None:
    options = WebhookOptions(
        url="ftp://me:hunter2@host/hunter2?hunter2",
        secret="whsec_hunter2!",
        headers={"x-key": "hunter2\n"},
    )
    with pytest.raises(ValueError, match=r"^webhook: url: .*; secret: .*; headers: ") as caught:
        Webhook(options)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": ""}, "url"),
        ({"url": "/relative"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://host:port/"}, "url"),
        ({"url": "http://host/a b"}, "url"),
        ({"url": "http://host/\n"}, "url"),
        ({"url": "http://u:p@host/", "headers": {"authorization": "Basic eDp5"}}, "url"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": 61.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"secret": ""}, "secret"),
        ({"headers": {"Webhook-Id": "mine"}}, "headers"),
        ({"headers": {"Content-Length": "3"}}, "headers"),
        ({"headers": {"a b": "c"}}, "headers"),
        ({"headers": {"a": "b\r\nc: d"}}, "headers"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, object], named: str) -> None:
    made = msgspec.structs.replace(WebhookOptions(url="https://host/"), **options)
    assert [name for name, _ in made.problems()] == [named]


@pytest.mark.parametrize("url", ["https://host/path?x=1", "http://[::1]:8080/", "https://u:p@host"])
def test_options_that_can_work_have_no_problems(url: str) -> None:
    made = WebhookOptions(url=url, secret=SECRET, headers={"X-Key": "a\tb"})
    assert list(made.problems()) == []


def test_settings_outside_their_range_are_refused_while_reading() -> None:
    with pytest.raises(msgspec.ValidationError, match="timeout"):
        msgspec.json.decode(b'{"url": "https://host", "timeout": 0}', type=WebhookOptions)
