"""What labels have said over time: metrics, differences and business value, cohort after cohort. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abmonitor.series_blocks import DECISIONS, Adding, Blocks, Ints, Rows, begun, blocks_of
from abmonitor.series_memory import Ledgers, same
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from alerts.book import Stretch
from alerts.cohorts import stretches_of
from metrics import history
from metrics.experiment import Experiment
from metrics.history import Line, knowable, picked
from metrics.snapshot import Panes


POINTS = 120
"""The most that a line has: more cannot be told apart on a screen."""

SPARK_POINTS = 32

Plain = list[float | None]
Columns = dict[str, Plain]


def headline(experiment: Experiment) -> str:
    """The metric that an experiment is told by: the first of these that can be known."""
    wanted = ("rap", "profit_per_prediction", "accuracy", "precision")
    return next(metric for metric in wanted if knowable(metric, experiment))


def plain(numbers: npt.NDArray[np.float64]) -> Plain:
    """The numbers for JSON: None for what is unknown."""
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


@dataclass(frozen=True, slots=True)
class Basis:
    """What the lines of an experiment rest on."""

    experiment: ExperimentSettings
    cohorts: Mapping[str, Panes]
    begun: Mapping[str, int]
    """By treatment."""
    stretches: Sequence[Stretch]
    matured: int | None
    moments: tuple[int, ...]
    """When something was decided (epoch ms)."""

    @classmethod
    def of(cls, view: ExperimentView) -> "Basis":
        """What is drawn of a view rests on this."""
        declared, book, snapshot = view.experiment, view.book, view.snapshot
        return cls(
            declared,
            {name: snapshot.variants[name].cohorts for name in declared.variants},
            {name: begun(book, name) for name in declared.treatments},
            stretches_of(book, declared),
            snapshot.matured,
            tuple(each.at for each in view.decisions),
        )

    def is_as(self, other: "Basis", *, apart_from_cohorts: bool = False) -> bool:
        """Whether the same lines follow from `other`. A snapshot never changes: other cohorts, other mappings."""
        alike = (self.moments, self.begun) == (other.moments, other.begun)
        if not alike or self.stretches != other.stretches:
            return False
        return apart_from_cohorts or (
            self.matured == other.matured
            and all(panes is other.cohorts[name] for name, panes in self.cohorts.items())
        )

    @property
    def until(self) -> int:
        """When the newest cohort ends of which all labels are final (epoch ms)."""
        width = int(self.experiment.labels.cohort)
        return 0 if self.matured is None else self.matured - self.matured % width

    def complete(self, name: str) -> Ledgers:
        """The cohorts of one variant of which all labels are final, in order of time."""
        panes, until = self.cohorts[name], self.until
        return [panes[start] for start in sorted(panes) if start < until]


class Labelled:
    """The lines of one experiment, drawn anew where what they rest on has changed."""

    def __init__(self, experiment: ExperimentSettings) -> None:
        self._experiment = experiment
        self._adding = Adding(experiment.labels, units=True)
        self._known: tuple[Basis, dict[str, Any]] | None = None

    def of(self, view: ExperimentView) -> dict[str, Any]:
        """Values, differences and business value at the ends of cohorts; not to be changed."""
        basis = Basis.of(view)
        if self._known is None or not basis.is_as(self._known[0]):
            self._known = basis, self._drawn(view, basis)
        return self._known[1]

    def _drawn(self, view: ExperimentView, basis: Basis) -> dict[str, Any]:
        declared = self._experiment
        blocks = blocks_of(view, declared.treatments, 2 * POINTS)
        kept = _kept(view, blocks)
        rows = self._adding.of(basis.cohorts, blocks)
        metric = headline(declared)
        values = {
            name: self._own(metric, name, found, blocks, kept) for name, found in rows.items()
        }
        control = values[declared.control].value
        margin = _margin(declared, metric, control[-1] if control.size else np.nan)
        compared = {
            name: self._compared(metric, name, rows, blocks, kept) for name in declared.treatments
        }
        return {
            "metric": metric,
            "at": [_end(view, start) for start in blocks.lasts[kept].tolist()],
            "variants": {name: _columns("value", line) for name, line in values.items()},
            "differences": {
                name: {"metric": metric, **found, "margin": margin}
                for name, (found, _) in compared.items()
            },
            "net_business_value": {name: found for name, (_, found) in compared.items()},
        }

    def _own(self, metric: str, name: str, rows: Rows, blocks: Blocks, kept: Ints) -> Line:
        """The control's since the oldest epoch began, a treatment's since its own."""
        since = blocks.begun.get(name, min(blocks.begun.values(), default=0))
        sums = rows.sums(blocks.alone(since, kept))
        return history.own(metric, sums, self._experiment, self._experiment.testing.planned)

    def _compared(
        self, metric: str, name: str, rows: Mapping[str, Rows], blocks: Blocks, kept: Ints
    ) -> tuple[Columns, Columns]:
        """The difference to the control, and net business value with its parts."""
        declared, where = self._experiment, blocks.together(name, kept)
        both = rows[name].sums(where), rows[declared.control].sums(where)
        difference, value = (
            history.difference(each, *both, declared, declared.testing.planned)
            for each in (metric, "net_business_value")
        )
        parts = history.parts(*both, declared)
        named = {"accuracy": parts.accuracy, "latency": parts.latency, "errors": parts.errors}
        worth = _columns("estimate", value) | {each: plain(line) for each, line in named.items()}
        return _columns("estimate", difference), worth


def _columns(value: str, line: Line) -> Columns:
    return {value: plain(line.value), "lower": plain(line.lower), "upper": plain(line.upper)}


def _kept(view: ExperimentView, blocks: Blocks) -> Ints:
    """The blocks whose ends are drawn."""
    width = int(view.experiment.labels.cohort)
    decided = {blocks.until(each.at, width) for each in view.decisions[-DECISIONS:]}
    wanted = [at for at in decided if at is not None]
    return np.array(picked(blocks.starts.size, POINTS, wanted), dtype=np.int64)


def _end(view: ExperimentView, start: int) -> int:
    """When a cohort ends; of one that is still filling, up to when its labels are final."""
    end, final = start + int(view.experiment.labels.cohort), view.snapshot.matured
    return end if final is None or final <= start else min(end, final)


def _margin(declared: ExperimentSettings, metric: str, control: float) -> float | None:
    """The line that a difference must not cross: of the sequential guardrail on final labels."""
    known = float(control) if np.isfinite(control) else None
    for each in declared.guardrails:
        if (each.metric, each.test, each.landmark) == (metric, "sequential", None):
            return each.limit(known)
    return None


class Sparks:
    """The headline differences of one experiment in a few points, of complete cohorts only."""

    def __init__(self, experiment: ExperimentSettings) -> None:
        self.experiment, self._adding = experiment, Adding(experiment.labels, units=False)
        self._known: tuple[Basis, Mapping[str, Ledgers], dict[str, Plain]] | None = None

    def of(self, view: ExperimentView) -> dict[str, Plain]:
        """By treatment at most `SPARK_POINTS` estimates, oldest first; not to be changed."""
        basis, known = Basis.of(view), self._known
        if known is not None and basis.is_as(known[0]):
            return known[2]
        complete = {name: basis.complete(name) for name in basis.cohorts}
        if known is None or not (
            basis.is_as(known[0], apart_from_cohorts=True)
            and all(same(run, known[1][name]) for name, run in complete.items())
        ):
            known = basis, complete, self._drawn(view, basis)
        self._known = basis, complete, known[2]
        return known[2]

    def _drawn(self, view: ExperimentView, basis: Basis) -> dict[str, Plain]:
        declared = self.experiment
        blocks = blocks_of(view, declared.treatments, 2 * SPARK_POINTS, basis.until)
        rows, drawn = self._adding.of(basis.cohorts, blocks), {}
        for name in declared.treatments:
            begins = int(np.searchsorted(blocks.starts, blocks.begun[name]))
            points = picked(blocks.starts.size - begins, SPARK_POINTS)
            where = blocks.together(name, np.array(points, dtype=np.int64) + begins)
            both = rows[name].sums(where), rows[declared.control].sums(where)
            drawn[name] = plain(history.change(headline(declared), *both, declared))
        return drawn
