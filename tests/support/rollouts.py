"""A Rollout to abort, in the contract server or on a real API server, and how others change it."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alerts.actuators.argo import ArgoOptions
from support.servers.kube_api import KubernetesServer
from support.servers.rollouts import RolloutServer, kubeconfig, merged


NAME = "offer-recommender"
NEW, OLD = "7d9c6b5f4", "58bf4c7d9"
"""Hashes of the pods being rolled out, and of the stable ones."""

USERS = {
    "monitor": None,
    "reader": {("get", "rollouts")},
    "aborter": {("get", "rollouts"), ("patch", "rollouts/status")},
}
"""What each user may do; None: what the guide gives."""

GUIDE = Path(__file__).parents[2] / "docs" / "argo.md"

Json = dict[str, Any]
Rights = set[tuple[str, str]]


def canary(**more: object) -> Json:
    """The status of a rollout of which the controller has sent half of the traffic to the new pods."""
    status: Json = {
        "currentPodHash": NEW,
        "stableRS": OLD,
        "observedGeneration": "1",
        "phase": "Progressing",
        "updatedReplicas": 2,
        "canary": {"weights": {"canary": {"weight": 50}, "stable": {"weight": 50}}},
    }
    found: Json = merged(status, more)
    return found


ABORTED_AT = "2026-03-01T10:00:00Z"
"""When the controller saw an abort."""


def aborted(**more: object) -> Json:
    """What the controller makes of that after an abort."""
    weights = {"canary": {"weight": 0}, "stable": {"weight": 100}}
    found: Json = merged(
        canary(abort=True, abortedAt=ABORTED_AT, phase="Degraded", canary={"weights": weights}),
        more,
    )
    return found


def guide() -> list[Json]:
    """The role and its binding as docs/argo.md has them."""
    blocks = GUIDE.read_text().split("```yaml\n")[1:]
    [rights] = [block for block in blocks if "kind: Role\n" in block]
    return list(yaml.safe_load_all(rights.split("```")[0]))


def guided() -> Rights:
    """The rights that the guide gives."""
    rules = guide()[0]["rules"]
    return {(v, r) for rule in rules for r in rule["resources"] for v in rule["verbs"]}


@dataclass
class Site(ABC):
    """One Rollout, which belongs to one test."""

    folder: Path
    namespace: str

    @abstractmethod
    def config(self, user: str) -> Json:
        """A kubeconfig."""

    @abstractmethod
    async def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """What the API server answers to the admin."""

    @property
    def path(self) -> str:
        return f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/rollouts"

    def options(self, user: str = "monitor", **more: Any) -> ArgoOptions:
        where = self.folder / f"{user}.json"
        where.write_text(json.dumps(self.config(user)))
        given = {"rollout": NAME, "namespace": self.namespace, "kubeconfig": str(where)}
        return ArgoOptions(**(given | more))

    async def create(self, status: Json | None = None, *, paused: bool = False) -> None:
        made = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": NAME},
            "spec": {"paused": paused} if paused else {},
        }
        assert (await self.ask("POST", self.path, made))[0] == 201
        await self.change({"status": canary() if status is None else status}, "/status")

    async def change(self, patch: Json, below: str = "") -> Json:
        """What somebody else does."""
        status, found = await self.ask("PATCH", f"{self.path}/{NAME}{below}", patch)
        assert status == 200, found
        return found

    async def read(self) -> Json:
        status, found = await self.ask("GET", f"{self.path}/{NAME}")
        assert status == 200
        return found


@dataclass
class ContractSite(Site):
    """In this process."""

    server: RolloutServer

    def config(self, user: str) -> Json:
        return kubeconfig(self.server.url, user, self.server.authority)

    async def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        return await self.server.ask(method, path, body)


@dataclass
class RealSite(Site):
    """On a real API server."""

    server: KubernetesServer

    def config(self, user: str) -> Json:
        return kubeconfig(self.server.url, user, self.server.authority)

    async def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        return self.server.ask(method, path, body)

    def prepare(self) -> None:
        """Make the namespace, and give everybody their rights in it."""
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        assert self.server.ask("POST", "/api/v1/namespaces", made)[0] == 201
        for user, rights in USERS.items():
            role, binding = guide()
            if rights is not None:
                role["rules"] = [
                    {"apiGroups": ["argoproj.io"], "resources": [resource], "verbs": [verb]}
                    for verb, resource in sorted(rights)
                ]
            binding["subjects"] = [
                {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
            ]
            binding["roleRef"]["name"] = user
            for each, kind in ((role, "roles"), (binding, "rolebindings")):
                each["metadata"] = {"name": user, "namespace": self.namespace}
                path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/{kind}"
                assert self.server.ask("POST", path, each)[0] == 201


def definition() -> Json:
    """The smallest definition of Rollouts that has what Argo's own has here: a status subresource."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    flags = {"spec": {"paused": {"type": "boolean"}}, "status": {"abort": {"type": "boolean"}}}
    schema = {name: anything | {"properties": known} for name, known in flags.items()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "rollouts.argoproj.io"},
        "spec": {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"},
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": schema}},
                    "subresources": {"status": {}},
                }
            ],
        },
    }
