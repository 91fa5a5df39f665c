"""Manifests of Kubernetes: rendered by Helm, and held against the rules of restricted pods. This module does I/O."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support import tools


Json = dict[str, Any]

CHART = tools.PROJECT / "deploy" / "helm" / "abmonitor"
VERSIONS = ("1.25", "1.34")
"""Of Kubernetes: the oldest that the chart allows, and a new one."""


class _Loader(yaml.SafeLoader):
    """Reads `=` as text: YAML 1.1 has a type of its own for it, definitions use it as a word."""


_Loader.yaml_implicit_resolvers = {
    first: found for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items() if first != "="
}


def documents(text: str) -> list[Json]:
    """The mappings in a text."""
    # The safe loader, with one word more.
    return [found for found in yaml.load_all(text, Loader=_Loader) if found]


def helm(*arguments: str | Path) -> tuple[int, str, str]:
    """Status, output and errors of Helm. Raises NoServerError."""
    done = tools.run([tools.tool("helm"), *arguments])
    return done.returncode, done.stdout, done.stderr


def rendered(values: str, *more: str, version: str = VERSIONS[-1]) -> list[Json]:
    """What Helm makes of the chart with one of its example values, as release `watch` in `monitoring`."""
    status, told, wrong = _template(values, more, version)
    assert status == 0, wrong
    return documents(told)  # anew each time: a test may change what it has


def refused(values: str, *more: str) -> str:
    """Why Helm makes nothing of it."""
    status, told, wrong = _template(values, more, VERSIONS[-1])
    assert status != 0, told
    return wrong


@cache
def _template(values: str, more: tuple[str, ...], version: str) -> tuple[int, str, str]:
    file = CHART / "ci" / f"{values}-values.yaml"
    fixed = ("template", "watch", CHART, "-n", "monitoring", "--kube-version", version, "-f", file)
    return helm(*fixed, *more)


def named(manifests: Sequence[Json], kind: str, ending: str = "") -> Json:
    """The only one of a kind whose name ends so."""
    (found,) = [one for one in of_kind(manifests, kind) if one["metadata"]["name"].endswith(ending)]
    return found


def of_kind(manifests: Sequence[Json], kind: str) -> list[Json]:
    """All of a kind."""
    return [one for one in manifests if one["kind"] == kind]


def pods(manifests: Sequence[Json]) -> Iterator[tuple[str, Json]]:
    """The name of every workload, and the template of its pods."""
    for one in manifests:
        if "template" in one.get("spec", {}) and one["kind"] in {"Deployment", "Job"}:
            yield one["metadata"]["name"], one["spec"]["template"]


def unrestricted(spec: Json) -> Iterator[str]:
    """What the pod security standard "restricted" does not let pass, and a root that can be written on."""
    pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is on"
    if pod.get("runAsNonRoot") is not True or pod.get("runAsUser") == 0:
        yield "it may run as root"
    if pod.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "no seccomp profile"
    allowed = {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "csi"}
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= allowed | {"persistentVolumeClaim", "ephemeral"}:
            yield f"a volume of another kind: {volume['name']}"
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        yield from _container(container)


def _container(container: Json) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"{container['name']} may gain rights"
    if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
        yield f"{container['name']} keeps capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{container['name']} can write on its root"
    if own.get("runAsNonRoot") is False or own.get("runAsUser") == 0:
        yield f"{container['name']} may run as root"
    for port in container.get("ports", []):
        if "hostPort" in port:
            yield f"{container['name']} takes a port of its node"
