"""Synthetic events with known truth, in order of time. Pure: the same for the same seed.

Every quantity has a random generator of its own, so that neither the size of the chunks nor a truth
that changes shifts what is drawn for anything else. Events stand in the order (time, predictions before
outcomes, number of the prediction); outcomes wait in a buffer until their time has come.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from metrics.moments import LATENCY_CAP
from stream.arms import SCORE_STEPS, Arms, Assignment, Floats, Ints, Run
from stream.events import Outcome, Prediction
from stream.simulation import Simulation
from stream.split import Split


CHUNK = 16_384

_UNIFORM = ["time", "experiment", "unit", "actual", "decision", "error"]
_UNIFORM += ["missing", "late", "late_by", "twice", "twice_told"]
_NORMAL = ["latency", "delay"]

_FIELDS = [(name, "i8") for name in ("index", "time", "arm", "unit", "tenths", "score", "copies")]
_REQUEST = np.dtype([*_FIELDS, *((name, "?") for name in ("actual", "decided", "error"))])
"""A prediction; its latency in 0.1 ms and its score in steps are -1 where it has none."""

_OUTCOME = np.dtype([("index", "i8"), ("time", "i8"), ("copies", "i8"), ("actual", "?")])

Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]


class _SentPrediction(Prediction, omit_defaults=True, gc=False):
    """A prediction that says nothing of what it does not know."""


class _SentOutcome(Outcome, omit_defaults=True, gc=False):
    """An outcome that says nothing of what it does not know."""


class Simulator:
    """Makes the events of one run, and knows the truth of what it has made so far."""

    def __init__(
        self, simulation: Simulation, run: Run, *, chunk: int = CHUNK, split: Split | None = None
    ) -> None:
        """`chunk`: predictions made at a time; the events do not depend on it.

        `split`: may be changed while events are made, and then holds for those made from then on.
        """
        self._simulation, self._run, self._chunk = simulation, run, chunk
        self._arms = Arms(simulation, run.span)
        self._assign = Assignment(simulation, run, split or Split(simulation))
        seeds = (
            np.random.SeedSequence(run.seed, spawn_key=(n,))
            for n in range(len(_UNIFORM) + len(_NORMAL))
        )
        generators = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
        self._draws = dict(zip(_UNIFORM + _NORMAL, generators, strict=True))
        self._encode = msgspec.json.Encoder().encode_lines
        self._tally = _Tally(len(self._arms.names))
        self.made = 0
        """Requests made so far, of `Run.predictions`."""

    def blocks(self) -> Iterator[bytes]:
        """All events as newline-delimited JSON, some at a time. To be used once."""
        run = self._run
        waiting: Records = np.zeros(0, _OUTCOME)
        while self.made < run.predictions:
            upto = min(self.made + self._chunk, run.predictions)
            requests, outcomes = self._make(np.arange(self.made, upto))
            waiting = np.concatenate([waiting, outcomes])
            waiting = waiting[np.argsort(waiting["time"], kind="stable")]
            # What shares its millisecond with the first of the next chunk comes after that.
            due = int(np.searchsorted(waiting["time"], run.start + int(upto / run.rate * 1000)))
            self.made = upto
            yield self._written(requests, waiting[:due])
            waiting = waiting[due:]
        for first in range(0, len(waiting), self._chunk):
            yield self._written(np.zeros(0, _REQUEST), waiting[first : first + self._chunk])

    def truth(self) -> dict[str, Any]:
        """What is true of the events made so far; counts are named as in the document of replay."""
        experiments: dict[str, Any] = {
            experiment.name: {"control": experiment.baseline, "variants": {}}
            for experiment in self._simulation.experiments
        }
        for arm, (experiment, variant) in enumerate(self._arms.names):
            experiments[experiment]["variants"][variant] = self._tally.variant(arm)
        return {"experiments": experiments, "events": self._tally.events()}

    def _make(self, index: Ints) -> tuple[Records, Records]:
        """The predictions numbered `index`, in order of time, and their outcomes, in no order."""
        arms, count = self._arms, len(index)
        draw = {name: self._draws[name].random(count) for name in _UNIFORM}
        normal = {name: self._draws[name].standard_normal(count) for name in _NORMAL}
        made = np.zeros(count, _REQUEST)
        after = ((index + draw["time"]) / self._run.rate * 1000).astype(np.int64)
        arm, unit = self._assign(index, draw["experiment"], draw["unit"])
        now = np.searchsorted(arms.edges, after, side="right"), arm
        actual = draw["actual"] < arms.prevalence[arm]
        chance = np.where(actual, arms.tpr[now], arms.fpr[now])
        error = draw["error"] < arms.error_rate[now]
        tenths = np.rint(arms.median[now] * np.exp(arms.sigma[now] * normal["latency"]))
        made["index"], made["time"] = index, self._run.start + after
        made["arm"], made["unit"] = arm, np.where(arms.has_units[arm], unit, -1)
        made["actual"], made["error"] = actual, error
        made["decided"] = (draw["decision"] < chance) & ~error
        made["tenths"] = np.where(arms.median[now] > 0, np.minimum(tenths, LATENCY_CAP), -1)
        made["score"] = np.where(error, -1, self._scores(arm, draw["decision"], chance))
        made["copies"] = 1 + (draw["twice"] < arms.duplicates[arm])
        delay = self._delays(arm, draw, normal["delay"])
        return self._sent(made, after, delay, draw)

    def _delays(self, arm: Ints, draw: dict[str, Floats], normal: Floats) -> Ints:
        """Milliseconds until the outcome; all late ones come within a bounded time."""
        arms = self._arms
        delay = arms.delay[arm] * np.exp(arms.delay_sigma[arm] * normal)
        late = (delay > arms.horizon[arm]) | (draw["late"] < arms.late[arm])
        too_long = arms.horizon[arm] + 1 + np.floor(draw["late_by"] * arms.late_by[arm])
        found: Ints = np.where(late, too_long, np.rint(delay)).astype(np.int64)
        return found

    def _scores(self, arm: Ints, decision: Floats, chance: Floats) -> Ints:
        """Scores in steps: at or above the threshold exactly where `decision` < `chance`."""
        arms, threshold = self._arms, self._arms.threshold[arm]
        yes = decision < chance
        # How far the draw is from the extreme on its side of the decision, in [0, 1].
        away = np.where(yes, decision, 1 - decision) / np.where(yes, chance, 1 - chance)
        away **= arms.sharpness[arm]
        above = threshold + np.floor((SCORE_STEPS - threshold + 1) * (1 - away))
        below = np.floor(threshold * away)
        score = np.where(yes, np.minimum(above, SCORE_STEPS), np.minimum(below, threshold - 1))
        return np.where(arms.scored[arm], score, -1).astype(np.int64)

    def _sent(
        self, made: Records, after: Ints, delay: Ints, draw: dict[str, Floats]
    ) -> tuple[Records, Records]:
        """What of the predictions, and of their outcomes, is ever sent."""
        arms, arm = self._arms, made["arm"]
        sent = after < arms.silent_from[arm]
        told = sent & (draw["missing"] >= arms.missing[arm])
        told &= made["decided"] | ~arms.acted_only[arm]
        told &= after + delay < arms.labels_stop[arm]
        outcomes = np.zeros(len(made), _OUTCOME)
        outcomes["index"], outcomes["actual"] = made["index"], made["actual"]
        outcomes["time"] = made["time"] + delay
        outcomes["copies"] = 1 + (draw["twice_told"] < arms.duplicates[arm])
        self._tally.predictions(made[sent])
        in_time = told & (delay <= arms.horizon[arm])
        self._tally.labels(made[in_time])
        copies = outcomes["copies"]
        self._tally.outcomes(copies[in_time], copies[told & ~in_time])
        return made[sent], outcomes[told]

    def _written(self, requests: Records, outcomes: Records) -> bytes:
        """Events as lines; both arguments are in order of time."""
        events = [*self._predictions(requests), *self._outcomes(outcomes)]
        order = np.argsort(np.concatenate([requests["time"], outcomes["time"]]), kind="stable")
        copies = np.concatenate([requests["copies"], outcomes["copies"]])
        repeated = np.repeat(order, copies[order]).tolist()
        return self._encode([events[number] for number in repeated])

    def _predictions(self, made: Records) -> Iterator[Prediction]:
        arms = made["arm"].tolist()
        failed, units = made["error"], _optional(made["unit"], made["unit"] >= 0)
        return map(
            _SentPrediction,
            self._ids(made),
            (self._arms.names[arm][0] for arm in arms),
            (self._arms.names[arm][1] for arm in arms),
            _optional(made["decided"], ~failed),
            made["time"].tolist(),
            _optional(made["tenths"] / 10, made["tenths"] >= 0),
            _optional(failed, failed),
            repeat(None),  # acted: as predicted
            _optional(made["score"] / SCORE_STEPS, made["score"] >= 0),
            repeat(None),  # weight
            (None if unit is None else f"u{unit}" for unit in units),
        )

    def _outcomes(self, due: Records) -> Iterator[Outcome]:
        return map(_SentOutcome, self._ids(due), due["actual"].tolist(), due["time"].tolist())

    def _ids(self, records: Records) -> list[str]:
        seed = self._run.seed
        return [f"s{seed}-{number}" for number in records["index"].tolist()]


def _optional(values: npt.NDArray[Any], known: Bools) -> list[Any]:
    """The values as Python has them, None for those that are not `known`."""
    found = values.astype(object)
    found[~known] = None
    return list(found.tolist())


class _Tally:
    """Counts what was made, by arm."""

    def __init__(self, arms: int) -> None:
        self._arms = arms
        self._by_arm: dict[str, Ints] = {}
        self._events: Counter[str] = Counter()

    def predictions(self, sent: Records) -> None:
        """Count predictions that are sent."""
        timed = sent[sent["tenths"] >= 0]
        self._add("predictions", sent)
        self._add("errors", sent[sent["error"]])
        self._add("timed", timed)
        self._add("tenths", timed, timed["tenths"])
        self._events["predictions"] += len(sent)
        self._events["duplicate"] += int(sent["copies"].sum()) - len(sent)

    def labels(self, told: Records) -> None:
        """Count predictions whose label counts."""
        self._add("labelled", told)
        answered = told[~told["error"]]
        actual, decided = answered["actual"], answered["decided"]
        for name, cell in (
            ("tp", actual & decided),
            ("fp", ~actual & decided),
            ("tn", ~actual & ~decided),
            ("fn", actual & ~decided),
        ):
            self._add(name, answered[cell])

    def outcomes(self, in_time: Ints, late: Ints) -> None:
        """Count outcomes that are sent, given as the number of times that each of them is."""
        self._events["outcomes"] += len(in_time)
        self._events["duplicate"] += int(in_time.sum()) - len(in_time)
        self._events["late"] += int(late.sum())

    def _add(self, name: str, records: Records, numbers: Ints | None = None) -> None:
        # Sums of a chunk are whole numbers far below 2**53, so that nothing is lost as a fraction.
        found = np.bincount(records["arm"], numbers, self._arms).astype(np.int64)
        self._by_arm[name] = self._by_arm.get(name, 0) + found

    def variant(self, arm: int) -> dict[str, Any]:
        """The truth of one variant."""
        found = Counter({name: int(counts[arm]) for name, counts in self._by_arm.items()})
        mean = found["tenths"] / found["timed"] / 10 if found["timed"] else None
        return {
            "counts": {cell: found[cell] for cell in ("tp", "fp", "tn", "fn")},
            "predictions": found["predictions"],
            "errors": found["errors"],
            "unlabelled": found["predictions"] - found["labelled"],
            "latency_ms": {"mean": mean},
        }

    def events(self) -> dict[str, int]:
        """How many events of which kind there are; `written` is all of them."""
        names = ("predictions", "outcomes", "duplicate", "late")
        found = {name: self._events[name] for name in names}
        accepted = found["predictions"] + found["outcomes"]
        return {"written": sum(found.values()), "accepted": accepted} | found
