"""The API's description (OpenAPI 3.1), made of the table of routes and the types in it. Pure."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from abmonitor import __version__
from abmonitor.api_routes import Route
from metrics.experiment import Name


_REFERENCE = "#/components/schemas/{name}"
_BEARER = {"bearer": list[str]()}
_PARAMETERS: dict[str, Any] = {"name": Name, "id": str}


def openapi(routes: Iterable[Route], *, open_reads: bool) -> dict[str, Any]:
    """The document; `open_reads`: reading needs no token."""
    routes = tuple(routes)
    kinds = [kind for route in routes for kind in _kinds(route)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    wanted = {f"{route.query.__name__}" for route in routes}
    paths: dict[str, Any] = {}
    for route in routes:
        operation = _operation(route, by_kind, components, open_reads=open_reads)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "abmonitor",
            "version": __version__,
            "description": "What the monitor knows, and how people act on it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {name: found for name, found in components.items() if name not in wanted},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(route: Route) -> list[Any]:
    bodies = [] if route.body is None else [route.body]
    return [route.answer, route.query, *bodies, *route.refusals.values()]


def _operation(
    route: Route, schemas: dict[int, Any], components: dict[str, Any], *, open_reads: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": [*_in_path(route), *_in_query(route, components)],
        "security": [_BEARER] if route.acts or not open_reads else [{}, _BEARER],
        "responses": {
            str(status): _answer(status, schemas[id(kind)])
            for status, kind in sorted({200: route.answer, **route.refusals}.items())
        },
    }
    if route.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[id(route.body)]}},
        }
    return found


def _operation_id(route: Route) -> str:
    """Such as get_experiments_name."""
    words = re.findall(r"\w+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words])


def _answer(status: int, schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": schema}},
    }
    if status in {429, 503}:
        about = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        found["headers"] = {"Retry-After": about}
    return found


def _in_path(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": msgspec.json.schema(_PARAMETERS[name]),
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]


def _in_query(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of the query's type; what may be left out is not null."""
    properties = components[route.query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    arms = [arm for arm in schema.get("anyOf", [schema]) if arm != {"type": "null"}]
    found = {**schema, **arms[0]} if len(arms) == 1 else schema
    return {key: value for key, value in found.items() if key != "anyOf" and value is not None}
