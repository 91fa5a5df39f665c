"""Carrying out: what becomes of a rollback that was ordered, until it took effect and after. Pure.

It is done when the traffic is seen to be gone and, where the actuator can read its order back, when that
says so as well. An order without effect is sent again.
"""

import msgspec

from alerts.happenings import (
    Accepted,
    Failed,
    Policy,
    ReadBack,
    Returned,
    Transition,
    Verified,
    Waiting,
    moved,
)
from alerts.order import Verification
from alerts.standing import ACTING, Standing, State
from metrics.duration import Duration
from metrics.experiment import MINUTE


NOT_YET = "not rolled back yet: "
"""How a cause begins that says what a rollback waits for."""

UNSEEN = "no traffic flows, so that nobody can see it move"
UNCONFIRMED = "the traffic is gone, but the actuator has not confirmed it"

LOOKED_FOR = 2 * MINUTE
"""A look at the traffic was possible so long after the drain, if any traffic flows."""


Heard = Accepted | Failed | Verified | Waiting | Returned | ReadBack


def heard(standing: Standing, news: Heard, policy: Policy) -> Transition:
    """What news of a rollback means, from the actuator or from the traffic."""
    made = Transition(standing=standing)
    match news:
        case Accepted():
            made = _accepted(standing, news)
        case Verified():
            made = _verified(standing, news.at, policy)
        case ReadBack():
            made = _read_back(standing, news, policy)
        case Returned():
            made = _returned(standing, news, policy)
        case Failed() if standing.state in ACTING:
            made = _failing(standing, news.at, news.reason)
        case Waiting() if standing.state in ACTING and standing.acted_at is not None:
            made = _noted(standing, news.reason)
    return made


def _accepted(standing: Standing, news: Accepted) -> Transition:
    state, at = standing.state, news.at
    open_ = {State.ROLLING_BACK, State.ROLLBACK_FAILED, State.ROLLED_BACK}
    if standing.acted_at is not None or state not in open_:
        # Accepted before: only the world can say more.
        return Transition(standing=standing)
    # What cannot read back will not learn to.
    never = standing.read_back is Verification.UNSUPPORTED
    taken = msgspec.structs.replace(
        standing,
        acted_at=at,
        accepted=standing.accepted + 1,
        read_back=Verification.UNSUPPORTED if never else None,
    )
    if state is State.ROLLED_BACK:  # the traffic had gone before the order was taken
        return Transition(standing=taken)
    if not news.observable:
        unseen = ("the order was accepted; its effect cannot be observed",)
        return _done(taken, at, unseen, verified=False)
    if standing.accepted:  # taken once more: a failure until the world follows
        return Transition(standing=taken)
    return moved(taken, State.VERIFYING, at, "accepted")


def _verified(standing: Standing, at: int, policy: Policy) -> Transition:
    """The traffic is gone; where the actuator can read its order back, that is not enough."""
    if standing.state not in ACTING:
        return Transition(standing=standing)
    if standing.read_back is Verification.DONE:
        why = "the treatment's traffic is gone, and the actuator reads back that the order took effect"
        return _done(standing, at, (why,), verified=True)
    # Where no actuator ever took the order somebody has moved the traffic by hand.
    if standing.read_back is Verification.UNSUPPORTED or not standing.accepted:
        return _done(standing, at, ("the treatment's traffic is gone",), verified=True)
    return _unconfirmed(standing, at, policy) or _noted(standing, UNCONFIRMED)


def _read_back(standing: Standing, news: ReadBack, policy: Policy) -> Transition:
    at, state = news.at, news.state
    if standing.state not in ACTING or standing.acted_at is None:
        return Transition(standing=standing)  # an answer about an attempt that is over
    standing = msgspec.structs.replace(standing, read_back=state)
    if state is Verification.FAILED:
        return _failing(standing, at, "the actuator reads back that the order took no effect")
    return _unconfirmed(standing, at, policy) or Transition(standing=standing)


def _returned(standing: Standing, news: Returned, policy: Policy) -> Transition:
    """A treatment that was rolled back gets traffic again: that takes a new order.

    Not in a pause, for a person may be at work, and not in a dry run, which orders nothing: it is told
    once, and acted on when that ends. It stays rolled back, or the end of a dry run, which begins a new
    epoch, would arm it again without a person.
    """
    if standing.state is not State.ROLLED_BACK:
        return Transition(standing=standing)
    at, action, why = news.at, "traffic_returned", news.reason
    if standing.paused or policy.dry_run:
        told = None if standing.returned else action
        dry = ("dry_run: nothing is ordered",) if policy.dry_run else ()
        return moved(standing, standing.state, at, told, (why, *dry), returned=True)
    causes = _with(standing.causes, why)
    return moved(standing, State.ROLLBACK_FAILED, at, action, (why,), causes=causes)


def elapsed(standing: Standing, at: int, policy: Policy) -> Transition:
    """What the clock alone says of a rollback that is under way."""
    hold = policy.hold
    if standing.state is State.ROLLING_BACK and at >= standing.since + hold.verify_for:
        return _failing(standing, at, f"the actuator has not answered for {hold.verify_for}")
    late = _unconfirmed(standing, at, policy)
    if late is not None:
        return late
    if standing.state is State.ROLLBACK_FAILED:
        return _escalated(standing, at, hold.escalate_after)
    seen = standing.acted_at is None or any(cause.startswith(NOT_YET) for cause in standing.causes)
    if seen or at < (standing.acted_at or 0) + hold.drain + LOOKED_FOR:
        return Transition(standing=standing)
    return _noted(standing, UNSEEN)


def _escalated(standing: Standing, at: int, after: Duration) -> Transition:
    """A failure that lasts is told once more; the order is still sent again and again."""
    since = standing.since if standing.failed_at is None else standing.failed_at
    if standing.escalated or at < since + after:
        return Transition(standing=standing)
    why = tuple(cause for cause in standing.causes if cause.startswith(NOT_YET))
    reasons = (f"the rollback fails for {after} and longer", *why)
    return moved(standing, standing.state, at, "escalated", reasons, escalated=True)


def _unconfirmed(standing: Standing, at: int, policy: Policy) -> Transition | None:
    """The failure of an order that the actuator took and does not confirm; None in time."""
    if standing.acted_at is None or standing.state not in ACTING:
        return None
    open_ = standing.read_back in {None, Verification.PENDING}
    hold = policy.hold
    if not open_ or at < standing.acted_at + hold.drain + hold.verify_for:
        return None
    return _failing(standing, at, f"the actuator has not confirmed it within {hold.verify_for}")


def _failing(standing: Standing, at: int, reason: str) -> Transition:
    """The order is to be sent again; people are told when that happens for the first time."""
    action = None if standing.state is State.ROLLBACK_FAILED else "rollback_failed"
    first = at if standing.failed_at is None else standing.failed_at
    return moved(
        standing,
        State.ROLLBACK_FAILED,
        at,
        action,
        (reason,),
        acted_at=None,
        failed_at=first,
        causes=_with(standing.causes, reason),
    )


def _done(standing: Standing, at: int, reasons: tuple[str, ...], *, verified: bool) -> Transition:
    return moved(
        standing,
        State.ROLLED_BACK,
        at,
        "rolled_back",
        reasons,
        causes=_with(standing.causes),
        failed_at=None,
        escalated=False,
        verified=verified,
    )


def _noted(standing: Standing, what: str) -> Transition:
    causes = _with(standing.causes, what)
    return Transition(standing=msgspec.structs.replace(standing, causes=causes))


def _with(causes: tuple[str, ...], *waits: str) -> tuple[str, ...]:
    """The causes with what is waited for, in place of what was."""
    kept = tuple(cause for cause in causes if not cause.startswith(NOT_YET))
    return kept + tuple(f"{NOT_YET}{what}" for what in waits)
