"""Touches the network and files: a few requests to a Kubernetes API server, with credentials read anew each time."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

import msgspec

from alerts.actuators.patience import retry_after


PACKAGE = "kubernetes_asyncio"
EXTRA = "pip install 'abmonitor[argo]'"
MAX_ANSWER = 1 << 22
"""Bytes of an answer that are taken in; etcd holds no object above 1.5 MiB."""

_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    """Seconds that it asked us to wait."""

    @property
    def is_good(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later; credentials rotate, so 401 is one of these."""
        return self.status in {401, 408, 409, 425, 429} or self.status >= 500


class ClusterError(Exception):
    """There is no way to reach the cluster; the text holds no secrets."""


def installed() -> bool:
    """Whether the client's package is there; then it is loaded, which would take a second of a rollback."""
    if find_spec(PACKAGE) is None:
        return False
    import_module(PACKAGE)
    return True


class Cluster:
    """Connections to one API server, for as long as its context.

    Without a kubeconfig and a context: the pod's service account, or outside of a cluster the usual
    kubeconfig. Raises ClusterError where the configuration cannot be read.
    """

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._client: Any = None

    async def __aenter__(self) -> Self:
        try:
            self._client = await self._connect()
        except Exception as error:  # noqa: BLE001 - whatever a file or a credential plugin does
            # Types only: a plugin's message may quote a credential.
            where = self._kubeconfig or "the cluster's configuration"
            raise ClusterError(f"{where} cannot be used ({type(error).__name__})") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def _connect(self) -> Any:
        # Imported here: an optional package, and a large one.
        from kubernetes_asyncio import client, config  # noqa: PLC0415

        settings: Any = client.Configuration()
        given = self._kubeconfig is not None or self._context is not None
        if given or "KUBERNETES_SERVICE_HOST" not in os.environ:
            await config.load_kube_config(
                config_file=self._kubeconfig,
                context=self._context,
                client_configuration=settings,
                persist_config=False,
            )
        else:
            load: Any = config.load_incluster_config  # has no types
            load(client_configuration=settings)
        made: Any = client.ApiClient(settings)
        made.user_agent = "abmonitor"
        return made

    async def get(self, path: str) -> Answer:
        """Read one object."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: Mapping[str, object]) -> Answer:
        """Make one object."""
        return await self._ask("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, object], *, dry_run: bool) -> Answer:
        """Merge `body` into one object; a dry run goes through all checks and stores nothing."""
        return await self._ask("PATCH", path, body, [("dryRun", "All")] if dry_run else [])

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        query: list[tuple[str, str]] | None = None,
    ) -> Answer:
        kind = _MERGE_PATCH if method == "PATCH" else "application/json"
        response = await self._client.call_api(
            path,
            method,
            query_params=query or [],
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
        )
        async with response:
            taken = bytearray()
            async for chunk in response.content.iter_any():
                taken += chunk
                if len(taken) > MAX_ANSWER:
                    raise ClusterError(f"an answer has over {MAX_ANSWER:,} bytes")
            wait = retry_after(response.headers.get("retry-after"), time.time())
            return Answer(response.status, bytes(taken), wait)


class _Review(msgspec.Struct):
    allowed: bool = False


class _Reviewed(msgspec.Struct):
    status: _Review


async def is_allowed(cluster: Cluster, verb: str, resource: str, **where: str) -> bool | None:
    """Whether we have a right (`resource`: "rollouts" or "rollouts/status"); None if nobody says."""
    kind, _, below = resource.partition("/")
    answer = await cluster.post(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": where | {"verb": verb, "resource": kind, "subresource": below}
            },
        },
    )
    try:
        said = msgspec.json.decode(answer.body, type=_Reviewed)
    except msgspec.MsgspecError:
        return None
    return said.status.allowed if answer.is_good else None
