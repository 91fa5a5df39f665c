"""The router of a simulated load: takes orders, and gives traffic back. This module does I/O (HTTP)."""

import hmac
import time
from collections.abc import Callable

import msgspec
from aiohttp import web

from abmonitor.http import as_json
from abmonitor.order_desk import OrderDesk
from stream.split import Split


class _Rearm(msgspec.Struct, forbid_unknown_fields=True):
    """Whose traffic is given back."""

    experiment: str
    treatment: str


class TrafficRouter:
    """Obeys rollbacks by changing the split that a simulation is made with."""

    def __init__(
        self,
        split: Split,
        secret: str,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`secret` signs orders, and is the bearer token of whoever gives traffic back.

        `tell` is told what was done; `clock` gives epoch seconds. Raises ValueError where the secret
        cannot be used.
        """
        self._split, self._tell = split, tell
        self._bearer = f"Bearer {secret}".encode("utf-8", "surrogateescape")
        self._desk = OrderDesk(secret, self._roll_back, clock)

    def application(self) -> web.Application:
        """What serves it."""
        app = web.Application()
        app.router.add_post("/rollback", self._desk.take)
        app.router.add_post("/rearm", self._rearm)
        app.router.add_get("/split", self._shares)
        app.router.add_get("/healthz", _healthz)
        return app

    def _roll_back(self, experiment: str, treatment: str) -> bool:
        found = self._split.stop(experiment, treatment)
        if found:
            self._tell(f"rolled back: {treatment} of {experiment} gets no traffic from now on")
        return found

    async def _shares(self, _: web.Request) -> web.Response:
        """The share of each variant, by experiment; what a webhook's `verify` reads back."""
        return as_json(self._split.shares())

    async def _rearm(self, request: web.Request) -> web.Response:
        """Give a treatment its declared share again; 401 without the secret, 404 where there is none."""
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._bearer):
            return _refused(401, "expected `Authorization: Bearer` and the secret of this router")
        try:
            about = msgspec.json.decode(await request.read(), type=_Rearm)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            expected = '{"experiment": "…", "treatment": "…"}'
            return _refused(400, f"expected {expected}: {error}")
        if not self._split.stop(about.experiment, about.treatment, stopped=False):
            known = ", ".join(
                f"{name}: {', '.join(of)}" for name, of in self._split.shares().items()
            )
            return _refused(
                404,
                f"no treatment {about.treatment!r} of an experiment {about.experiment!r} here;"
                f" the variants are {known}",
            )
        self._tell(f"given back: {about.treatment} of {about.experiment} gets its traffic again")
        return as_json(self._split.shares())


def _refused(status: int, why: str) -> web.Response:
    return as_json({"error": why}, status)


async def _healthz(_: web.Request) -> web.Response:
    """The load goes on."""
    return as_json({"status": "ok"})
