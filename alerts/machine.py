"""The state machine of one treatment: a standing and what happened, to the next standing. Pure.

Harm is judged before health, so that neither missing data nor a mismatched sample can mask it; and
nothing but a person leads out of `rolled_back`.
"""

from dataclasses import dataclass, field

import msgspec

from alerts.standing import ACTING, WATCHED, Pause, Standing, State, renewed


__all__ = [
    "ACTING",
    "BRAKED",
    "WATCHED",
    "Accepted",
    "Command",
    "Failed",
    "Happening",
    "Look",
    "Pause",
    "Policy",
    "Standing",
    "State",
    "Transition",
    "Verified",
    "transition",
]

BRAKED = "too many rollbacks lately: roll back by hand, or it is judged again when the brake is off"
"""Why a treatment holds that would have been rolled back, but for the brake."""


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


Happening = Look | Accepted | Failed | Verified | Command


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state. `action` is what it means to people; only `rollback` asks an actuator."""

    standing: Standing
    action: str | None = None
    reasons: tuple[str, ...] = ()
    actor: str = "abmonitor"
    refused: str | None = None
    """Why a person's command changed nothing."""


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
    standing = msgspec.structs.replace(standing, streaks=look.streaks)
    pause = standing.paused
    if pause is None or pause.until is None or look.at < pause.until:
        return _found(standing, look, policy)
    made = _found(msgspec.structs.replace(standing, paused=None), look, policy)
    if made.action is None:
        return msgspec.structs.replace(made, action="resume", reasons=("the pause is over",))
    return made


def _found(standing: Standing, look: Look, policy: Policy) -> Transition:
    """Harm first, then causes to hold, then health."""
    harm = tuple(dict.fromkeys(standing.latched + look.harm))
    if not harm and _overdue(standing, look, policy):
        harm = tuple(f"held too long: {cause}" for cause in look.hold)
    if harm:
        return _harm(standing, harm, look.at, policy)
    if look.hold:
        action = None if standing.state is State.HOLD else "hold"
        return _move(standing, State.HOLD, look.at, action, look.hold, causes=look.hold)
    state = _health(standing, look)
    if state is State.PASSED is not standing.state:
        return _move(standing, state, look.at, "pass", ("every test has passed",), causes=())
    released = "release" if standing.state is State.HOLD else None
    return _move(standing, state, look.at, released, standing.causes, causes=())


def _overdue(standing: Standing, look: Look, policy: Policy) -> bool:
    """Whether it holds for longer than is allowed; a pause takes the time that it takes."""
    if standing.state is not State.HOLD or not look.hold or standing.paused:
        return False
    return policy.hold_deadline is not None and look.at - standing.since >= policy.hold_deadline


def _health(standing: Standing, look: Look) -> State:
    """The state of a treatment that neither harms nor holds."""
    if look.failing:
        return State.SUSPECT
    if standing.state is State.PASSED:
        return State.PASSED
    if not look.healthy:
        return State.COLLECTING
    return State.PASSED if look.promotable and not standing.paused else State.HEALTHY


def _harm(standing: Standing, harm: tuple[str, ...], at: int, policy: Policy) -> Transition:
    if standing.paused:
        # The first harm is kept, not every look's: each would read a little differently.
        action, kept = None if standing.latched else "harm_while_paused", standing.latched or harm
        return _move(standing, State.SUSPECT, at, action, harm, causes=kept, latched=kept)
    if policy.braked:
        action = None if BRAKED in standing.causes else "braked"
        return _move(standing, State.HOLD, at, action, harm, causes=(BRAKED, *harm))
    return _rollback(standing, harm, at, policy)


def _rollback(standing: Standing, reasons: tuple[str, ...], at: int, policy: Policy) -> Transition:
    state = State.WOULD_ROLL_BACK if policy.dry_run else State.ROLLING_BACK
    action = "would_roll_back" if policy.dry_run else "rollback"
    return _move(standing, state, at, action, reasons, causes=reasons, latched=())


def _accepted(standing: Standing, accepted: Accepted) -> Transition:
    if standing.state is State.ROLLED_BACK and standing.acted_at is None:
        # The traffic had gone before the order was taken.
        return _move(standing, standing.state, accepted.at, acted_at=accepted.at)
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
    if standing.acted_at is not None:
        # Accepted before, and the world did not follow: only the world can say more.
        return Transition(standing=standing)
    return _move(standing, State.VERIFYING, accepted.at, "accepted", acted_at=accepted.at)


def _failed(standing: Standing, failed: Failed) -> Transition:
    if standing.state not in ACTING:
        return Transition(standing=standing)
    action = None if standing.state is State.ROLLBACK_FAILED else "rollback_failed"
    return _move(standing, State.ROLLBACK_FAILED, failed.at, action, (failed.reason,))


def _verified(standing: Standing, verified: Verified) -> Transition:
    if standing.state not in ACTING:
        return Transition(standing=standing)
    reasons = ("the treatment's traffic is gone",)
    return _move(standing, State.ROLLED_BACK, verified.at, "rolled_back", reasons, verified=True)


def _command(standing: Standing, command: Command, policy: Policy) -> Transition:
    made = _commanded(standing, command, policy)
    return msgspec.structs.replace(made, actor=command.actor)


def _commanded(standing: Standing, command: Command, policy: Policy) -> Transition:
    at, reasons = command.at, (f"{command.actor}: {command.reason}",)
    match command.verb:
        case "rollback" if standing.state in WATCHED | {State.WOULD_ROLL_BACK}:
            return _rollback(standing, reasons, at, policy)
        case "pause":
            pause = Pause(command.actor, command.reason, command.until)
            return _move(standing, standing.state, at, "pause", reasons, paused=pause)
        case "resume":
            return _resumed(standing, at, reasons)
        case "rearm" if standing.state in {State.ROLLED_BACK, State.WOULD_ROLL_BACK}:
            return Transition(standing=renewed(standing, at), action="rearm", reasons=reasons)
        case "end":
            return _move(standing, State.ENDED, at, "end", reasons)
        case _:
            return Transition(standing=standing)


def _resumed(standing: Standing, at: int, reasons: tuple[str, ...]) -> Transition:
    """A pause ends; without one, a person has seen why it holds, and judging starts anew."""
    if standing.paused:
        return _move(standing, standing.state, at, "resume", reasons, paused=None)
    if standing.state is not State.HOLD:
        return Transition(standing=standing)
    epoch = standing.epoch + 1  # what was seen is forgotten, so that errors count anew
    changes: dict[str, object] = {"causes": (), "streaks": {}, "begun": at, "epoch": epoch}
    return _move(standing, State.COLLECTING, at, "resume", reasons, **changes)
