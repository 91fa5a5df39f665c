"""The aftermath of a rollback: whether the traffic went away, and whether it came back. Pure."""

from collections.abc import Iterator

from alerts.carrying import UNSEEN
from alerts.happenings import Failed, Happening, Returned, Verified, Waiting
from alerts.health import STRAYS, HoldOptions, against_intended, arrived, leftover_share
from alerts.standing import Standing, State
from metrics.experiment import HOUR, MINUTE, Experiment
from metrics.snapshot import Snapshot


IN_A_ROW = 3
"""Traffic is back when it was there in so many stretches of time in a row: one burst is none."""

STRETCHES = (*(MINUTE * 2**n for n in range(5)), *(HOUR * 2**n for n in range(1, 6)))
"""Lengths that are tried (ms); of those up to an hour all fine panes are kept however late the look."""

NOT_GONE = "the treatment still gets traffic"


def effect(
    experiment: Experiment,
    treatment: str,
    standing: Standing,
    snapshot: Snapshot,
    at: int,
    options: HoldOptions,
) -> Happening | None:
    """Whether the traffic has moved since the order was accepted, or somebody moved it by hand."""
    ordered_at, acted_at = standing.ordered_at or 0, standing.acted_at
    if acted_at is None and not arrived(snapshot, treatment, ordered_at, at):
        return None  # it may as well have crashed: that takes no traffic away
    since = (ordered_at if acted_at is None else acted_at) + int(options.drain)
    share = leftover_share(experiment, treatment, snapshot, since, at)
    if share is not None and share <= options.leftover:
        return Verified(at)
    if acted_at is None or at < since + MINUTE:
        return None
    if share is None:
        return Waiting(at, UNSEEN)
    if at >= since + options.verify_for:
        return Failed(at, f"{treatment} still gets {share:.1%} of its intended traffic")
    return Waiting(at, NOT_GONE)


def returned(
    experiment: Experiment,
    treatment: str,
    standing: Standing,
    snapshot: Snapshot,
    at: int,
    options: HoldOptions,
) -> Returned | None:
    """Whether a treatment whose rollback was seen to take effect gets more than strays again.

    And that in several stretches in a row, whatever their length: a late retry, or somebody who tries
    the model out, is no traffic.
    """
    if standing.state is not State.ROLLED_BACK or not standing.verified:
        return None
    since = max(standing.since, standing.acted_at or 0)
    for width in STRETCHES:
        first = at - IN_A_ROW * width
        if first < since:
            return None
        ends = range(first + width, at + 1, width)
        shares = list(_shares(experiment, treatment, snapshot, ends, width, options))
        if len(shares) == IN_A_ROW:
            told = f"{treatment} gets {shares[-1]:.1%} of its intended traffic again"
            return Returned(at, f"{told}, although it was rolled back")
    return None


def _shares(
    experiment: Experiment,
    treatment: str,
    snapshot: Snapshot,
    ends: range,
    width: int,
    options: HoldOptions,
) -> Iterator[float]:
    """The shares of what it was meant to get, of the stretches in which it got more than strays."""
    for end in ends:
        ours, expected = against_intended(experiment, treatment, snapshot, end - width, end)
        if ours > max(STRAYS, options.leftover * expected):
            yield ours / expected
