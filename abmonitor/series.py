"""The series of an experiment: what pages and reports draw over time, as columns of plain numbers. Pure.

Everything follows from the view. What was drawn is remembered for as long as what it rests on has not changed,
because many look at the same view, and most of a view is the same as in the one before.
"""

from typing import Any

from abmonitor.series_arrival import Arrival, latency
from abmonitor.series_labelled import Labelled, Plain, Sparks, headline
from abmonitor.series_memory import Newest
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from metrics.uncertainty import ALPHA


__all__ = ["INTERVAL", "Series", "headline", "series", "spark"]

INTERVAL = {"kind": "confidence sequence", "level": 1 - ALPHA}
"""What bounds are: right at all looks together, however often one looks."""

LOOKED_AT = 16
"""Experiments of which all lines are remembered: those that somebody looked at last."""

LISTED = 2_000
"""Experiments of which sparks are remembered."""


class Series:
    """Draws experiments, and remembers what was drawn."""

    def __init__(self) -> None:
        self._lines = Newest[_Lines](LOOKED_AT)
        self._sparks = Newest[Sparks](LISTED)

    def of(self, view: ExperimentView) -> dict[str, Any]:
        """Everything that is drawn of an experiment (see docs/series.md); not to be changed."""
        name = view.experiment.name
        known = self._lines.get(name)
        if known is None or known.experiment is not view.experiment:
            known = _Lines(view.experiment)
        return self._lines.keep(name, known).of(view)

    def spark(self, view: ExperimentView, treatment: str) -> Plain:
        """The difference of the headline metric over time, in at most 32 points; not to be changed."""
        name = view.experiment.name
        known = self._sparks.get(name)
        if known is None or known.experiment is not view.experiment:
            known = Sparks(view.experiment)
        return self._sparks.keep(name, known).of(view)[treatment]


class _Lines:
    """All lines of one experiment."""

    def __init__(self, experiment: ExperimentSettings) -> None:
        self.experiment = experiment
        self._labelled, self._arrival = Labelled(experiment), Arrival(experiment)
        self._known: tuple[ExperimentView, dict[str, Any]] | None = None

    def of(self, view: ExperimentView) -> dict[str, Any]:
        if self._known is None or not _alike(view, self._known[0]):
            self._known = view, self._drawn(view)
        return self._known[1]

    def _drawn(self, view: ExperimentView) -> dict[str, Any]:
        return {
            "as_of": view.snapshot.watermark,
            "interval": dict(INTERVAL),
            "labelled": self._labelled.of(view),
            "arrival": self._arrival.of(view),
            "latency": latency(view.snapshot),
            "maturity": _maturity(view),
            "decisions": _decisions(view),
        }


def _alike(ours: ExperimentView, theirs: ExperimentView) -> bool:
    """Whether two views show the same."""
    same = ours.snapshot is theirs.snapshot and ours.book is theirs.book
    return same and ours.decisions == theirs.decisions


def _maturity(view: ExperimentView) -> dict[str, dict[str, int]]:
    """How many predictions there are, how many have met their outcome, and of how many that is final."""
    return {
        name: {
            "predictions": facts.total.predictions,
            "labelled": facts.total.labelled,
            "mature": facts.mature.predictions,
        }
        for name, facts in view.snapshot.variants.items()
    }


def _decisions(view: ExperimentView) -> list[dict[str, Any]]:
    return [
        {
            "id": each.id,
            "at": each.at,
            "action": each.action,
            "treatment": each.treatment,
            "reasons": list(each.reasons),
        }
        for each in view.decisions
    ]


_SERIES = Series()
"""Of this process. Nothing but time depends on what it remembers."""


def series(view: ExperimentView) -> dict[str, Any]:
    """Everything that is drawn of an experiment: see `Series.of`."""
    return _SERIES.of(view)


def spark(view: ExperimentView, treatment: str) -> Plain:
    """The headline difference of a treatment in a few points: see `Series.spark`. Raises KeyError."""
    return _SERIES.spark(view, treatment)
