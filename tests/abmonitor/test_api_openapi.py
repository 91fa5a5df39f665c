"""The API's description is true: requests that are made from it, good and bad, get answers that fit it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from support.running import Running

from abmonitor.api_openapi import openapi
from abmonitor.api_routes import ROUTES, Route
from alerts.machine import Command


schemathesis = pytest.importorskip("schemathesis")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
ASKED = [route for route in ROUTES if not route.path.endswith("{id}")]
ACTING = [route for route in ROUTES if route.acts]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path, per_minute=100_000)
    for name in ("offers", "prices"):
        said = Command(made.shop.now, "pause", "ann", "why")
        made.run(made.shop.monitor.command(name, None, said))
    yield made
    made.end()


def ask(running: Running, route: Route, mode: str, change: Callable[[Any], None]) -> set[int]:
    """Send requests that are made from the description, and check the answers; gives their statuses."""
    described = schemathesis.openapi.from_url(f"{running.url}/api/v1/openapi.json")
    operation = described[route.path][route.method]
    generated = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    checks = [getattr(schemathesis.checks, name) for name in CHECKS]
    statuses = set[int]()

    @settings(
        max_examples=25,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=generated)
    def one(case: Any) -> None:
        change(case)
        answer = case.call(headers=running.shop.bearer("ann"))
        case.validate_response(answer, checks=checks)
        statuses.add(answer.status_code)

    one()
    return statuses


def as_it_is(_: Any) -> None:
    """Change nothing."""


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_whatever_fits_the_description_is_answered_as_described(
    running: Running, route: Route
) -> None:
    assert ask(running, route, "positive", as_it_is) <= {200, *route.refusals}


@pytest.mark.parametrize("route", [r for r in ASKED if r.path != "/api/v1/experiments"], ids=named)
def test_whatever_does_not_fit_is_refused_as_described(running: Running, route: Route) -> None:
    statuses = ask(running, route, "negative", as_it_is)
    assert statuses & route.refusals.keys()
    assert statuses <= {200, 405, *route.refusals}  # 200 where only headers are strange


@pytest.mark.parametrize("route", ACTING, ids=named)
def test_words_about_what_there_is_are_taken(running: Running, route: Route) -> None:
    def about_offers(case: Any) -> None:
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "offers"
            case.body["treatment"] = "new"
        case.body.pop("until", None)

    assert ask(running, route, "positive", about_offers) & {200, 409}


def test_the_description_is_one_of_every_route_and_names_what_it_refers_to() -> None:
    found = openapi(ROUTES, open_reads=False)
    assert found["paths"].keys() == {route.path for route in ROUTES}
    operations = [found["paths"][r.path][r.method.lower()] for r in ROUTES]
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    assert all(operation["security"] == [{"bearer": []}] for operation in operations)
    schemas = found["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/([^\"]+)", json.dumps(found)):
        assert name in schemas


def test_open_reads_need_no_token_in_the_description_and_acting_does() -> None:
    found = openapi(ROUTES, open_reads=True)
    for route in ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        assert ({} in operation["security"]) == (not route.acts)
