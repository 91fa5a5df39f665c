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
from abmonitor.order_desk import OrderDesk


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
    _next: int = 0
    _outcomes: list[tuple[int, int, bytes]] = field(default_factory=list)
    _chance: random.Random = field(init=False)
    _dealing: Dealing = field(init=False)
    _desk: OrderDesk = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311  # a simulation
        self._dealing = self.dealing or ByHash(self.control, self.treatment, self.seed)
        self._desk = OrderDesk(self.secret, self._obey, self.clock)

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

    @property
    def orders(self) -> list[str]:
        """The ids of the orders that it obeyed."""
        return self._desk.ids

    def application(self) -> web.Application:
        """The endpoint that takes orders."""
        app = web.Application()
        app.router.add_post("/rollback", self._desk.take)
        return app

    def _obey(self, experiment: str, treatment: str) -> bool:
        """Carry out a genuine order; False where it is about somebody else's traffic."""
        if (experiment, treatment) != (self.experiment, self.treatment):
            return False
        self._dealing.stop()
        self.note_rollback()
        return True

    def note_rollback(self) -> None:
        """From the next customer on nobody is dealt to the treatment."""
        if self.rolled_back_at is None:
            self.rolled_back_at = self._next
