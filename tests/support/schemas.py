"""Schemas of Kubernetes and of custom resources, which manifests are held against. This module does I/O."""

from functools import cache
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has none
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # nor has it

from support import tools
from support.manifests import VERSIONS, Json, documents


def problems(manifest: Json, version: str = VERSIONS[-1]) -> list[str]:
    """What an API server would refuse in it, as far as schemas say so; a field that is not known is wrong."""
    schema = _custom().get((manifest["apiVersion"], manifest["kind"]))
    if schema is not None:
        return [
            f"{'/'.join(map(str, error.path))}: {error.message}"
            for error in Draft202012Validator(schema).iter_errors(manifest)
        ]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'/'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [str(error.message)]
    return []


@cache
def _custom() -> dict[tuple[str, str], Json]:
    """Schemas of custom resources, by their version and kind."""
    found: dict[tuple[str, str], Json] = {}
    for file in tools.definitions():
        for one in documents(file.read_text("utf-8")):
            spec = one["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = _strict(version["schema"]["openAPIV3Schema"])
                found[key]["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return found


def _strict(schema: Any) -> Any:
    """The schema with no room for fields that it does not name, as a server does with strict validation."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _strict(each) for name, each in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if key != "format"  # Go's words for sizes of numbers
    }
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [made["type"], "null"]
    open_ended = made.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in made and "additionalProperties" not in made and not open_ended:
        made["additionalProperties"] = False
    return made
