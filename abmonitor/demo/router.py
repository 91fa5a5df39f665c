"""The demo's router: assigns customers, sends their events, and obeys rollbacks. It does I/O (HTTP).

It stands for what users have: a service that splits traffic and reports what it did. It knows nothing of
the monitor but the address that orders come to and the secret that they are signed with.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from aiohttp import web

from abmonitor.demo.dealing import ByHash, Dealing
from abmonitor.demo.offers import Offer
from alerts.actuators.signing import verify


ROLLBACK = "dev.abmonitor.rollback.v1"


class Sent(NamedTuple):
    """An event as it is in the log: when it arrived there (epoch ms), and its bytes."""

    arrival: int
    value: bytes


@dataclass(slots=True)
class Router:
    """Serves customers with the variant that they are dealt, and obeys orders."""

    experiment: str
    control: str
    treatment: str
    defect_at: int
    """From this customer on the treatment's feature pipeline is broken."""
    secret: str
    clock: Callable[[], float]
    """Epoch seconds, to check how old an order is."""
    seed: int = 0
    dealing: Dealing | None = None
    """Without one, by a hash of `seed` and the customer."""
    rolled_back_at: int | None = None
    """The number of the first customer after the rollback."""
    orders: list[str] = field(default_factory=list)
    _next: int = 0
    _outcomes: list[tuple[int, int, bytes]] = field(default_factory=list)
    _chance: random.Random = field(init=False)
    _dealing: Dealing = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311  # a simulation
        self._dealing = self.dealing or ByHash(self.control, self.treatment, self.seed)

    def assigned(self, offer: Offer) -> str:
        """The variant that a customer belongs to, whatever was rolled back since."""
        return self._dealing.belongs(offer.number)

    def serve(self, offer: Offer, at: int) -> list[Sent]:
        """Decide about one customer now (epoch ms); gives the events that are in the log by then."""
        sent = self.due(at)
        variant = self._dealing.deal(offer.number)
        decision = offer.control
        if variant == self.treatment:
            decision = offer.defect if offer.number >= self.defect_at else offer.good
        name = f"call-{offer.number:06d}"
        prediction = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": self.experiment,
            "variant": variant,
            "predicted": decision.call,
            "time": at,
            "latency_ms": self._latency(variant),
            "score": decision.score,
            "unit_id": str(offer.number),
            "segment": offer.segment,
        }
        # The real data says whether the offer was accepted; how long the answer took is simulated.
        answered = at + min(round(self._chance.lognormvariate(12.1, 0.6)), 900_000)
        outcome = {
            "type": "outcome",
            "prediction_id": name,
            "actual": offer.accepted,
            "time": answered,
        }
        heapq.heappush(self._outcomes, (answered, offer.number, msgspec.json.encode(outcome)))
        self._next = offer.number + 1
        return [*sent, Sent(at, msgspec.json.encode(prediction))]

    def due(self, at: int) -> list[Sent]:
        """The outcomes that have come in by now."""
        sent = []
        while self._outcomes and self._outcomes[0][0] <= at:
            arrival, _, value = heapq.heappop(self._outcomes)
            sent.append(Sent(arrival, value))
        return sent

    def _latency(self, variant: str) -> float:
        """Simulated: the boosted model is a little slower than the rule."""
        median = 3.4 if variant == self.control else 3.9
        return round(self._chance.lognormvariate(median, 0.45), 2)

    def application(self) -> web.Application:
        """The endpoint that takes orders."""
        app = web.Application()
        app.router.add_post("/rollback", self._rollback)
        return app

    async def _rollback(self, request: web.Request) -> web.Response:
        body = await request.read()
        head = request.headers
        genuine = verify(
            self.secret,
            head.get("webhook-id", ""),
            head.get("webhook-timestamp", ""),
            body,
            head.get("webhook-signature", ""),
            now=self.clock(),
        )
        if not genuine:
            return web.Response(status=401, text="the signature is not right")
        try:
            order = msgspec.json.decode(body, type=_Order)
        except msgspec.MsgspecError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(status=self._obey(order))

    def _obey(self, order: "_Order") -> int:
        """Carry out a genuine order; gives the HTTP status that answers it."""
        if order.type != ROLLBACK or order.dryrun:  # somebody else's, or only for the record
            return 204
        if (order.data.experiment, order.data.treatment) != (self.experiment, self.treatment):
            return 404
        if order.id not in self.orders:  # the same order may come twice
            self.orders.append(order.id)
            self._dealing.stop()
            self.note_rollback()
        return 204

    def note_rollback(self) -> None:
        """From the next customer on nobody is dealt to the treatment."""
        if self.rolled_back_at is None:
            self.rolled_back_at = self._next


class _Target(msgspec.Struct):
    """Whose traffic an order is about."""

    experiment: str
    treatment: str


class _Order(msgspec.Struct):
    """What the router reads of an order (a CloudEvents document)."""

    id: str
    type: str
    data: _Target
    dryrun: bool = False
