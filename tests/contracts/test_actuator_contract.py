"""What every actuator must do, whatever it moves: add a bench and it is held to the same.

A bench runs an actuator against something real and tells which effects its orders had there, as the
other side sees them: one per distinct order, however often it was sent.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.rollouts import ContractSite
from support.servers.rollouts import RolloutServer

from alerts.actuators.argo import Argo
from alerts.actuators.argo_rollout import DECISION
from alerts.actuators.flag_definition import Shown
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.actuators.kafka import Kafka
from alerts.actuators.log import LOGGER, Log
from alerts.actuators.signing import verify
from alerts.actuators.webhook import Webhook, WebhookOptions
from alerts.order import Actuator, Order, Receipt, Verification


ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    reasons=("rap:sequential fails",),
    evidence={"lower": -0.2},
)
DRY = msgspec.structs.replace(ORDER, id="offers:ranker-v2:4", dry_run=True)
Effect = tuple[str, str, bool]
"""Order id, treatment and whether it was understood as a dry run."""


class Bench(ABC):
    """An actuator and the other side of it."""

    actuator: Actuator

    @abstractmethod
    async def open(self) -> None:
        """Start the other side."""

    @abstractmethod
    def effects(self) -> set[Effect]:
        """What the other side did."""

    async def close(self) -> None:
        """Stop both."""
        await self.actuator.close()


class WebhookBench(Bench):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    async def open(self) -> None:
        self._done: dict[str, Effect] = {}
        app = web.Application()
        app.router.add_post("/", self._receive)
        self._server = TestServer(app)
        await self._server.start_server()
        options = WebhookOptions(url=str(self._server.make_url("/")), secret=self.secret)
        self.actuator = Webhook(options, clock=lambda: 1_772_366_400.0)

    async def _receive(self, request: web.Request) -> web.Response:
        body, headers = await request.read(), request.headers
        message, sent_at = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"]
        if not verify(self.secret, message, sent_at, body, signatures, now=1_772_366_400.0):
            return web.Response(status=401)
        event = json.loads(body)
        dry = event["type"] != "dev.abmonitor.rollback.v1"
        self._done.setdefault(message, (event["id"], event["subject"], dry))
        return web.Response(status=202)

    def effects(self) -> set[Effect]:
        return set(self._done.values())

    async def close(self) -> None:
        await super().close()
        await self._server.close()


class LogBench(Bench):
    class _Lines(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.lines.append(record.getMessage())

    async def open(self) -> None:
        self._handler = self._Lines()
        logging.getLogger(LOGGER).addHandler(self._handler)
        self.actuator = Log()

    def effects(self) -> set[Effect]:
        found = set()
        for line in self._handler.lines:
            label, brace, rest = line.partition("{")
            order = msgspec.json.decode(brace + rest, type=Order)
            found.add((order.id, order.treatment, label.startswith("dry run")))
        return found

    async def close(self) -> None:
        await super().close()
        logging.getLogger(LOGGER).removeHandler(self._handler)


class KafkaBench(Bench):
    """A router that listens to the topic, and acts once for each order."""

    async def open(self) -> None:
        self._done: dict[str, Effect] = {}
        self.actuator = Kafka(self._send)

    async def _send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        assert dict(headers) == {"content-type": b"application/cloudevents+json"}
        event = json.loads(value)
        assert key.decode() == event["data"]["experiment"]
        dry = event["type"] != "dev.abmonitor.rollback.v1"
        self._done.setdefault(event["id"], (event["id"], event["subject"], dry))

    def effects(self) -> set[Effect]:
        """What the router did."""
        return set(self._done.values())


class FlagdBench(Bench):
    """A flag that deals half of the customers to the treatment, before any order."""

    async def open(self) -> None:
        self._folder = TemporaryDirectory()
        self._path = Path(self._folder.name) / "flags.json"
        self.actuator = Flagd.at(FlagdOptions(path=str(self._path)))
        split = {"rules-v1": 0.5, "ranker-v2": 0.5}
        await self.actuator.show(Shown(experiment="offers", control="rules-v1", split=split))

    def effects(self) -> set[Effect]:
        """What a reader of the file sees: which treatments are off, or would be, by which orders."""
        flag = json.loads(self._path.read_bytes())["flags"]["offers"]
        served = {name for name, _ in flag.get("targeting", {}).get("fractional", ())}
        found = set()
        for key, value in flag["metadata"].items():
            treatment, _, what = key.removeprefix("abmonitor.").rpartition(".")
            if what == "off" and treatment not in served:
                found.add((value, treatment, False))
            elif what == "would_roll_back" and treatment in served:
                found.add((value, treatment, True))
        return found

    async def close(self) -> None:
        await super().close()
        self._folder.cleanup()


class ArgoBench(Bench):
    """A rollout that has sent half of the traffic to the treatment, before any order."""

    async def open(self) -> None:
        """Start the other side."""
        self._folder = TemporaryDirectory()
        self._server = RolloutServer()
        await self._server.__aenter__()
        site = ContractSite(Path(self._folder.name), "shop", self._server)
        await site.create()
        self.actuator = Argo(site.options(user="admin", trust_name=True))

    def effects(self) -> set[Effect]:
        """Which orders have aborted it, or would have; it serves one treatment, whatever its name."""
        seen = [(made, False) for made in self._server.objects.values()]
        seen += [(made, True) for made in self._server.rehearsed]
        found = set()
        for made, dry in seen:
            noted = made["metadata"].get("annotations", {}).get(DECISION)
            if noted is not None and (dry or made["status"].get("abort") is True):
                found.add((noted, "ranker-v2", dry))
        return found

    async def close(self) -> None:
        """Stop both."""
        await super().close()
        await self._server.__aexit__()
        self._folder.cleanup()


@pytest.fixture(params=[WebhookBench, LogBench, KafkaBench, FlagdBench, ArgoBench])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = request.param()
    await made.open()
    yield made
    await made.close()


async def test_an_order_is_carried_out(bench: Bench) -> None:
    receipt = await bench.actuator.apply(ORDER)
    assert receipt.accepted
    assert receipt.detail
    assert bench.effects() == {(ORDER.id, "ranker-v2", False)}


async def test_applying_an_order_again_changes_nothing(bench: Bench) -> None:
    receipts = [await bench.actuator.apply(ORDER) for _ in range(3)]
    assert all(receipt.accepted for receipt in receipts)
    assert bench.effects() == {(ORDER.id, "ranker-v2", False)}


async def test_a_dry_run_is_visible_as_one(bench: Bench) -> None:
    await bench.actuator.apply(DRY)
    assert bench.effects() == {(DRY.id, "ranker-v2", True)}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "a.b\r\nc: d"},
        {"id": "x" * 100_000},
        {"id": "\ud800"},
        {"experiment": "../?#\n", "treatment": ""},
        {"decided_at": 10**30},
        {"decided_at": -1},
        {"reasons": ("%s %d {}", "\x00\n\u2028")},
        {"evidence": {"an object": object(), "nan": float("nan")}},
        {"evidence": {"large": ["x" * 1000] * 1000}},
        {"evidence": {1: {None: b"bytes"}}},
    ],
)
async def test_no_order_makes_an_actuator_raise(bench: Bench, changes: dict[str, object]) -> None:
    order = msgspec.structs.replace(ORDER, **changes)
    assert isinstance(await bench.actuator.apply(order), Receipt)
    assert isinstance(await bench.actuator.verify(order), Verification)


async def test_verifying_gives_a_verification_before_and_after(bench: Bench) -> None:
    before = await bench.actuator.verify(ORDER)
    await bench.actuator.apply(ORDER)
    after = await bench.actuator.verify(ORDER)
    assert before is not Verification.DONE
    assert after in Verification
    assert bench.effects() == {(ORDER.id, "ranker-v2", False)}


async def test_closing_twice_is_harmless_and_nothing_raises_afterwards(bench: Bench) -> None:
    await bench.actuator.apply(ORDER)
    await bench.actuator.close()
    await bench.actuator.close()
    assert isinstance(await bench.actuator.apply(ORDER), Receipt)
    assert isinstance(await bench.actuator.verify(ORDER), Verification)


async def test_an_actuator_that_was_never_used_can_be_closed(bench: Bench) -> None:
    await bench.actuator.close()
    assert bench.effects() == set()
