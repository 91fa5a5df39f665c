"""Where a treatment stands: its state, and everything it takes to go on from it."""

from enum import StrEnum

import msgspec

from alerts.order import Verification


class State(StrEnum):
    """Where a treatment stands."""

    COLLECTING = "collecting"
    HOLD = "hold"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    PASSED = "passed"  # not a password
    ROLLING_BACK = "rolling_back"
    VERIFYING = "verifying"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    WOULD_ROLL_BACK = "would_roll_back"
    ENDED = "ended"


WATCHED = frozenset({State.COLLECTING, State.HOLD, State.HEALTHY, State.SUSPECT, State.PASSED})
"""States in which harm leads to a rollback."""

ACTING = frozenset({State.ROLLING_BACK, State.VERIFYING, State.ROLLBACK_FAILED})
"""States in which a rollback is under way."""

SEVERITY = (
    State.ROLLBACK_FAILED,
    State.ROLLING_BACK,
    State.VERIFYING,
    State.ROLLED_BACK,
    State.WOULD_ROLL_BACK,
    State.HOLD,
    State.SUSPECT,
    State.COLLECTING,
    State.HEALTHY,
    State.PASSED,
    State.ENDED,
)
"""Worst first: the state of an experiment is that of its worst treatment."""


class Pause(msgspec.Struct, frozen=True):
    """A person's word that nothing may be done: harm is kept in mind, and acted on when it ends."""

    actor: str
    reason: str
    until: int | None = None
    since: int | None = None
    """When the treatment was first paused; a pause in place of another one goes on with it. None: not known."""


class Sighting(msgspec.Struct, frozen=True):
    """That a version in quarantine is seen again."""

    seen: int
    """When it was last seen (arrival time)."""
    times: int
    """How many looks found it anew."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one treatment with what it takes to go on from it."""

    state: State = State.COLLECTING
    since: int = 0
    epoch: int = 1
    begun: int = 0
    """What arrived before this (arrival time) is not judged: it belongs to an earlier life."""
    streaks: dict[str, int] = {}
    """Failing looks in a row, by guardrail."""
    causes: tuple[str, ...] = ()
    """Why it holds, or what harm was found and what its rollback still waits for."""
    decision: str | None = None
    """The decision that is being carried out, or was."""
    ordered_at: int | None = None
    """When the latest rollback was decided, in arrival time."""
    acted_at: int | None = None
    """When the actuator accepted the order, in arrival time; None where it has to be sent (again)."""
    accepted: int = 0
    """How often the actuator accepted the order."""
    read_back: Verification | None = None
    """What the actuator last read back since it accepted the order; None before it said anything."""
    failed_at: int | None = None
    """When carrying out the order first failed; None while it never did."""
    escalated: bool = False
    """People were told that it fails for too long."""
    verified: bool | None = None
    returned: bool = False
    """People were told that traffic came back, in this pause or in a dry run."""
    overdue: bool = False
    """People were told that it holds for too long."""
    passed: bool = False
    """It has passed in this epoch; to be held since then does not take that away."""
    sightings: dict[str, Sighting] = {}
    """Versions in quarantine that are seen in this epoch."""
    paused: Pause | None = None
    latched: tuple[str, ...] = ()
    """Harm that was found while paused; it is acted on when the pause ends."""


def renewed(standing: Standing, at: int) -> Standing:
    """The first standing of a new epoch that begins at `at`; a pause, and harm found in it, outlast epochs."""
    return Standing(
        since=at,
        begun=at,
        epoch=standing.epoch + 1,
        paused=standing.paused,
        latched=standing.latched,
    )


def ordered(standing: Standing, decision: str, at: int) -> Standing:
    """The standing with a new order, of `decision`; nothing is known of how it goes.

    Since when rollbacks fail is kept: whoever orders another one by hand does not begin to wait anew.
    """
    return msgspec.structs.replace(
        standing,
        decision=decision,
        ordered_at=at,
        acted_at=None,
        accepted=0,
        read_back=None,
        failed_at=at if standing.state is State.ROLLBACK_FAILED else standing.failed_at,
        verified=None,
        returned=False,
    )
