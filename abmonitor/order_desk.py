"""Takes the orders that a webhook posts: checks who sent them, and obeys each once. This module does I/O (HTTP).

It is the receiver's half of docs/webhook.md, for the routers that abmonitor itself brings along.
"""

from collections.abc import Callable

import msgspec
from aiohttp import web

from alerts.actuators.signing import key, verify


ROLLBACK = "dev.abmonitor.rollback.v1"

REMEMBERED = 10_000
"""Orders whose ids are known; one that comes again after so many others is obeyed again."""

Obey = Callable[[str, str], bool]
"""Takes all traffic from a treatment of an experiment; False where it has no such treatment."""


class OrderDesk:
    """Where orders come to. `ids` are those that were obeyed, oldest first."""

    def __init__(self, secret: str, obey: Obey, clock: Callable[[], float]) -> None:
        """`secret`: what orders are signed with; `clock`: epoch seconds, to tell how old an order is.

        Raises ValueError, without the secret, where that cannot be used.
        """
        key(secret)
        self._secret, self._obey, self._clock = secret, obey, clock
        self._ids: dict[str, None] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of the orders that were obeyed, oldest first."""
        return list(self._ids)

    async def take(self, request: web.Request) -> web.Response:
        """Answer the POST of an order: 204 done, 400 no order, 401 not genuine, 404 not one of ours."""
        body, head = await request.read(), request.headers
        genuine = verify(
            self._secret,
            head.get("webhook-id", ""),
            head.get("webhook-timestamp", ""),
            body,
            head.get("webhook-signature", ""),
            now=self._clock(),
        )
        if not genuine:
            return web.Response(status=401, text="the signature is not right")
        try:
            order = msgspec.json.decode(body, type=_Order)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return web.Response(status=400, text=str(error))
        return self._carry_out(order)

    def _carry_out(self, order: "_Order") -> web.Response:
        """Obey a genuine order; one that came before moves nothing, or a late copy would undo a re-arm."""
        if order.type != ROLLBACK or order.dryrun or order.id in self._ids:
            return web.Response(status=204)
        about = order.data
        if not self._obey(about.experiment, about.treatment):
            text = f"no treatment {about.treatment!r} of an experiment {about.experiment!r} here"
            return web.Response(status=404, text=text)
        self._ids[order.id] = None
        while len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return web.Response(status=204)


class _Target(msgspec.Struct):
    """Whose traffic an order is about."""

    experiment: str
    treatment: str


class _Order(msgspec.Struct):
    """What is read of an order (a CloudEvents document)."""

    id: str
    type: str
    data: _Target
    dryrun: bool = False
