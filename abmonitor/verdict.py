"""The verdict on a treatment, for whoever promotes it or takes it back. Pure.

What is not known is `hold`: neither an unknown experiment nor old data may promote anything, or take anything
back.
"""

from typing import Literal

import msgspec

from abmonitor.view import ExperimentView, View
from alerts.standing import ACTING, SEVERITY, WATCHED, Standing, State
from metrics.experiment import MINUTE


FRESH_MS = 15_000
"""A view that is older, or that much ahead of the clock, says nothing about now."""

JUDGED_MS = 3 * MINUTE
"""What passed is promoted only while somebody still judges it: data flow, and some monitor leads."""

Word = Literal["pass", "rollback", "hold"]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done about a treatment."""

    verdict: Word = "hold"
    reasons: tuple[str, ...]
    treatment: str | None = None
    """The one that decided; None where nothing is known of any."""
    state: State | None = None
    epoch: int | None = None
    decision_id: str | None = None
    as_of: int | None = None
    """Epoch ms of what it rests on."""


def verdict(
    view: View, problem: str | None, name: str, now: int, treatment: str | None = None
) -> Gate:
    """What may be done about `treatment`, or about all of the experiment: the worst of them decides.

    `problem`: why the view is not to be relied on, None when it is. `now`: epoch ms.
    """
    unknown = _unknown(view, problem, name, now)
    if unknown is not None:
        return Gate(reasons=(unknown,), as_of=view.as_of)
    one = view.experiments[name]
    every = one.experiment.treatments
    if treatment is not None and treatment not in every:
        expected = ", ".join(every)
        why = f"{name} has no treatment {treatment!r}: expected one of {expected}"
        return Gate(reasons=(why,), as_of=view.as_of)
    wanted = every if treatment is None else (treatment,)
    return min((_of(one, each, view.as_of, now) for each in wanted), key=_mildness)


def _mildness(gate: Gate) -> tuple[int, int]:
    """The worst has the least."""
    worst_first = ("rollback", "hold", "pass")
    state = 0 if gate.state is None else SEVERITY.index(gate.state)
    return worst_first.index(gate.verdict), state


def _unknown(view: View, problem: str | None, name: str, now: int) -> str | None:
    """Why nothing is known of an experiment, None where something is."""
    if problem is not None:
        return f"the monitor is not ready: {problem}"
    if view.as_of is None:
        return "nothing was read yet"
    age = now - view.as_of
    if abs(age) > FRESH_MS:
        return (
            f"the monitor's view is {age / 1000:.1f} s old: expected at most {FRESH_MS / 1000:g} s"
        )
    if name in view.unknown:
        return f"the state of {name} is not known: {view.unknown[name]}"
    if name not in view.experiments:
        return f"there is no experiment {name!r} here"
    return None


def _of(one: ExperimentView, treatment: str, as_of: int | None, now: int) -> Gate:
    """What may be done about one treatment whose state is known."""
    standing = one.book.standings.get(treatment, Standing())
    word = _word(standing)
    decision, reasons = _because(one, treatment, standing)
    if word == "pass" and (one.book.looked_at is None or now - one.book.looked_at > JUDGED_MS):
        word, reasons = "hold", ("it has passed, and nobody has judged it lately", *reasons)
    if one.experiment.on_breach.dry_run and word != "hold":
        word, reasons = "hold", (f"dry run: would answer {word}", *reasons)
    return Gate(
        verdict=word,
        reasons=reasons,
        treatment=treatment,
        state=standing.state,
        epoch=standing.epoch,
        decision_id=decision,
        as_of=as_of,
    )


def _word(standing: Standing) -> Word:
    """A rollback that is under way goes on in a pause; what is over, or passed, then waits for its end."""
    if standing.state in ACTING:
        return "rollback"
    if standing.paused is None and standing.state is State.ROLLED_BACK:
        return "rollback"
    passed = standing.state is State.PASSED and not standing.latched
    return "pass" if passed and standing.paused is None else "hold"


def _because(
    one: ExperimentView, treatment: str, standing: Standing
) -> tuple[str | None, tuple[str, ...]]:
    """The decision that the state rests on, and the reasons for it, never none."""
    found = next(
        (
            decision
            for decision in reversed(one.decisions)
            if decision.treatment == treatment
            and decision.epoch == standing.epoch
            and (decision.id == standing.decision or decision.state is standing.state)
        ),
        None,
    )
    reasons = standing.causes or (() if found is None else found.reasons)
    said = f"{treatment} is {standing.state.value}"
    if standing.paused is not None:
        reasons = ("it is paused", *reasons)
    ordered = standing.decision if standing.state not in WATCHED else None
    return ordered or (found.id if found else None), (said, *reasons)


def is_undecided(standing: Standing) -> bool:
    """Whether a revision that is seen now is the one that is judged.

    One that is first seen after the verdict may be the next one: it was not judged, and must neither be
    promoted nor taken back for what was.
    """
    watched = standing.state in WATCHED and standing.state is not State.PASSED
    return watched and not standing.passed
