"""The state machine of one treatment: a standing and what happened, to the next standing. Pure.

Harm is judged before health, so that neither missing data nor a mismatched sample can mask it; and
nothing but a person leads out of `rolled_back`, except that traffic that comes back is taken away again.
"""

from collections.abc import Callable

import msgspec

from alerts import carrying
from alerts.alarms import unmoved_by
from alerts.causes import BRAKED
from alerts.commands import commanded
from alerts.happenings import (
    Accepted,
    Alarm,
    Command,
    Elapsed,
    Failed,
    Happening,
    Look,
    Policy,
    ReadBack,
    Returned,
    Transition,
    Verified,
    Waiting,
    moved,
    rollback,
    unpaused,
)
from alerts.standing import ACTING, WATCHED, Pause, Standing, State
from metrics.experiment import MINUTE


__all__ = [
    "ACTING",
    "BRAKED",
    "WATCHED",
    "Accepted",
    "Alarm",
    "Command",
    "Elapsed",
    "Failed",
    "Happening",
    "Look",
    "Pause",
    "Policy",
    "ReadBack",
    "Returned",
    "Standing",
    "State",
    "Transition",
    "Verified",
    "Waiting",
    "needs_clock",
    "transition",
]

LOOKS_LATE = 5 * MINUTE
"""Looks come once a minute while data do: when none came for so long, the clock decides in their place."""


def transition(standing: Standing, happening: Happening, policy: Policy) -> Transition:
    """What `happening` makes of `standing`. Total: every pair has an answer."""
    match happening:
        case Command():
            return commanded(standing, happening, policy)
        case Alarm():
            return _alarmed(standing, happening, policy)
        case _ if standing.state is State.ENDED:
            return Transition(standing=standing)
        case Look():
            return _look(standing, happening, policy)
        case Elapsed():
            return _elapsed(standing, happening.at, policy)
        case _:
            return carrying.heard(standing, happening, policy)


def needs_clock(standing: Standing) -> bool:
    """Whether the clock alone may change the standing, so that it must be told of `Elapsed`."""
    if standing.state is State.ENDED:
        return False
    if standing.paused:
        ends = standing.paused.until is not None
        return ends or standing.state in ACTING
    in_mind = bool(standing.latched) and standing.state in WATCHED
    return in_mind or standing.state in ACTING | {State.HOLD}


def _look(standing: Standing, look: Look, policy: Policy) -> Transition:
    if standing.state not in WATCHED:
        return Transition(standing=standing)
    sightings = standing.sightings if look.sightings is None else look.sightings
    passed = standing.passed or standing.state is State.PASSED
    standing = msgspec.structs.replace(
        standing, streaks=look.streaks, sightings=sightings, passed=passed
    )
    return _unpaused(standing, look.at, lambda now: _found(now, look, policy))


def _alarmed(standing: Standing, alarm: Alarm, policy: Policy) -> Transition:
    """Somebody else's alarm is harm like any other; where it changes nothing, `refused` says why."""
    why = unmoved_by(standing, alarm)
    if why is not None:
        return Transition(standing=standing, refused=why)
    passed = standing.passed or standing.state is State.PASSED
    kept = msgspec.structs.replace(standing, passed=passed)
    made = _unpaused(kept, alarm.at, lambda now: _raised(now, alarm, policy))
    if made.action is None:
        told = "; ".join(standing.latched)
        return Transition(standing=standing, refused=f"harm is kept in mind already: {told}")
    actor = made.actor if made.action == "resume" else alarm.actor
    return msgspec.structs.replace(made, actor=actor)


def _raised(standing: Standing, alarm: Alarm, policy: Policy) -> Transition:
    """Harm at `alarm`; behind the brake it is kept in mind, for no look will find it again."""
    harm = tuple(dict.fromkeys(standing.latched + alarm.reasons))
    made = _harm(standing, harm, alarm.at, policy)
    if made.standing.state is not State.HOLD or standing.latched:
        return made
    latched = msgspec.structs.replace(made.standing, latched=harm)
    return msgspec.structs.replace(made, action="braked", standing=latched)


def _elapsed(standing: Standing, at: int, policy: Policy) -> Transition:
    """What the clock alone brings about, so that it happens without any data, too."""

    def go_on(now: Standing) -> Transition:
        if now.state in ACTING:
            return carrying.elapsed(now, at, policy)
        if now.state in WATCHED and now.latched and not now.paused:
            return _harm(now, now.latched, at, policy)
        if now.state is State.HOLD and BRAKED not in now.causes:
            return _late(now, now.causes, at - LOOKS_LATE, at, policy) or Transition(standing=now)
        return Transition(standing=now)

    return _unpaused(standing, at, go_on)


def _unpaused(standing: Standing, at: int, go_on: Callable[[Standing], Transition]) -> Transition:
    """How it goes on at `at`, once a pause that is over by then has ended."""
    pause = standing.paused
    if pause is None or pause.until is None or at < pause.until:
        return go_on(standing)
    made = go_on(unpaused(standing, at))
    if made.action is None:
        return msgspec.structs.replace(made, action="resume", reasons=("the pause is over",))
    return made


def _found(standing: Standing, look: Look, policy: Policy) -> Transition:
    """Harm first, then causes to hold, then health."""
    harm = tuple(dict.fromkeys(standing.latched + look.harm))
    if harm:
        return _harm(standing, harm, look.at, policy)
    if policy.braked and BRAKED in standing.causes:
        # Not every look sees every kind of harm: it would come and go, and page each time.
        return Transition(standing=standing)
    if look.hold:
        return _held(standing, look, policy)
    state = _health(standing, look)
    if state is State.PASSED is not standing.state:
        why = ("every test has passed",)
        return moved(standing, state, look.at, "pass", why, causes=(), passed=True)
    released = "release" if standing.state is State.HOLD else None
    return moved(standing, state, look.at, released, standing.causes, causes=())


def _held(standing: Standing, look: Look, policy: Policy) -> Transition:
    late = _late(standing, look.hold, look.at, look.at, policy)
    if late is not None:
        return late
    action = None if standing.state is State.HOLD else "hold"
    return moved(standing, State.HOLD, look.at, action, look.hold, causes=look.hold)


def _late(
    standing: Standing, causes: tuple[str, ...], by: int, at: int, policy: Policy
) -> Transition | None:
    """What holding for longer than allowed brings at `at`, if it was too long `by` then; or None.

    A pause takes the time that it takes. What has passed is never rolled back for want of data.
    """
    deadline = policy.hold.deadline
    if standing.state is not State.HOLD or standing.paused or deadline is None:
        return None
    if by - standing.since < deadline:
        return None
    if policy.hold.on_deadline == "rollback" and not standing.passed:
        return _harm(standing, tuple(f"held too long: {cause}" for cause in causes), at, policy)
    if standing.overdue:
        return None
    return moved(standing, State.HOLD, at, "hold_overdue", causes, causes=causes, overdue=True)


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
        return moved(standing, State.SUSPECT, at, action, harm, causes=kept, latched=kept)
    if policy.braked:
        action = None if BRAKED in standing.causes else "braked"
        return moved(standing, State.HOLD, at, action, harm, causes=(BRAKED, *harm))
    return rollback(standing, harm, at, policy)
