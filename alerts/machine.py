"""The state machine of one treatment: a state and what happened, to the next state. Pure.

Harm is judged before health, so that neither missing data nor a mismatched sample can mask it; and
nothing but a person leads out of `rolled_back`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


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


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one treatment with what it takes to go on from it."""

    state: State = State.COLLECTING
    since: int = 0
    epoch: int = 1
    streaks: dict[str, int] = {}
    """Failing looks in a row, by guardrail."""
    causes: tuple[str, ...] = ()
    """Why it holds, or what harm was found."""
    decision: str | None = None
    """The decision that is being carried out, or was."""
    ordered_at: int | None = None
    """When the latest rollback was decided, in arrival time."""
    acted_at: int | None = None
    """When the actuator accepted the order, in arrival time."""
    verified: bool | None = None
    paused: Pause | None = None
    latched: tuple[str, ...] = ()
    """Harm that was found while paused or braked."""


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


@dataclass(frozen=True, slots=True)
class Policy:
    """How a deployment acts on harm."""

    dry_run: bool = False
    braked: bool = False
    """Too many rollbacks lately over all experiments: page instead of acting."""
    hold_deadline: int | None = None
    """How long a treatment may hold (ms) before it counts as harm; None: for ever."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The actuator took the order. `observable`: traffic can be seen to move, or read back."""

    at: int
    observable: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The actuator did not take the order, or the world did not follow; it is tried again."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The treatment's traffic is gone, or the actuator read it back."""

    at: int


@dataclass(frozen=True, slots=True)
class Command:
    """A person's word: rollback, pause, resume, rearm or end."""

    at: int
    verb: str
    actor: str
    reason: str
    until: int | None = None


Happening = Look | Accepted | Failed | Verified | Command


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state. `action` is what it means to people; only `rollback` asks an actuator."""

    standing: Standing
    action: str | None = None
    reasons: tuple[str, ...] = ()
    actor: str = "abmonitor"


def transition(standing: Standing, happening: Happening, policy: Policy) -> Transition:
    """What `happening` makes of `standing`. Total: every pair has an answer."""
    if standing.state is State.ENDED:
        return Transition(standing=standing)
    match happening:
        case Look():
            return _look(standing, happening, policy)
        case Accepted():
            return _accepted(standing, happening)
        case Failed():
            return _failed(standing, happening)
        case Verified():
            return _verified(standing, happening)
        case Command():
            return _command(standing, happening, policy)


def _move(
    standing: Standing,
    state: State,
    at: int,
    action: str | None = None,
    reasons: tuple[str, ...] = (),
    **changes: object,
) -> Transition:
    since = standing.since if state is standing.state else at
    moved = msgspec.structs.replace(standing, state=state, since=since, **changes)
    return Transition(standing=moved, action=action, reasons=reasons)


def _look(standing: Standing, look: Look, policy: Policy) -> Transition:
    if standing.state not in WATCHED:
        return Transition(standing=standing)
    if standing.paused and standing.paused.until is not None and look.at >= standing.paused.until:
        standing = msgspec.structs.replace(standing, paused=None)
    standing = msgspec.structs.replace(standing, streaks=look.streaks)
    harm = tuple(dict.fromkeys(standing.latched + look.harm))
    if not harm and _overdue(standing, look, policy):
        harm = tuple(f"held too long: {cause}" for cause in standing.causes)
    if harm:
        return _harm(standing, harm, look.at, policy)
    if look.hold:
        action = None if standing.state is State.HOLD else "hold"
        return _move(standing, State.HOLD, look.at, action, look.hold, causes=look.hold)
    released = "release" if standing.state is State.HOLD else None
    return _move(standing, _health(standing, look), look.at, released, standing.causes, causes=())


def _overdue(standing: Standing, look: Look, policy: Policy) -> bool:
    held = standing.state is State.HOLD and bool(look.hold)
    deadline = policy.hold_deadline
    return held and deadline is not None and look.at - standing.since >= deadline


def _health(standing: Standing, look: Look) -> State:
    """The state of a treatment that neither harms nor holds."""
    if look.failing:
        return State.SUSPECT
    if look.promotable or standing.state is State.PASSED:
        return State.PASSED
    return State.HEALTHY if look.healthy else State.COLLECTING


def _harm(standing: Standing, harm: tuple[str, ...], at: int, policy: Policy) -> Transition:
    if standing.paused:
        action = None if standing.latched else "harm_while_paused"
        return _move(standing, standing.state, at, action, harm, latched=harm)
    if policy.braked:
        action = None if standing.latched else "braked"
        causes = ("too many rollbacks lately: a person must decide", *harm)
        return _move(standing, State.HOLD, at, action, harm, latched=harm, causes=causes)
    if policy.dry_run:
        return _move(
            standing, State.WOULD_ROLL_BACK, at, "would_roll_back", harm, causes=harm, latched=()
        )
    return _move(standing, State.ROLLING_BACK, at, "rollback", harm, causes=harm, latched=())


def _accepted(standing: Standing, accepted: Accepted) -> Transition:
    if standing.state not in {State.ROLLING_BACK, State.ROLLBACK_FAILED}:
        return Transition(standing=standing)
    if not accepted.observable:
        return _move(
            standing,
            State.ROLLED_BACK,
            accepted.at,
            "rolled_back",
            ("the order was accepted; its effect cannot be observed",),
            acted_at=accepted.at,
            verified=False,
        )
    return _move(standing, State.VERIFYING, accepted.at, "accepted", acted_at=accepted.at)


def _failed(standing: Standing, failed: Failed) -> Transition:
    if standing.state not in ACTING:
        return Transition(standing=standing)
    action = None if standing.state is State.ROLLBACK_FAILED else "rollback_failed"
    return _move(standing, State.ROLLBACK_FAILED, failed.at, action, (failed.reason,))


def _verified(standing: Standing, verified: Verified) -> Transition:
    if standing.state not in ACTING:
        return Transition(standing=standing)
    return _move(
        standing,
        State.ROLLED_BACK,
        verified.at,
        "rolled_back",
        ("the treatment's traffic is gone",),
        verified=True,
    )


def _command(standing: Standing, command: Command, policy: Policy) -> Transition:
    made = _commanded(standing, command, policy)
    return msgspec.structs.replace(made, actor=command.actor)


def _commanded(standing: Standing, command: Command, policy: Policy) -> Transition:
    reasons = (f"{command.actor}: {command.reason}",)
    match command.verb:
        case "rollback" if standing.state in WATCHED | {State.WOULD_ROLL_BACK}:
            state = State.WOULD_ROLL_BACK if policy.dry_run else State.ROLLING_BACK
            action = "would_roll_back" if policy.dry_run else "rollback"
            return _move(standing, state, command.at, action, reasons, causes=reasons, latched=())
        case "pause":
            pause = Pause(command.actor, command.reason, command.until)
            return _move(standing, standing.state, command.at, "pause", reasons, paused=pause)
        case "resume" if standing.paused:
            return _move(standing, standing.state, command.at, "resume", reasons, paused=None)
        case "rearm" if standing.state in {State.ROLLED_BACK, State.WOULD_ROLL_BACK}:
            fresh = Standing(since=command.at, epoch=standing.epoch + 1, paused=standing.paused)
            return Transition(standing=fresh, action="rearm", reasons=reasons)
        case "end" if standing.state not in ACTING:
            return _move(standing, State.ENDED, command.at, "end", reasons)
        case _:
            return Transition(standing=standing)
