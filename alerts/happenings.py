"""Happenings: what can happen to a treatment, and what becomes of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from alerts.health import HoldOptions
from alerts.order import Verification
from alerts.standing import Sighting, Standing, State


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found about a treatment."""

    at: int
    harm: tuple[str, ...] = ()
    """Reasons to roll back: guardrails that failed for good."""
    failing: tuple[str, ...] = ()
    """Guardrails that fail, but not yet often enough."""
    hold: tuple[str, ...] = ()
    """Causes to hold."""
    healthy: bool = False
    """Every guardrail passes."""
    promotable: bool = False
    """Every non-inferiority test has passed."""
    streaks: dict[str, int] = field(default_factory=dict)
    sightings: dict[str, Sighting] | None = None
    """Versions in quarantine that are seen; None where the look cannot tell."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a deployment acts on harm."""

    dry_run: bool = False
    braked: bool = False
    """Too many rollbacks lately over all experiments: page instead of acting."""
    hold: HoldOptions = field(default_factory=HoldOptions)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """The newest versions that were seen, as far as they are in quarantine, and since when."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The actuator took the order. `observable`: traffic can be seen to move."""

    at: int
    observable: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The actuator did not take the order, or the world did not follow; it is tried again."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The treatment's traffic is gone, while the control's flows."""

    at: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The traffic is not seen to be gone yet."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A treatment that was rolled back, and seen to be, gets traffic again."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the actuator could read back of the order."""

    at: int
    state: Verification


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time went by, whether or not data came."""

    at: int
    """Epoch milliseconds by the monitor's clock."""


@dataclass(frozen=True, slots=True)
class Command:
    """A person's word: rollback, pause, resume, rearm or end.

    `resume` ends a pause; without one it acknowledges why a treatment holds, and judging starts anew.
    """

    at: int
    verb: str
    actor: str
    reason: str
    until: int | None = None
    force: bool = False
    """Do it although there is a reason not to, such as a quarantine."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm of somebody else's monitoring, of which people have declared that it rolls back."""

    at: int
    began: int
    """Since when it is raised (epoch ms, by the clock of whoever raised it)."""
    actor: str
    reasons: tuple[str, ...]


Happening = (
    Look | Accepted | Failed | Verified | Waiting | Returned | ReadBack | Elapsed | Command | Alarm
)


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state. `action` is what it means to people."""

    standing: Standing
    action: str | None = None
    reasons: tuple[str, ...] = ()
    actor: str = "abmonitor"
    refused: str | None = None
    """Why a person's command, or somebody else's alarm, changed nothing."""

    @property
    def orders(self) -> bool:
        """Whether an actuator is asked for something that it was not asked for before."""
        if self.action == "traffic_returned":
            return self.standing.state is State.ROLLBACK_FAILED
        return self.action == "rollback"


def moved(
    standing: Standing,
    state: State,
    at: int,
    action: str | None = None,
    reasons: tuple[str, ...] = (),
    **changes: object,
) -> Transition:
    """The transition to `state` at `at`, with `changes` to the rest of the standing."""
    if state is not standing.state:
        changes = {"since": at, "overdue": False} | changes
    after = msgspec.structs.replace(standing, state=state, **changes)
    return Transition(standing=after, action=action, reasons=reasons)


def unpaused(standing: Standing, at: int) -> Standing:
    """The standing once its pause has ended, at `at` or before that by itself.

    Nobody could act in it, so a hold's deadline goes on where it stopped; and traffic that comes back in
    the next pause is told anew. Where it is not known when the pause began, the deadline starts anew.
    """
    pause, since = standing.paused, standing.since
    if pause is not None and standing.state is State.HOLD:
        ended = at if pause.until is None else min(at, pause.until)
        stopped = since if pause.since is None else max(since, pause.since)
        since += max(0, ended - stopped)
    return msgspec.structs.replace(standing, paused=None, returned=False, since=since)


def rollback(standing: Standing, reasons: tuple[str, ...], at: int, policy: Policy) -> Transition:
    """The transition that orders a rollback, or in a dry run says that it would."""
    state = State.WOULD_ROLL_BACK if policy.dry_run else State.ROLLING_BACK
    action = "would_roll_back" if policy.dry_run else "rollback"
    return moved(standing, state, at, action, reasons, causes=reasons, latched=())
