"""The status of experiments on one screen: what the person on call has to know. Pure."""

from collections.abc import Iterator

from abmonitor.api_types import (
    ExperimentStatus,
    GuardrailStatus,
    PauseShown,
    Status,
    TreatmentStatus,
)
from abmonitor.at_risk import SHARE_OVER, at_risk, came
from abmonitor.progress import nearest
from abmonitor.view import ExperimentView, View
from alerts.health import labels_stalled
from alerts.judge import Judgement
from alerts.standing import ACTING, Pause, Standing, State
from metrics.experiment import MINUTE


LATELY = MINUTE
"""Of data, which shows at once where the traffic goes."""
SEEN_LATELY = 10 * MINUTE

MOVED_BY_PEOPLE = frozenset({"rearm", "rollback", "rolled_back", "end"})
"""Decisions after which a treatment's traffic is another one."""


def status(view: View, problem: str | None, now: int, names: tuple[str, ...]) -> Status:
    """The status of the experiments `names`, at `now` (epoch ms); `problem`: why nothing may be newer."""
    return Status(
        as_of=view.as_of,
        problem=problem,
        experiments=tuple(
            _experiment(view.experiments[name], now, leads=name in view.leads) for name in names
        ),
    )


def _experiment(view: ExperimentView, now: int, *, leads: bool) -> ExperimentStatus:
    declared, snapshot = view.experiment, view.snapshot
    end = snapshot.watermark
    return ExperimentStatus(
        name=declared.name,
        state=view.book.worst(declared.treatments).value,
        leads=leads,
        control=declared.control,
        data_age_ms=None if end is None else max(0, now - end),
        labels_final_to=snapshot.matured,
        labels_stalled=end is not None and labels_stalled(declared, snapshot, end),
        dry_run=declared.on_breach.dry_run,
        treatments=tuple(_treatment(view, name) for name in declared.treatments),
    )


def _treatment(view: ExperimentView, treatment: str) -> TreatmentStatus:
    book = view.book
    standing = book.standings.get(treatment, Standing())
    pause = standing.paused
    return TreatmentStatus(
        treatment=treatment,
        state=standing.state.value,
        since=standing.since or None,
        epoch=standing.epoch,
        causes=standing.causes,
        verified=standing.verified,
        paused=None if pause is None else _pause(pause),
        latched=standing.latched,
        share=_share(view, treatment, SHARE_OVER),
        share_lately=_share(view, treatment, LATELY),
        intended_share=_intended(view, treatment),
        versions=_versions(view, treatment),
        quarantined=tuple(book.quarantined.get(treatment, {})),
        guardrails=tuple(
            _guardrail(judgement) for judgement in book.judgements.get(treatment, {}).values()
        ),
        at_risk=at_risk(view, treatment),
        advice=_advice(view, treatment),
        commands=commands(view.experiment.name, treatment, standing),
    )


def _pause(found: Pause) -> PauseShown:
    return PauseShown(actor=found.actor, reason=found.reason, until=found.until)


def commands(experiment: str, treatment: str, standing: Standing) -> tuple[str, ...]:
    """The exact commands that change something in this state, the likeliest first."""
    which = f"{experiment} --treatment {treatment}"
    return tuple(
        f'abmonitor {verb} {which}{" --for 2h" * (verb == "pause")} --reason "..."'
        for verb in _verbs(standing)
    )


def _verbs(standing: Standing) -> Iterator[str]:
    if standing.state is State.ENDED:
        return
    off = standing.state in {State.ROLLED_BACK, State.WOULD_ROLL_BACK}
    if off:
        yield "rearm"
    if standing.paused is not None or standing.state is State.HOLD:
        yield "resume"
    if not off:
        yield "rollback"
        if standing.paused is None and standing.state is not State.HOLD:
            yield "pause"


def _advice(view: ExperimentView, treatment: str) -> str | None:
    """What is left to do after a re-arm, of which no router is told; None where nothing is."""
    if view.experiment.on_breach.action == "flagd":  # the flag gives the split back by itself
        return None
    made = (one for one in reversed(view.decisions) if one.treatment == treatment)
    last = next((one.action for one in made if one.action in MOVED_BY_PEOPLE), None)
    end = view.snapshot.watermark
    declared = None if end is None else view.experiment.split_at(end).get(treatment)
    if last != "rearm" or not declared or came(view, treatment, LATELY):
        return None
    return "it was re-armed, and gets no traffic: give it traffic again"


def _share(view: ExperimentView, treatment: str, width: int) -> float | None:
    ours = came(view, treatment, width)
    whole = sum(came(view, name, width) or 0 for name in view.snapshot.variants)
    return None if ours is None or not whole else ours / whole


def _intended(view: ExperimentView, treatment: str) -> float | None:
    standing = view.book.standings.get(treatment, Standing())
    if standing.state in ACTING | {State.ROLLED_BACK}:
        return 0.0
    phase, end = view.book.phase, view.snapshot.watermark
    if phase is not None:
        split = phase.split
    elif end is not None:
        split = view.experiment.split_at(end)
    else:
        return None
    whole = sum(split.values())
    return split.get(treatment, 0.0) / whole if whole else None


def _versions(view: ExperimentView, treatment: str) -> tuple[str, ...]:
    """Versions seen lately, newest first; the last one there was where none was."""
    facts = view.snapshot.variants.get(treatment)
    seen = dict(facts.versions) if facts else {}
    newest = sorted(seen, key=lambda version: (-seen[version], version))
    since = (view.snapshot.watermark or 0) - SEEN_LATELY
    return tuple(version for version in newest if seen[version] >= since) or tuple(newest[:1])


def _guardrail(judgement: Judgement) -> GuardrailStatus:
    found = judgement.evidence
    verdict, share = None, None
    if found is not None and found.safe is not None:
        told = {
            "evidence": {name: getattr(found, name) for name in found.__struct_fields__},
            "phase": judgement.phase.value,
        }
        verdict, share = nearest(told)
    return GuardrailStatus(
        guardrail=judgement.guardrail,
        phase=judgement.phase.value,
        reason=judgement.reason,
        value=judgement.value,
        control=judgement.control,
        bound=judgement.bound,
        nearest="rollback" if verdict == "rollback" else "pass" if verdict else None,
        evidence=share,
    )
