"""Decisions to write down and read."""

from alerts.book import Decision
from alerts.standing import State


def decision(number: int, experiment: str = "offers") -> Decision:
    """The decision with this number of an experiment."""
    return Decision(
        id=f"{experiment}:new:{number}:{number}",
        action="hold",
        experiment=experiment,
        treatment="new",
        at=number,
        reasons=("labels stalled",),
        state=State.HOLD,
        before=State.HEALTHY,
        epoch=1,
        actor="abmonitor",
        settings="f1",
        dry_run=False,
        watermark=number,
        judgements={},
        counts={"new": {"tp": 1}},
    )
