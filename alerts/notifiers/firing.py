"""Alerts: which of them fire for a treatment, from how it stands alone. Pure.

So a monitor that was started anew fires what still holds. What tells alerts apart has no numbers in it:
those change at every look, and would make a new alert of each.
"""

from collections.abc import Callable, Iterator

import msgspec

from alerts.machine import BRAKED
from alerts.notifiers.news import Situation
from alerts.standing import ACTING, State


SILENT = " is silent while "
"""In causes to hold: the treatment gets no predictions any more, though its control does."""


SEVERITY = {
    "AbmonitorRollback": "warning",
    "AbmonitorWouldRollBack": "warning",
    "AbmonitorRollbackFailed": "critical",
    "AbmonitorRollbackEscalated": "critical",
    "AbmonitorTrafficReturned": "critical",
    "AbmonitorBraked": "critical",
    "AbmonitorHold": "warning",
    "AbmonitorSilent": "critical",
    "AbmonitorHoldOverdue": "critical",
    "AbmonitorPausedHarm": "critical",
}
"""All alerts that there are."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert that fires, or fired."""

    name: str
    severity: str
    experiment: str
    variant: str
    since: int
    """Epoch ms."""
    until: int | None = None
    """When it stops by itself (epoch ms); None: when its cause is gone."""
    summary: str
    reasons: tuple[str, ...] = ()
    actor: str | None = None
    decision: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others."""
        return self.name, self.experiment, self.variant


def firing(situation: Situation, at: int, once_for: int) -> Iterator[Alert]:
    """What fires at `at` (epoch ms). What happens at one moment, such as a rollback, fires for `once_for` ms."""
    for rule in _RULES:
        for alert in rule(situation, once_for):
            if alert.until is None or at < alert.until:
                yield alert


def _rollback(situation: Situation, once_for: int) -> Iterator[Alert]:
    """While it is under way, and for a while after that."""
    standing = situation.standing
    if standing.state in ACTING:
        words, until = "is being rolled back", None
    elif standing.state is State.ROLLED_BACK:
        unseen = ", but whether its traffic is gone cannot be seen"
        words = "was rolled back" + ("" if standing.verified else unseen)
        until = situation.noticed + once_for
    else:
        return
    since = standing.since if standing.ordered_at is None else standing.ordered_at
    yield _ordered("AbmonitorRollback", situation, words, since, until)


def _would(situation: Situation, once_for: int) -> Iterator[Alert]:
    standing = situation.standing
    if standing.state is State.WOULD_ROLL_BACK:
        words, until = "would have been rolled back, but for dry_run", situation.noticed + once_for
        yield _ordered("AbmonitorWouldRollBack", situation, words, standing.since, until)


def _failed(situation: Situation, _: int) -> Iterator[Alert]:
    """Customers still get a variant that was to be taken away."""
    if situation.standing.state is not State.ROLLBACK_FAILED:
        return
    returned = situation.decided("traffic_returned")
    failed = returned or situation.decided("rollback_failed")
    words = "gets traffic although it was rolled back" if returned else "could not be rolled back"
    reasons = (*(failed.reasons if failed else ()), *situation.standing.causes)
    yield _alert("AbmonitorRollbackFailed", situation, words, reasons)
    if situation.standing.escalated:
        words = "could still not be rolled back: take its traffic away by hand"
        yield _alert("AbmonitorRollbackEscalated", situation, words, reasons)


def _returned(situation: Situation, _: int) -> Iterator[Alert]:
    """Nothing is done about it in a pause, for a person may be at work, or in a dry run."""
    standing = situation.standing
    if standing.state is State.ROLLED_BACK and standing.returned:
        words = "gets traffic although it was rolled back; a pause, or a dry run, keeps it from being taken away"
        back = situation.decided("traffic_returned")
        reasons = back.reasons if back else standing.causes
        yield _alert("AbmonitorTrafficReturned", situation, words, reasons)


def _hold(situation: Situation, _: int) -> Iterator[Alert]:
    standing = situation.standing
    if standing.state is not State.HOLD:
        return
    if BRAKED in standing.causes:
        words = "does harm, and was not rolled back: there were too many rollbacks lately"
        yield _alert("AbmonitorBraked", situation, words, standing.causes)
        return
    words = "holds: nothing can be concluded"
    yield _alert("AbmonitorHold", situation, words, standing.causes)
    silent = tuple(cause for cause in standing.causes if SILENT in cause)
    if silent:
        words = "gets no predictions any more, though its control does"
        yield _alert("AbmonitorSilent", situation, words, silent)
    if standing.overdue:
        words = "holds for too long: end what it holds for, or end it"
        yield _alert("AbmonitorHoldOverdue", situation, words, standing.causes)


def _paused(situation: Situation, _: int) -> Iterator[Alert]:
    standing = situation.standing
    if standing.paused is None or not standing.latched or standing.state is State.ENDED:
        return
    words = "does harm while it is paused: resume it, or roll it back"
    by = f"paused by {standing.paused.actor}: {standing.paused.reason}"
    reasons = (*standing.latched, by)
    yield _alert("AbmonitorPausedHarm", situation, words, reasons)


_RULES: tuple[Callable[[Situation, int], Iterator[Alert]], ...] = (
    _rollback,
    _would,
    _failed,
    _returned,
    _hold,
    _paused,
)


def _alert(name: str, situation: Situation, words: str, reasons: tuple[str, ...]) -> Alert:
    return Alert(
        name=name,
        severity=SEVERITY[name],
        experiment=situation.experiment,
        variant=situation.treatment,
        since=situation.standing.since,
        summary=f"{situation.treatment} of {situation.experiment} {words}",
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _ordered(name: str, situation: Situation, words: str, since: int, until: int | None) -> Alert:
    """An alert about a rollback: why, and by whom, the decision says."""
    standing = situation.standing
    made = _alert(name, situation, words, standing.causes)
    made = msgspec.structs.replace(made, since=since, until=until, decision=standing.decision)
    for decision in situation.decisions:
        if decision.id == standing.decision:
            return msgspec.structs.replace(made, reasons=decision.reasons, actor=decision.actor)
    return made
