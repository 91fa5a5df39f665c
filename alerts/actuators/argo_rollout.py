"""What an Argo Rollout says about itself, as far as aborting it needs that."""

import re

import msgspec

from alerts.order import Order, Verification


DECISION = "abmonitor.dev/decision"
REASON = "abmonitor.dev/reason"
POD_HASH = "abmonitor.dev/pod-hash"
"""Annotations: which order aborted the rollout, why, and which pods it was about."""

_LONGEST_ID = 200
_LONGEST_REASON = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    generation: int = 0
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct, frozen=True):
    paused: bool = False


class _Weight(msgspec.Struct, frozen=True):
    weight: int = 0


class _Weights(msgspec.Struct, frozen=True):
    canary: _Weight = _Weight()


class _Canary(msgspec.Struct, frozen=True):
    weights: _Weights | None = None


class _BlueGreen(msgspec.Struct, frozen=True, rename="camel"):
    active_selector: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    abort: bool = False
    aborted_at: str | None = None
    """Written by the controller alone, once it has seen the abort."""
    current_pod_hash: str = ""
    stable: str = msgspec.field(default="", name="stableRS")
    observed_generation: str = ""
    phase: str = ""
    promote_full: bool = False
    updated_replicas: int = 0
    canary: _Canary = _Canary()
    blue_green: _BlueGreen = _BlueGreen()


class Rollout(msgspec.Struct, frozen=True):
    """One Rollout; "current" are the pods being rolled out, "stable" those before them."""

    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def version(self) -> str:
        """The resourceVersion, which changes with the object."""
        return self.metadata.resource_version

    @property
    def current(self) -> str:
        """The hash of the pods being rolled out; empty until the controller says."""
        return self.status.current_pod_hash

    @property
    def stable(self) -> str:
        """The hash of the pods that an abort goes back to."""
        return self.status.stable

    @property
    def is_settled(self) -> bool:
        """Whether the controller has seen the latest specification."""
        return self.status.observed_generation == str(self.metadata.generation)

    @property
    def needs_abort(self) -> bool:
        """Whether an abort is missing, or would be dropped because of a full promotion asked for."""
        return not self.status.abort or self.status.promote_full

    def marked(self, order: Order) -> str | None:
        """The hash of the pods that this order has aborted; None if it has aborted none here."""
        notes = self.metadata.annotations
        return notes.get(POD_HASH) if notes.get(DECISION) == decision(order) else None


def read(body: bytes) -> Rollout:
    """Raises ValueError for what is no Rollout."""
    return msgspec.json.decode(body, type=Rollout, strict=False)


def decision(order: Order) -> str:
    """The order's id as annotations may hold it."""
    return _plain(order.id)[:_LONGEST_ID]


def notes(order: Order, pods: str) -> dict[str, str]:
    """Annotations that tell who aborted `pods` and why."""
    reason = _plain("; ".join(order.reasons))[:_LONGEST_REASON]
    return {DECISION: decision(order), REASON: reason, POD_HASH: pods}


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text.encode("utf-8", "backslashreplace").decode())


def is_gone(rollout: Rollout, order: Order) -> bool:
    """Whether this order has aborted pods that are neither current nor stable any more."""
    pods = rollout.marked(order)
    return (
        pods is not None and bool(rollout.current) and pods not in {rollout.current, rollout.stable}
    )


def refusal(rollout: Rollout, order: Order, *, trust: bool, undo: str) -> tuple[str, bool] | None:
    """Why the rollout must not be aborted, and whether that may pass; None where it may be.

    The pods being rolled out have to be the treatment's: their hash is among its versions, or, with
    `trust`, whatever the rollout rolls out is the treatment. `undo` is the command for people.
    """
    current, stable, known = rollout.current, rollout.stable, order.versions
    waiting = not rollout.is_settled
    if not current or not stable:
        return "its controller has not said yet what it rolls out, and what is stable", True
    if current != stable and (current in known or (trust and stable not in known)):
        return None
    if stable in known or (trust and current == stable):
        return f"the treatment is promoted already, and aborting does nothing; run: {undo}", waiting
    if current == stable:
        return f"nothing is being rolled out: all pods are {current}", waiting
    if known:
        seen = ", ".join(map(_plain, known))[:200]
        return f"it rolls out {current}, which is none of the treatment's versions: {seen}", waiting
    return (
        f"it rolls out {current}, and whether that is the treatment is not known: send the "
        "pod-template-hash as the events' version, or set trust_name: true"
    ), False


def verification(rollout: Rollout, order: Order, *, trust: bool) -> tuple[Verification, str]:
    """Whether the order took effect, and what is missing."""
    if is_gone(rollout, order):
        return Verification.DONE, ""
    status, current = rollout.status, rollout.current
    if not current or rollout.stable in {"", current}:
        return Verification.FAILED, f"nothing is being rolled out: all pods are {current!r}"
    ours = current in order.versions or current == rollout.marked(order)
    if not ours and (rollout.stable in order.versions or not trust):
        return Verification.FAILED, f"it rolls out {current}, which is not known as the treatment"
    if rollout.needs_abort:
        return Verification.FAILED, "it is not aborted"
    if not status.aborted_at or status.phase != "Degraded":
        seen = (
            f"it is in the phase {status.phase!r}" if status.aborted_at else "nobody has seen that"
        )
        return Verification.PENDING, f"aborted, but {seen} yet"
    return _traffic(rollout)


def _traffic(rollout: Rollout) -> tuple[Verification, str]:
    """Whether none goes to the current pods: by weights, the active service, or the number of pods."""
    status = rollout.status
    if status.blue_green.active_selector:
        active = status.blue_green.active_selector
        if active != rollout.stable:
            return Verification.PENDING, f"the active service still selects {active}"
    elif status.canary.weights is not None:
        if weight := status.canary.weights.canary.weight:
            return Verification.PENDING, f"the canary's weight is still {weight}"
    elif status.updated_replicas:
        return Verification.PENDING, f"{status.updated_replicas} of its pods still run"
    return Verification.DONE, ""
