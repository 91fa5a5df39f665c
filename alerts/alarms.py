"""Alarms: why one of somebody else's monitoring changes nothing about a treatment. Pure.

Whoever raises an alarm repeats it for hours, and to several monitors. No list of those that were heard is kept: that
an alarm has acted is seen from where the treatment stands, and that it belongs to an earlier life from when it began.
So a repetition does nothing whoever gets it, and what restores the book restores this, too.
"""

from alerts.happenings import Alarm
from alerts.standing import Standing, State
from metrics.moment import Moment


_ALREADY = {
    State.ROLLING_BACK: "it is being rolled back already",
    State.VERIFYING: "it is being rolled back already",
    State.ROLLBACK_FAILED: "its rollback is under way: it fails, and is tried again",
    State.ROLLED_BACK: "it is rolled back already",
    State.WOULD_ROLL_BACK: "dry_run: it would be rolled back already",
    State.ENDED: "it has ended: nothing is judged any more",
}


def unmoved_by(standing: Standing, alarm: Alarm) -> str | None:
    """Why `alarm` may change nothing, None where it may.

    An alarm that began before this life of the treatment is about an earlier one: whoever armed it again, or
    changed what is tested, has seen it.
    """
    already = _ALREADY.get(standing.state)
    if already is not None:
        return f"{already}, since {Moment(standing.since)}"
    if alarm.began < standing.begun:
        return (
            f"it is raised since {Moment(alarm.began)}, and epoch {standing.epoch} of the treatment began"
            f" only at {Moment(standing.begun)}: an alarm acts on what it was raised about"
        )
    return None
