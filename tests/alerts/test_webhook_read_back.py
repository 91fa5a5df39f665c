"""Templates and the read-back of the webhook against receivers that are polite, and ones that are not."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.pretty import pretty_repr

from alerts.actuators import signing
from alerts.actuators.webhook import MAX_ANSWER, Webhook, WebhookOptions
from alerts.actuators.webhook_options import ReadBack
from alerts.order import Order, Receipt, Verification


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_772_366_400.75
ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    reasons=('rap "sequential" fails',),
)
BODY = '{"flag": "{experiment}", "because": "{reason}"}'
OFF = ReadBack(url="http://set-by-the-test/", expect={"/on": False})


class Receiver:
    """Answers as told and remembers what it was sent."""

    def __init__(self, status: int = 200, body: bytes = b'{"on": false}') -> None:
        self.status, self.body = status, body
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[web.Request, bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@asynccontextmanager
async def served(
    receiver: Receiver, path: str = "/flags/{experiment}", **options: Any
) -> AsyncIterator[Webhook]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/") + path
        async with hooked(url, **options) as hook:
            yield hook


@asynccontextmanager
async def hooked(url: str, **options: Any) -> AsyncIterator[Webhook]:
    back = options.pop("verify", None)
    if back is not None:
        back = msgspec.structs.replace(back, url=url)
    hook = Webhook(WebhookOptions(url=url, verify=back, **options), clock=lambda: NOW)
    try:
        yield hook
    finally:
        await hook.close()


async def sent(receiver: Receiver, order: Order = ORDER, **options: Any) -> Receipt:
    async with served(receiver, **options) as hook:
        return await hook.apply(order)


async def read_back(receiver: Receiver, order: Order = ORDER, **options: Any) -> Verification:
    async with served(receiver, verify=OFF, **options) as hook:
        return await hook.verify(order)


Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wired(answer: Wire) -> AsyncIterator[str]:
    """A server without manners: `answer` has the socket after the head of the request."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/flag"


# What is sent


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_template_is_sent_as_it_says(method: str) -> None:
    receiver = Receiver(204, b"")
    receipt = await sent(receiver, method=method, body=BODY, headers={"X-Key": "{k}"})
    assert receipt.accepted
    [(request, body)] = receiver.requests
    assert (request.method, request.path) == (method, "/flags/offers")
    assert request.headers.getall("content-type") == ["application/json"]
    assert request.headers["x-key"] == "{k}"  # headers are no templates
    assert request.headers["webhook-id"] == ORDER.id
    assert json.loads(body) == {"flag": "offers", "because": 'rap "sequential" fails'}


async def test_a_template_is_signed_as_it_was_sent() -> None:
    receiver = Receiver()
    await sent(receiver, body=BODY, secret=SECRET)
    [(request, body)] = receiver.requests
    parts = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert signing.verify(SECRET, *parts, body, request.headers["webhook-signature"], now=NOW)


async def test_an_empty_body_is_none() -> None:
    receiver = Receiver()
    await sent(receiver, body="")
    [(request, body)] = receiver.requests
    assert body == b""
    assert "content-type" not in request.headers


async def test_a_form_and_a_media_type_of_ones_own_are_sent() -> None:
    receiver = Receiver()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    await sent(receiver, body="why={reason}", headers=headers)
    [(request, _)] = receiver.requests
    assert dict(await request.post()) == {"why": ORDER.reasons[0]}


async def test_a_name_stays_one_part_of_the_path_on_the_wire() -> None:
    receiver = Receiver()
    order = msgspec.structs.replace(ORDER, experiment="a/../b?c#d%2F é")
    assert (await sent(receiver, order, body="")).accepted
    [(request, _)] = receiver.requests
    assert request.raw_path == "/flags/a%2F..%2Fb%3Fc%23d%252F%20%C3%A9"


async def test_what_an_order_does_not_say_is_a_refusal_and_nothing_is_sent() -> None:
    receiver = Receiver()
    receipt = await sent(receiver, body='{"share": {share.rules-v1}}')
    assert (receipt.accepted, receipt.retry, receiver.requests) == (False, False, [])
    assert "{share.rules-v1}" in receipt.detail


@pytest.mark.parametrize(
    ("success", "status", "accepted", "retry"),
    [
        ((200,), 200, True, False),
        ((200,), 202, False, False),
        ((200,), 204, False, False),
        ((200, 404), 404, True, False),
        ((200, 409), 409, True, False),
        ((200,), 409, False, True),
        ((200,), 503, False, True),
        ((200,), 429, False, True),
        ((200,), 400, False, False),
        ((), 202, True, False),
    ],
)
async def test_success_is_what_the_options_say(
    success: tuple[int, ...], status: int, accepted: bool, retry: bool
) -> None:
    receipt = await sent(Receiver(status), body=BODY, success=success)
    assert (receipt.accepted, receipt.retry) == (accepted, retry)
    assert f"answered {status}" in receipt.detail


async def test_without_a_body_dry_runs_are_sent_and_say_so() -> None:
    receiver = Receiver()
    await sent(receiver, msgspec.structs.replace(ORDER, dry_run=True))
    [(request, body)] = receiver.requests
    assert request.headers["abmonitor-dry-run"] == "true"
    assert json.loads(body)["type"] == "dev.abmonitor.dryrun.v1"


# What is read back


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"on": false}', Verification.DONE),
        (203, b' {"on":false, "x": []}\n', Verification.DONE),
        (200, b'{"on": true}', Verification.PENDING),
        (200, b'{"on": null}', Verification.PENDING),
        (200, b'{"on": 0}', Verification.PENDING),
        (200, b"{}", Verification.PENDING),
        (200, b"[]", Verification.PENDING),
        (200, b"null", Verification.PENDING),
        (200, b"", Verification.FAILED),
        (204, b"", Verification.FAILED),
        (200, b'{"on": fal', Verification.FAILED),
        (200, b"<html>", Verification.FAILED),
        (200, b"\xff\xfe", Verification.FAILED),
        (400, b'{"on": false}', Verification.FAILED),
        (401, b'{"on": false}', Verification.FAILED),
        (403, b'{"on": false}', Verification.FAILED),
        (404, b'{"on": false}', Verification.FAILED),
        (302, b'{"on": false}', Verification.FAILED),
        (408, b'{"on": false}', Verification.PENDING),
        (409, b'{"on": false}', Verification.PENDING),
        (429, b'{"on": false}', Verification.PENDING),
        (500, b'{"on": false}', Verification.PENDING),
        (503, b'{"on": false}', Verification.PENDING),
    ],
)
async def test_an_answer_is_done_not_yet_or_failed(
    status: int, body: bytes, expected: Verification
) -> None:
    assert await read_back(Receiver(status, body)) is expected


async def test_it_is_asked_with_the_same_headers_and_nothing_of_an_order() -> None:
    receiver = Receiver()
    headers = {"Authorization": "Bearer x", "Content-Type": "application/json"}
    await read_back(receiver, headers=headers, body=BODY, method="PUT", secret=SECRET)
    [(request, body)] = receiver.requests
    assert (request.method, request.path, body) == ("GET", "/flags/offers", b"")
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["accept"] == "application/json"
    assert not {"content-type", "webhook-id", "webhook-signature"} & set(request.headers)


async def test_expected_text_may_have_placeholders() -> None:
    back = ReadBack(url="http://x/", expect={"/serves": "{control}", "/n": 3})
    for body, expected in [
        (b'{"serves": "rules-v1", "n": "3"}', Verification.DONE),
        (b'{"serves": "ranker-v2", "n": "3"}', Verification.PENDING),
    ]:
        async with served(Receiver(body=body), verify=back) as hook:
            assert await hook.verify(ORDER) is expected


async def test_without_a_read_back_or_for_a_dry_run_it_is_unsupported() -> None:
    receiver = Receiver()
    async with served(receiver) as hook:
        assert await hook.verify(ORDER) is Verification.UNSUPPORTED
    dry = msgspec.structs.replace(ORDER, dry_run=True)
    assert await read_back(receiver, dry) is Verification.UNSUPPORTED
    assert receiver.requests == []


async def test_a_packed_answer_is_not_unpacked() -> None:
    receiver = Receiver(body=b"\x1f\x8b\x08")
    receiver.headers["Content-Encoding"] = "gzip"
    assert await read_back(receiver) is Verification.FAILED


async def test_an_answer_that_is_too_large_is_left() -> None:
    large = b'{"on": false, "x": "' + b"x" * MAX_ANSWER + b'"}'
    assert await read_back(Receiver(body=large)) is Verification.FAILED


async def test_a_closed_webhook_reads_nothing() -> None:
    receiver = Receiver()
    async with served(receiver, verify=OFF) as hook:
        await hook.close()
        assert await hook.verify(ORDER) is Verification.PENDING
    assert receiver.requests == []


async def test_an_answer_that_never_comes_or_drips_for_ever_is_not_yet() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n{")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    for answer in (hang, drip):
        async with wired(answer) as url, hooked(url, verify=OFF, timeout=0.1) as hook:
            assert await hook.verify(ORDER) is Verification.PENDING


async def test_an_endless_answer_fails_and_is_hung_up_on() -> None:
    ended = asyncio.Event()

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"x" * 65_536)
                await writer.drain()
        finally:
            ended.set()

    async with wired(pour) as url, hooked(url, verify=OFF, timeout=30.0) as hook:
        assert await hook.verify(ORDER) is Verification.FAILED
        await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"]
)
async def test_a_connection_that_is_reset_is_not_yet(said: bytes) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        plug: socket.socket = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with wired(reset) as url, hooked(url, verify=OFF) as hook:
        assert await hook.verify(ORDER) is Verification.PENDING


async def test_why_it_is_not_done_is_logged_once_and_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver(body=b'{"on": true, "key": "hunter2"}')
    async with served(
        receiver, path="/T0KEN?key=hunter2", verify=OFF, headers={"x-key": "hunter2"}
    ) as hook:
        for status in (200, 200, 401, 401, 200):
            receiver.status = status
            await hook.verify(ORDER)
        shown = repr([hook, vars(hook), pretty_repr(vars(hook)), pretty_repr(hook._options)])
    told = [r.getMessage() for r in caplog.records if r.name == "alerts.actuators.webhook"]
    assert [text.rpartition(": ")[2] for text in told] == ["/on", "answered 401", "/on"]
    assert all(
        record.levelno == logging.WARNING for record in caplog.records if "order" in record.msg
    )
    for secret in ("hunter2", "T0KEN"):
        assert secret not in shown + repr(told)


# What the options may be


@pytest.mark.parametrize(
    ("options", "named", "says"),
    [
        ({"body": '{"a": "{foo}"}'}, "body", "line 1, column 8: unknown placeholder {foo}"),
        ({"body": '{"a": \n "{share.other}"}'}, "body", "line 2, column 3"),
        ({"body": '{"a": {experiment}'}, "body", "not JSON"),
        (
            {"body": "<a>{epoch}</a>", "headers": {"content-type": "application/xml"}},
            "headers",
            "escape",
        ),
        ({"url": "https://{experiment}/"}, "url", "not in the host"),
        ({"url": "https://host/{foo}"}, "url", "unknown placeholder"),
        ({"method": "PUT"}, "method", "body: ''"),
        ({"headers": {"content-type": "application/json"}}, "headers", "unless there is a body"),
        ({"verify": ReadBack(url="host", expect={"/a": 1})}, "verify", "url: expected"),
        ({"verify": ReadBack(url="https://h/{foo}", expect={"/a": 1})}, "verify", "unknown"),
        ({"verify": ReadBack(url="https://h/", expect={"a.b": 1})}, "verify", "JSON Pointer"),
        ({"verify": ReadBack(url="https://h/", expect={"/a": "{foo}"})}, "verify", "{foo}"),
        ({"verify": ReadBack(url="https://h/", expect={})}, "verify", "at least one"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], named: str, says: str) -> None:
    made = msgspec.structs.replace(WebhookOptions(url="https://host/"), **options)
    [(field, text)] = made.problems(["rules-v1", "ranker-v2"])
    assert field == named
    assert says in text


def test_a_body_without_placeholders_may_be_of_any_media_type() -> None:
    headers = {"content-type": "application/xml"}
    options = WebhookOptions(url="https://host/", body="<off/>", headers=headers)
    assert list(options.problems()) == []


@pytest.mark.parametrize(
    "text",
    [
        b'{"url": "https://h/", "method": "GET"}',
        b'{"url": "https://h/", "success": [500]}',
        b'{"url": "https://h/", "verify": {"url": "https://h/", "expect": {"/a": {}}}}',
        b'{"url": "https://h/", "verify": {"url": "https://h/", "expect": {}}}',
    ],
)
def test_options_outside_their_range_are_refused_while_reading(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=WebhookOptions)
