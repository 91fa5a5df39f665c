"""The status of experiments on one screen: what the person on call has to know. Pure."""

from abmonitor.api_types import (
    AtRisk,
    ExperimentStatus,
    GuardrailStatus,
    PauseShown,
    Status,
    TreatmentStatus,
)
from abmonitor.progress import nearest
from abmonitor.view import ExperimentView, View
from alerts.health import labels_stalled
from alerts.judge import Judgement
from alerts.standing import ACTING, Pause, Standing, State
from metrics.experiment import HOUR, MINUTE


SHARE_OVER = 5 * MINUTE
"""Of data, which the share of the traffic is taken of."""
SEEN_LATELY = 10 * MINUTE

NOT_AT_RISK = frozenset({State.ROLLED_BACK, State.ENDED})


def status(view: View, problem: str | None, now: int, names: tuple[str, ...]) -> Status:
    """The status of the experiments `names`, at `now` (epoch ms); `problem`: why nothing may be newer."""
    return Status(
        as_of=view.as_of,
        problem=problem,
        experiments=tuple(_experiment(view.experiments[name], now) for name in names),
    )


def _experiment(view: ExperimentView, now: int) -> ExperimentStatus:
    declared, snapshot = view.experiment, view.snapshot
    end = snapshot.watermark
    return ExperimentStatus(
        name=declared.name,
        state=view.book.worst(declared.treatments).value,
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
        share=_share(view, treatment),
        intended_share=_intended(view, treatment),
        versions=_versions(view, treatment),
        quarantined=tuple(book.quarantined.get(treatment, {})),
        guardrails=tuple(
            _guardrail(judgement) for judgement in book.judgements.get(treatment, {}).values()
        ),
        at_risk=_at_risk(view, treatment),
        commands=commands(view.experiment.name, treatment),
    )


def _pause(found: Pause) -> PauseShown:
    return PauseShown(actor=found.actor, reason=found.reason, until=found.until)


def commands(experiment: str, treatment: str) -> tuple[str, ...]:
    """The exact commands to roll back and to pause."""
    which = f"{experiment} --treatment {treatment}"
    return (
        f'abmonitor rollback {which} --reason "..."',
        f'abmonitor pause {which} --for 2h --reason "..."',
    )


def _came(view: ExperimentView, variant: str) -> int | None:
    """Predictions of a variant in the latest stretch of data; None where none was read."""
    end = view.snapshot.watermark
    facts = view.snapshot.variants.get(variant)
    return None if end is None or facts is None else facts.predictions(end, SHARE_OVER)


def _share(view: ExperimentView, treatment: str) -> float | None:
    came = _came(view, treatment)
    whole = sum(_came(view, name) or 0 for name in view.snapshot.variants)
    return None if came is None or not whole else came / whole


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


def _at_risk(view: ExperimentView, treatment: str) -> AtRisk:
    """(Profit per prediction of the control - of the treatment) x the treatment's predictions an hour."""
    profitability = view.experiment.profitability
    cost = profitability.unit_cost if profitability else None
    comparison, came = view.comparisons.get(treatment), _came(view, treatment)
    difference = comparison.differences.get("profit_per_prediction") if comparison else None
    an_hour = None if came is None else round(came * HOUR / SHARE_OVER)
    standing = view.book.standings.get(treatment, Standing())
    lost = None
    if standing.state in NOT_AT_RISK and not an_hour:
        lost = 0.0
    elif difference is not None and an_hour is not None:
        lost = max(0.0, -difference.estimate) * an_hour * (cost or 1.0)
    return AtRisk(
        an_hour=lost,
        unit="money" if cost is not None else "unit costs",
        predictions_an_hour=an_hour,
    )
