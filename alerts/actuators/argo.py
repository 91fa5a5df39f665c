"""Touches the network: rolls back by aborting an Argo Rollout, as `kubectl argo rollouts abort` does.

It aborts only what is known to be the treatment, and only the state it has looked at: the patch carries
the resourceVersion that was read, and a rollout that changed meanwhile is looked at again.
"""

import asyncio
import logging
import math
import re
from collections.abc import Iterator

import msgspec

from alerts.actuators.argo_client import EXTRA, Answer, Cluster, ClusterError, installed, is_allowed
from alerts.actuators.argo_rollout import (
    Rollout,
    decision,
    is_gone,
    notes,
    read,
    refusal,
    verification,
)
from alerts.order import Order, Receipt, Verification


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

GROUP = "argoproj.io"
RACES = 5
"""How often a rollout is looked at again because it changed before the patch."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SPACE = re.compile(_LABEL)
_PAUSE_S = 0.05

_log = logging.getLogger(__name__)


class ArgoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Rollout serves the treatment, and how its cluster is reached."""

    rollout: str
    namespace: str = "default"
    kubeconfig: str | None = None
    """A file; without one the pod's service account, or outside of a cluster the usual kubeconfig."""
    context: str | None = None
    """A context of the kubeconfig; without one, its current context."""
    trust_name: bool = False
    """Whatever the Rollout rolls out is the treatment, also where no version says so."""
    timeout: float = 5
    """Seconds that one attempt may take, with all its requests."""

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options."""
        if len(self.rollout) > 253 or not _NAME.fullmatch(self.rollout):
            yield "rollout", f"expected the name of a Rollout, got {self.rollout!r}"
        if len(self.namespace) > 63 or not _SPACE.fullmatch(self.namespace):
            yield "namespace", f"expected the name of a namespace, got {self.namespace!r}"
        for field in ("kubeconfig", "context"):
            value = getattr(self, field)
            if value is not None and (not value or "\0" in value):
                yield field, f"expected text, or leave it out, got {value!r}"
        if not (math.isfinite(self.timeout) and 0 < self.timeout <= 60):
            yield "timeout", f"expected seconds above 0 and at most 60, got {self.timeout!r}"


class Argo:
    """Aborts the Rollout of a treatment, and reads back whether its traffic went.

    Raises ValueError for options that cannot work, and where the client's package is missing.
    """

    def __init__(self, options: ArgoOptions) -> None:
        if problems := list(options.problems()):
            raise ValueError("argo: " + "; ".join(f"{name}: {text}" for name, text in problems))
        if not installed():
            raise ValueError(f"argo: no client for Kubernetes is installed; run {EXTRA}")
        self._options = options
        self._path = (
            f"/apis/{GROUP}/v1alpha1/namespaces/{options.namespace}/rollouts/{options.rollout}"
        )
        self._told = f"rollout {options.namespace}/{options.rollout}"
        self._undo = f"kubectl argo rollouts undo {options.rollout} -n {options.namespace}"
        self._closed = False
        self._said = ""

    def __repr__(self) -> str:
        return f"Argo({self._options.namespace}/{self._options.rollout})"

    async def apply(self, order: Order) -> Receipt:
        """Abort the Rollout. A dry run makes the same requests, which the API server then does not store."""
        if self._closed:
            return Receipt(accepted=False, detail="argo is closed", retry=True)
        try:
            async with asyncio.timeout(self._options.timeout), self._cluster() as cluster:
                if order.dry_run and (missing := await self._missing(cluster)):
                    return self._no(f"rights are missing: {missing}")
                return await self._abort(cluster, order)
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever a client does
            # Unknown errors too: giving up on a rollback is worse than trying once too often.
            return self._no(self._why(error), retry=True)

    def _cluster(self) -> Cluster:
        # One per attempt: orders are rare, tokens rotate, and connections kept since the last are dead.
        return Cluster(self._options.kubeconfig, self._options.context)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._options.timeout:g} s"
        if isinstance(error, ClusterError):
            return str(error)
        if isinstance(error, ValueError):
            return f"its answer cannot be read ({type(error).__name__})"
        # Names of types only: messages may quote whole requests.
        cause = getattr(error, "os_error", None)
        return type(error).__name__ + (f" ({type(cause).__name__})" if cause else "")

    def _no(self, why: str, *, retry: bool = False, wait: float | None = None) -> Receipt:
        return Receipt(accepted=False, detail=f"{self._told}: {why}", retry=retry, retry_after=wait)

    def _yes(self, order: Order, what: str) -> Receipt:
        dry = "dry run, nothing is stored: " if order.dry_run else ""
        return Receipt(accepted=True, detail=f"{dry}{self._told}: {what}")

    def _refused(self, request: str, answer: Answer) -> Receipt:
        said = f"{request} answered {answer.status}"
        return self._no(said, retry=answer.may_pass, wait=answer.retry_after)

    async def _missing(self, cluster: Cluster) -> str:
        """Rights that the abort needs and we have not."""
        where = {
            "group": GROUP,
            "namespace": self._options.namespace,
            "name": self._options.rollout,
        }
        needed = (("get", "rollouts"), ("patch", "rollouts"), ("patch", "rollouts/status"))
        denied = [
            f"{verb} {resource}"
            for verb, resource in needed
            if await is_allowed(cluster, verb, resource, **where) is False
        ]
        return ", ".join(denied)

    async def _abort(self, cluster: Cluster, order: Order) -> Receipt:
        for race in range(RACES):
            await asyncio.sleep(race * _PAUSE_S)
            answer = await cluster.get(self._path)
            if not answer.is_good:
                return self._refused("GET", answer)
            rollout = read(answer.body)
            if is_gone(rollout, order):
                return self._yes(order, "was aborted already, and something else is rolled out")
            trust = self._options.trust_name
            if no := refusal(rollout, order, trust=trust, undo=self._undo):
                return self._no(no[0], retry=no[1])
            if (receipt := await self._carry_out(cluster, order, rollout)) is not None:
                return receipt
        return self._no(f"it changed {RACES} times while it was being aborted", retry=True)

    async def _carry_out(self, cluster: Cluster, order: Order, seen: Rollout) -> Receipt | None:
        """Abort what was seen; None where it has changed since."""
        version = seen.version
        if seen.needs_abort:
            answer = await self._patch_status(cluster, order, seen)
            if answer.status == 409:
                return None
            if not answer.is_good:
                return self._refused("PATCH", answer)
            if not order.dry_run:
                version = read(answer.body).version
        return await self._note(cluster, order, seen, version)

    async def _patch_status(self, cluster: Cluster, order: Order, seen: Rollout) -> Answer:
        # A full promotion that somebody asked for makes the controller drop an abort.
        status = {"abort": True} | ({"promoteFull": None} if seen.status.promote_full else {})
        body = {"metadata": {"resourceVersion": seen.version}, "status": status}
        answer = await cluster.patch(f"{self._path}/status", body, dry_run=order.dry_run)
        if answer.status == 404:  # its definition has no status subresource, as early ones
            answer = await cluster.patch(self._path, body, dry_run=order.dry_run)
        return answer

    async def _note(
        self, cluster: Cluster, order: Order, seen: Rollout, version: str
    ) -> Receipt | None:
        """Write down who aborted it, and unpause it: a paused one stays as it is, also when aborted."""
        done = "aborted" if seen.needs_abort else "was aborted already"
        if seen.marked(order) == seen.current and not seen.spec.paused:
            return self._yes(order, done)
        body: dict[str, object] = {
            "metadata": {"resourceVersion": version, "annotations": notes(order, seen.current)}
        }
        if seen.spec.paused:
            body["spec"] = {"paused": False}
        answer = await cluster.patch(self._path, body, dry_run=order.dry_run)
        if answer.status == 409:
            return None
        if seen.spec.paused and not answer.is_good:
            return self._refused(f"{done}, but still paused: PATCH", answer)
        if not answer.is_good:
            return self._yes(order, f"{done}; not annotated: PATCH answered {answer.status}")
        return self._yes(order, f"{done} and unpaused" if seen.spec.paused else done)

    async def verify(self, order: Order) -> Verification:
        """Read back whether the traffic went. Never raises; what is missing goes to the log, once.

        Done: aborted, and none of the traffic goes to the treatment's pods; or they are gone. Pending: the
        controller is not that far, or nobody answers. Failed: not aborted, promoted, deleted, or we
        may not look. Unsupported: it was a dry run, which has no effect.
        """
        if order.dry_run:
            return Verification.UNSUPPORTED
        if self._closed:
            return Verification.PENDING
        try:
            async with asyncio.timeout(self._options.timeout), self._cluster() as cluster:
                found, why = await self._read_back(cluster, order)
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever a client does
            found, why = Verification.PENDING, self._why(error)
        if why and why != self._said:
            _log.warning("order %s is not verified: %s: %s", decision(order), self._told, why)
        self._said = why
        return found

    async def _read_back(self, cluster: Cluster, order: Order) -> tuple[Verification, str]:
        answer = await cluster.get(self._path)
        if not answer.is_good:
            outcome = Verification.PENDING if answer.may_pass else Verification.FAILED
            return outcome, f"GET answered {answer.status}"
        return verification(read(answer.body), order, trust=self._options.trust_name)

    async def close(self) -> None:
        """Accept no more orders; connections are closed after each attempt."""
        self._closed = True
