import json
import time
from typing import Any, Self

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from abmonitor import order_desk
from abmonitor.operate.traffic import TrafficRouter
from abmonitor.order_desk import OrderDesk
from abmonitor.simulation import EXAMPLE
from alerts.actuators import signing
from alerts.actuators.webhook import Webhook
from alerts.actuators.webhook_options import ReadBack, WebhookOptions
from alerts.order import Order, Verification
from stream.split import Split


SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
BEARER = {"Authorization": f"Bearer {SECRET}"}
AWAY = {"control": 1.0, "treatment": 0.0}
HALVES = {"control": 0.5, "treatment": 0.5}


class Router:
    """A served router, the split that it changes, and what it told."""

    def __init__(self) -> None:
        self.split, self.told = Split(EXAMPLE), list[str]()
        self.client: Any = None

    async def __aenter__(self) -> Self:
        router = TrafficRouter(self.split, SECRET, self.told.append)
        self.client = TestClient(TestServer(router.application()))
        await self.client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def webhook(self, secret: str = SECRET) -> Webhook:
        """The actuator that a monitor would have."""
        back = ReadBack(url=str(self.client.make_url("/split")), expect={"/example/treatment": 0})
        url = str(self.client.make_url("/rollback"))
        return Webhook(WebhookOptions(url=url, secret=secret, verify=back))

    async def give_back(self, body: object, headers: dict[str, str] = BEARER) -> ClientResponse:
        answer: ClientResponse = await self.client.post(
            "/rearm", data=json.dumps(body), headers=headers
        )
        return answer


def order(number: int = 1, **changes: Any) -> Order:
    usual: dict[str, Any] = {
        "id": f"example:treatment:{number}",
        "experiment": "example",
        "treatment": "treatment",
        "control": "control",
        "decided_at": 1_767_225_600_000,
    }
    return Order(**usual | changes)


async def test_an_order_of_the_webhook_takes_the_traffic_and_is_read_back() -> None:
    async with Router() as router:
        webhook = router.webhook()
        assert router.split.shares() == {"example": HALVES}
        assert await webhook.verify(order()) is Verification.PENDING
        assert (await webhook.apply(order())).accepted
        assert await webhook.verify(order()) is Verification.DONE
        assert router.split.shares() == {"example": AWAY}
        assert router.told == ["rolled back: treatment of example gets no traffic from now on"]
        await webhook.close()


async def test_traffic_that_was_given_back_stays_although_the_old_order_comes_again() -> None:
    async with Router() as router:
        webhook = router.webhook()
        await webhook.apply(order())
        answer = await router.give_back({"experiment": "example", "treatment": "treatment"})
        assert (answer.status, await answer.json()) == (200, {"example": HALVES})
        assert (await webhook.apply(order())).accepted
        assert router.split.shares() == {"example": HALVES}
        assert (await webhook.apply(order(2))).accepted
        assert router.split.shares() == {"example": AWAY}
        assert [told.split(":")[0] for told in router.told] == [
            "rolled back", "given back", "rolled back",
        ]  # fmt: skip
        await webhook.close()


@pytest.mark.parametrize(
    ("secret", "changes", "accepted"),
    [
        ("guessed", {}, False),
        (SECRET, {"treatment": "control"}, False),
        (SECRET, {"experiment": "another"}, False),
        (SECRET, {"dry_run": True}, True),
        (SECRET, {"action": "promotion"}, True),
    ],
)
async def test_whatever_is_no_genuine_rollback_of_a_treatment_moves_nothing(
    secret: str, changes: dict[str, Any], accepted: bool
) -> None:
    async with Router() as router:
        webhook = router.webhook(secret)
        receipt = await webhook.apply(order(**changes))
        assert (receipt.accepted, receipt.retry) == (accepted, False)
        assert router.split.shares() == {"example": HALVES}
        assert router.told == []
        await webhook.close()


@pytest.mark.parametrize("body", [b"{}", b"[", b'{"id": "\xff"}', b"[" * 100_000])
async def test_what_is_signed_and_no_order_is_refused_and_never_sent_again(body: bytes) -> None:
    async with Router() as router:
        now = int(time.time())
        headers = {
            "webhook-id": "one",
            "webhook-timestamp": str(now),
            "webhook-signature": signing.sign(SECRET, "one", now, body),
        }
        for path, given in (("/rollback", headers), ("/rearm", BEARER)):
            answer = await router.client.post(path, data=body, headers=given)
            assert answer.status == 400
        assert router.told == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        ({}, {}, 401, "Authorization: Bearer"),
        ({}, {"Authorization": f"Bearer {SECRET}x"}, 401, "the secret of this router"),
        ({}, {"Authorization": "Bearer \udcff"}, 401, "the secret of this router"),
        ({"experiment": "example"}, BEARER, 400, "expected {"),
        ({"experiment": "example", "treatment": "treatment", "by": 1}, BEARER, 400, "by"),
        ([], BEARER, 400, "expected {"),
        ({"experiment": "example", "treatment": "control"}, BEARER, 404, "the variants are"),
        ({"experiment": "x", "treatment": "treatment"}, BEARER, 404, "example: control, treatment"),
    ],
)
async def test_traffic_is_given_back_only_to_a_treatment_and_by_who_has_the_secret(
    body: object, headers: dict[str, str], status: int, says: str
) -> None:
    async with Router() as router:
        router.split.stop("example", "treatment")
        answer = await router.give_back(body, headers)
        assert (answer.status, says in (await answer.json())["error"]) == (status, True)
        assert router.split.shares() == {"example": AWAY}


async def test_anybody_may_ask_how_it_is_and_what_the_split_is() -> None:
    async with Router() as router:
        for path, document in (("/healthz", {"status": "ok"}), ("/split", {"example": HALVES})):
            answer = await router.client.get(path)
            assert (answer.status, await answer.json()) == (200, document)


@pytest.mark.parametrize("secret", ["", "whsec_%"])
def test_a_secret_that_cannot_be_used_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        TrafficRouter(Split(EXAMPLE), secret)


async def test_only_so_many_orders_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_desk, "REMEMBERED", 3)
    obeyed: list[str] = []

    def obey(experiment: str, _: str) -> bool:
        obeyed.append(experiment)
        return True

    desk = OrderDesk(SECRET, obey, lambda: 1_000.0)
    for number in range(5):
        body = json.dumps(
            {
                "id": f"order {number}",
                "type": order_desk.ROLLBACK,
                "data": {"experiment": str(number), "treatment": "new"},
            }
        ).encode()
        headers = {
            "webhook-id": "m",
            "webhook-timestamp": "1000",
            "webhook-signature": signing.sign(SECRET, "m", 1_000, body),
        }
        answer = await desk.take(Posted(body, headers))  # type: ignore[arg-type]
        assert answer.status == 204
    assert obeyed == list("01234")
    assert desk.ids == ["order 2", "order 3", "order 4"]


class Posted:
    """A request, as far as the desk looks at it."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        self.body, self.headers = body, headers

    async def read(self) -> bytes:
        return self.body
