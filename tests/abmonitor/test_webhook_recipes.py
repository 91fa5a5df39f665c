"""The recipes of docs/webhook.md, each against a receiver that behaves as its service documents.

So a recipe that the settings refuse, that its service would refuse, or that does not switch anything fails here.
"""

import json
import re
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.views import settings_of

from abmonitor.breach import actuator_of
from alerts.actuators import signing
from alerts.order import Actuator, Order, Verification


DOCUMENT = Path(__file__).parents[2] / "docs" / "webhook.md"
ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    split={"rules-v1": 1.0, "ranker-v2": 0.0},
    reasons=('rap "sequential" fails',),
)


class Service:
    """A service that is switched on, counts what it was told, and knows one token."""

    token: str | None = None
    header = "authorization"

    def __init__(self) -> None:
        self.on = True
        self.switched = 0
        self.app = web.Application(middlewares=[self._known])
        self.routes()

    def routes(self) -> None:
        raise NotImplementedError

    @web.middleware
    async def _known(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.token is not None and request.headers.get(self.header) != self.token:
            return web.json_response({"error": "unauthorised"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    def off(self) -> None:
        self.on, self.switched = False, self.switched + 1


async def body_of(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    try:
        return json.loads(await request.read())
    except ValueError:
        raise web.HTTPBadRequest from None


class MLflow(Service):
    token = "Basic dXNlcjpwYXNzd29yZA=="
    path = "/api/2.0/mlflow/registered-models/alias"

    def routes(self) -> None:
        self.aliases = {("ranker", "champion"): "4"}
        self.app.router.add_post(self.path, self.set)
        self.app.router.add_get(self.path, self.get)

    async def set(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        if set(given) != {"name", "alias", "version"}:
            return web.json_response({"error_code": "INVALID_PARAMETER_VALUE"}, status=400)
        if given["version"] not in {"3", "4"} or given["name"] != "ranker":
            return web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST"}, status=404)
        self.aliases[given["name"], given["alias"]] = given["version"]
        self.off()
        return web.json_response({})

    async def get(self, request: web.Request) -> web.Response:
        found = self.aliases.get((request.query["name"], request.query["alias"]))
        if found is None:
            return web.json_response({"error_code": "INVALID_PARAMETER_VALUE"}, status=400)
        return web.json_response({"model_version": {"name": "ranker", "version": found}})


class LaunchDarkly(Service):
    token = "api-00000000-0000-0000-0000-000000000000"

    def routes(self) -> None:
        self.app.router.add_patch("/api/v2/flags/shop/ranker", self.patch)
        self.app.router.add_get("/api/v2/flags/shop/ranker", self.get)

    def shown(self) -> web.Response:
        return web.json_response({"key": "ranker", "environments": {"production": {"on": self.on}}})

    async def patch(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        parameters = request.headers["content-type"].split(";")[1:]
        if "domain-model=launchdarkly.semanticpatch" not in [each.strip() for each in parameters]:
            return web.json_response({"code": "invalid_request"}, status=400)
        if given["environmentKey"] != "production" or not isinstance(given["comment"], str):
            return web.json_response({"code": "invalid_request"}, status=400)
        if [each["kind"] for each in given["instructions"]] != ["turnFlagOff"]:
            return web.json_response({"code": "invalid_request"}, status=400)
        self.off()
        return self.shown()

    async def get(self, request: web.Request) -> web.Response:
        assert request.query["env"] == "production"
        return self.shown()


class Unleash(Service):
    token = "user:0000000000000000000000000000"
    path = "/api/admin/projects/default/features/ranker/environments/production"

    def routes(self) -> None:
        self.app.router.add_post(f"{self.path}/off", self.turn_off)
        self.app.router.add_get(self.path, self.get)

    async def turn_off(self, request: web.Request) -> web.Response:
        assert await request.read() == b""
        self.off()
        return web.Response()

    async def get(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "production", "enabled": self.on, "strategies": []})


class GrowthBook(Service):
    token = "Bearer secret_0000000000000000"

    def routes(self) -> None:
        self.app.router.add_post("/api/v2/features/ranker/toggle", self.toggle)
        self.app.router.add_get("/api/v2/features/ranker", self.get)

    async def toggle(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        if not set(given) <= {"environments", "reason"} or not isinstance(given["reason"], str):
            return web.json_response({"message": "strict"}, status=400)
        if given["environments"] == {"production": False}:
            self.off()
        return await self.get(request)

    async def get(self, _: web.Request) -> web.Response:
        environments = {"production": {"enabled": self.on, "defaultValue": "false"}}
        return web.json_response({"feature": {"id": "ranker", "environments": environments}})


class Statsig(Service):
    token, header = "console-0000000000000000", "STATSIG-API-KEY"

    def routes(self) -> None:
        self.app.router.add_put("/console/v1/gates/ranker/disable", self.disable)
        self.app.router.add_get("/console/v1/gates/ranker", self.get)

    async def disable(self, request: web.Request) -> web.Response:
        self.off()
        return await self.get(request)

    async def get(self, _: web.Request) -> web.Response:
        return web.json_response({"message": "ok", "data": {"id": "ranker", "isEnabled": self.on}})


class Envoy(Service):
    key = "routing.traffic_shift.ranker"

    def routes(self) -> None:
        self.app.router.add_post("/runtime_modify", self.modify)
        self.app.router.add_get("/runtime", self.get)

    async def modify(self, request: web.Request) -> web.Response:
        assert dict(request.query) == {self.key: "0"}
        self.off()
        return web.Response(text="OK\n")

    async def get(self, _: web.Request) -> web.Response:
        value = "50" if self.on else "0"
        entry = {"layer_values": ["50", "" if self.on else "0"], "final_value": value}
        return web.json_response({"layers": ["static", "admin"], "entries": {self.key: entry}})


class Nginx(Service):
    def routes(self) -> None:
        self.values = {"offers": "ranker-v2"}
        self.app.router.add_patch("/api/9/http/keyvals/experiments", self.patch)
        self.app.router.add_get("/api/9/http/keyvals/experiments", self.get)

    async def patch(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        if not set(given) <= set(self.values):
            return web.json_response({"error": {"code": "KeyvalKeyNotFound"}}, status=404)
        self.values |= given
        self.off()
        return web.Response(status=204)

    async def get(self, _: web.Request) -> web.Response:
        return web.json_response(self.values)


class Own(Service):
    token = "Bearer 0000000000000000"

    def routes(self) -> None:
        self.split = {"rules-v1": 0.5, "ranker-v2": 0.5}
        self.app.router.add_put("/experiments/offers", self.put)
        self.app.router.add_get("/experiments/offers", self.get)

    async def put(self, request: web.Request) -> web.Response:
        raw, headers = await request.read(), request.headers
        parts = headers["webhook-id"], headers["webhook-timestamp"]
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        if not signing.verify(secret, *parts, raw, headers["webhook-signature"], now=time.time()):
            return web.Response(status=401)
        given = json.loads(raw)
        assert given["because"] == ORDER.reasons[0]
        if sum(given["split"].values()) != 1:
            return web.Response(status=422)
        self.split = given["split"]
        self.off()
        return web.Response(status=204)

    async def get(self, _: web.Request) -> web.Response:
        return web.json_response({"split": self.split})


SERVICES: dict[str, type[Service]] = {
    "MLflow model alias": MLflow,
    "LaunchDarkly": LaunchDarkly,
    "Unleash": Unleash,
    "GrowthBook": GrowthBook,
    "Statsig": Statsig,
    "Envoy": Envoy,
    "NGINX Plus": Nginx,
    "A config service of your own": Own,
}


def recipes() -> dict[str, tuple[str, dict[str, str]]]:
    """The settings and the environment of each recipe, by title."""
    text = DOCUMENT.read_text("utf-8").partition("## Recipes")[2]
    found = {}
    for section in text.split("\n### ")[1:]:
        settings = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
        environment = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
        assert settings is not None
        assert environment is not None
        named = dict(line.split("=", 1) for line in environment[1].splitlines())
        found[section.splitlines()[0]] = settings[1], named
    return found


@asynccontextmanager
async def switched(title: str, service: Service) -> AsyncIterator[Actuator]:
    breach, environment = recipes()[title]
    settings = settings_of(
        "experiments:\n"
        "  - name: offers\n"
        "    control: rules-v1\n"
        "    variants: {rules-v1: 0.5, ranker-v2: 0.5}\n"
        "    labels: {horizon: 1h}\n"
        "    on_breach:\n" + textwrap.indent(breach, " " * 6)
    )
    async with TestServer(service.app) as server:
        host = str(server.make_url("")).rstrip("/")
        environ = {
            name: re.sub(r"^https?://[^/]+", host, value) for name, value in environment.items()
        }
        hook = actuator_of(settings.experiments[0].on_breach, environ, None)
        try:
            yield hook
        finally:
            await hook.close()


def test_each_recipe_has_a_service_to_be_tried_with() -> None:
    assert set(recipes()) == set(SERVICES)


@pytest.mark.parametrize("title", SERVICES)
async def test_a_recipe_switches_its_service_and_sees_that_it_did(title: str) -> None:
    service = SERVICES[title]()
    async with switched(title, service) as hook:
        assert await hook.verify(ORDER) is Verification.PENDING
        receipt = await hook.apply(ORDER)
        assert receipt.accepted, receipt
        assert (service.on, service.switched) == (False, 1)
        assert await hook.verify(ORDER) is Verification.DONE
        again = await hook.apply(ORDER)
        assert again.accepted
        assert await hook.verify(ORDER) is Verification.DONE


@pytest.mark.parametrize("title", SERVICES)
async def test_a_dry_run_of_a_recipe_switches_nothing(title: str) -> None:
    service = SERVICES[title]()
    dry = msgspec.structs.replace(ORDER, dry_run=True)
    async with switched(title, service) as hook:
        receipt = await hook.apply(dry)
        assert (receipt.accepted, receipt.detail[:8]) == (True, "dry run:")
        assert await hook.verify(dry) is Verification.UNSUPPORTED
    assert (service.on, service.switched) == (True, 0)


@pytest.mark.parametrize("title", [name for name, kind in SERVICES.items() if kind.token])
async def test_a_recipe_with_a_token_that_is_not_known_fails_and_says_so(title: str) -> None:
    service = SERVICES[title]()
    service.token = "another"
    async with switched(title, service) as hook:
        receipt = await hook.apply(ORDER)
        assert (receipt.accepted, receipt.retry) == (False, False)
        assert receipt.detail.endswith("answered 401")
        assert await hook.verify(ORDER) is Verification.FAILED
    assert service.on
