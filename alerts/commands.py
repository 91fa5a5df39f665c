"""Commands: what a person's word makes of a treatment, or why it changes nothing. Pure."""

from collections.abc import Callable

import msgspec

from alerts.happenings import Command, Policy, Transition, moved, rollback, unpaused
from alerts.standing import ACTING, Pause, Standing, State, renewed
from metrics.duration import Duration
from metrics.moment import Moment


def commanded(standing: Standing, command: Command, policy: Policy) -> Transition:
    """What a person's word makes of `standing`; where that is nothing, `refused` says why."""
    verb = _VERBS.get(command.verb)
    if verb is None:
        expected = ", ".join(_VERBS)
        return _refused(standing, f"unknown command {command.verb!r}: expected one of {expected}")
    if standing.state is State.ENDED:
        return _refused(standing, "it has ended: to test it again give the variant another name")
    made = verb(standing, command, policy)
    return msgspec.structs.replace(made, actor=command.actor)


def _refused(standing: Standing, why: str) -> Transition:
    return Transition(standing=standing, refused=why)


def _said(command: Command) -> tuple[str, ...]:
    return (f"{command.actor}: {command.reason}",)


def _rollback(standing: Standing, command: Command, policy: Policy) -> Transition:
    """A failed rollback is tried again at once, with an order of its own."""
    state = standing.state
    if state is State.ROLLED_BACK:
        return _refused(standing, f"it is rolled back already, since {Moment(standing.since)}")
    if state in {State.ROLLING_BACK, State.VERIFYING}:
        return _refused(
            standing, f"it is being rolled back already, since {Moment(standing.since)}"
        )
    if policy.dry_run and state is State.ROLLBACK_FAILED:
        # That order is older than the dry run, and must not get lost.
        return _refused(standing, "dry_run: the order under way is sent again, but no new one")
    said = _said(command)
    if policy.dry_run:
        said += ("dry_run: nothing is ordered",)
    return rollback(standing, said, command.at, policy)


def _pause(standing: Standing, command: Command, policy: Policy) -> Transition:
    del policy
    if command.until is not None and command.until <= command.at:
        return _refused(
            standing,
            f"until {Moment(command.until)} is over: expected a time after {Moment(command.at)}",
        )
    begun = command.at if standing.paused is None else standing.paused.since
    pause = Pause(command.actor, command.reason, command.until, begun)
    if pause == standing.paused:
        return _refused(standing, f"it is paused already, by {pause.actor}: {pause.reason}")
    until = "" if pause.until is None else f", until {Moment(pause.until)}"
    said = tuple(f"{told}{until}" for told in _said(command))
    return moved(standing, standing.state, command.at, "pause", said, paused=pause)


def _resume(standing: Standing, command: Command, policy: Policy) -> Transition:
    """A pause ends; without one, a person has seen why it holds, and judging starts anew."""
    del policy
    at, said = command.at, _said(command)
    if standing.paused:
        return Transition(standing=unpaused(standing, at), action="resume", reasons=said)
    if standing.state is not State.HOLD:
        return _refused(
            standing, f"there is nothing to resume: it is {_words(standing)}, and not paused"
        )
    # What was seen is forgotten, so that errors count anew.
    return Transition(standing=_anew(standing, at), action="resume", reasons=said)


def _rearm(standing: Standing, command: Command, policy: Policy) -> Transition:
    why = _unready(standing, command, policy)
    if why is not None:
        return _refused(standing, why)
    return Transition(standing=_anew(standing, command.at), action="rearm", reasons=_said(command))


def _anew(standing: Standing, at: int) -> Standing:
    """The first standing of a new epoch. Harm that the brake kept back was seen by whoever begins it."""
    if standing.paused is None:
        standing = msgspec.structs.replace(standing, latched=())
    return renewed(standing, at)


def _unready(standing: Standing, command: Command, policy: Policy) -> str | None:
    """Why a treatment may not be armed again, None where it may."""
    state, barred = standing.state, policy.quarantined or standing.sightings
    if state in {State.ROLLED_BACK, State.WOULD_ROLL_BACK}:
        cooling = _cooling(standing, command.at, policy.hold.cool_down)
        return None if command.force else cooling or _quarantined(policy)
    if command.force and (state is State.ROLLBACK_FAILED or (state is State.HOLD and barred)):
        return None
    if state is State.HOLD:
        return "it is on hold, not rolled back: resume acknowledges why, and starts anew"
    if state in ACTING:
        return _under_way(standing, "rearm")
    return f"it is {_words(standing)}, not rolled back: there is nothing to arm again"


def _cooling(standing: Standing, at: int, cool_down: Duration) -> str | None:
    ready = standing.since + cool_down
    if at >= ready or standing.state is not State.ROLLED_BACK:
        return None
    return (
        f"it was rolled back only {Duration(max(0, at - standing.since))} ago, and hold.cool_down is"
        f" {cool_down}: wait until {Moment(ready)}, or use force"
    )


def _quarantined(policy: Policy) -> str | None:
    if not policy.quarantined:
        return None
    told = ", ".join(
        f"{version} (rolled back {Moment(since)})" for version, since in policy.quarantined.items()
    )
    return (
        f"the newest version that was seen is in quarantine: {told}; deploy another one, or use force"
        " to try this one again (also where the new one has had no request yet)"
    )


def _end(standing: Standing, command: Command, policy: Policy) -> Transition:
    del policy
    given_up = command.force and standing.state is State.ROLLBACK_FAILED
    if standing.state in ACTING and not given_up:
        return _refused(standing, _under_way(standing, "end"))
    return moved(standing, State.ENDED, command.at, "end", _said(command))


def _under_way(standing: Standing, verb: str) -> str:
    """Why nothing may come between: the order would be lost, and its traffic would stay."""
    if standing.state is State.ROLLBACK_FAILED:
        return (
            "its rollback fails and is tried again; move its traffic away by hand, or"
            f" {verb} with force, which gives the order up and leaves the traffic where it is"
        )
    return f"it is being rolled back: {verb} it when that took effect"


def _words(standing: Standing) -> str:
    return standing.state.value.replace("_", " ")


_VERBS: dict[str, Callable[[Standing, Command, Policy], Transition]] = {
    "rollback": _rollback,
    "pause": _pause,
    "resume": _resume,
    "rearm": _rearm,
    "end": _end,
}
