import json
import re
from typing import Any

import pytest

from abmonitor.settings import json_schema
from abmonitor.yaml_source import parse


KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
HANDLED = {
    *("$ref", "$defs", "$schema", "anyOf", "enum", "type", "pattern", "minItems", "items"),
    *("additionalProperties", "properties", "required", "minProperties", "maxProperties"),
    *("propertyNames", "minimum", "maximum", "exclusiveMinimum"),
    *("title", "description", "default", "examples"),
}


def fits(data: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether data fits a JSON Schema, of which this knows what the published one uses."""
    assert set(schema) <= HANDLED
    if "$ref" in schema:
        return fits(data, defs[schema["$ref"].rsplit("/", 1)[1]], defs)
    if "anyOf" in schema:
        return any(fits(data, option, defs) for option in schema["anyOf"])
    right = data in schema.get("enum", [data])
    right &= isinstance(data, KINDS[schema["type"]]) if "type" in schema else True
    if right and isinstance(data, str):
        right = re.search(schema.get("pattern", ""), data) is not None
    elif right and isinstance(data, list):
        right = len(data) >= schema.get("minItems", 0)
        right &= all(fits(item, schema["items"], defs) for item in data)
    elif right and isinstance(data, dict):
        right = mapping_fits(data, schema, defs)
    elif right and data is not None:
        right = schema.get("minimum", data) <= data <= schema.get("maximum", data)
        right &= data > schema.get("exclusiveMinimum", data - 1)
    return right


def mapping_fits(data: dict[str, Any], schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    kinds = {key: named.get(key, others) for key in data}
    return (
        set(schema.get("required", ())) <= set(data)
        and schema.get("minProperties", 0) <= len(data) <= schema.get("maxProperties", len(data))
        and all(fits(key, schema.get("propertyNames", {}), defs) for key in data)
        and all(
            kind if isinstance(kind, bool) else fits(data[key], kind, defs)
            for key, kind in kinds.items()
        )
    )


def in_schema(text: str) -> bool:
    document, _ = parse(text, "f")
    assert document is not None
    described = json_schema()
    return fits(document.data, described, described["$defs"])


def test_the_published_schema_accepts_the_sample(sample: str) -> None:
    assert in_schema(sample)


def test_the_published_schema_accepts_what_stands_beside_experiments(sample: str) -> None:
    assert in_schema(
        sample + "early_for: 1h30m\nredis: {file: x}\nbrake: {within: 1m}\n"
        "sources: {scores: {type: prediction, fields: {score: p, time: {path: t, unit: s}}}}\n"
    )


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("name: offer-recommender", "name: no"),
        ("name: offer-recommender", "name: a b"),
        ("control: rules-v1", ""),
        ("horizon: 1h", "horizon: 60"),
        ("horizon: 1h", "horizon: 1y"),
        ("horizon: 1h,", ""),
        ("rules-v1: 0.5", "rules-v1: -0.5"),
        ("metric: rap", "metric: rapp"),
        ("margin: 0.02", "margin: -0.02"),
        ("margin: 0.02", "marge: 0.02"),
        ("consecutive: 3", "consecutive: 0"),
        ("assumed_roi: 0.0", "assumed_roi: -1"),
        ("url: {env: ROLLBACK_URL}", "url: 'http://here'"),
        ("url: {env: ROLLBACK_URL}", "url: {}"),
        ("url: {env: ROLLBACK_URL}", "url: {env: a, file: b}"),
        ("url: {env: ROLLBACK_URL}", "url: {path: b}"),
        ("experiments:", "experimnts:"),
    ],
)
def test_the_published_schema_refuses_what_loading_refuses(
    sample: str, written: str, instead: str
) -> None:
    assert written in sample
    assert not in_schema(sample.replace(written, instead, 1))


def test_the_published_schema_needs_an_experiment() -> None:
    assert not in_schema("experiments: []")
    assert not in_schema("{}")


def test_the_published_schema_shows_defaults_as_people_write_them() -> None:
    defs = json_schema()["$defs"]
    assert defs["Labels"]["properties"]["grace"]["default"] == "5m"
    assert defs["ExperimentSettings"]["properties"]["windows"]["default"] == ["5m", "1h", "1d"]
    assert defs["Settings"]["properties"]["brake"]["default"] == {"rollbacks": 3, "within": "1h"}


def test_the_published_schema_is_json() -> None:
    assert json.loads(json.dumps(json_schema())) == json_schema()
