"""One experiment as its page shows it, made of the documents that the API gives. Pure, but for the clock that bounds the work."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from abmonitor.answers import answers
from abmonitor.api_types import ExperimentStatus
from abmonitor.document import experiment as document
from abmonitor.progress import nearest, share_of
from abmonitor.series import headline, series
from abmonitor.status import status
from abmonitor.view import ExperimentView, View
from abmonitor.web import words
from abmonitor.web.board import Cells, Picture
from abmonitor.web.drawing import COLOURS
from abmonitor.web.rendering import rendered
from abmonitor.web.tables import decision_rows, tables
from alerts.standing import Standing


DRAWN_S = 1.5
"""Charts and their tables are made anew at most so often; words and the numbers of now with every view."""
PARTS = ("accuracy", "latency", "errors")
VERBS = ("rollback", "pause", "resume", "rearm")


def colours(view: ExperimentView) -> dict[str, str]:
    """The style of each variant: treatments in their order, and the control."""
    declared = view.experiment
    found = {name: f"v{1 + n % COLOURS}" for n, name in enumerate(declared.treatments)}
    return {declared.control: "v0", **found}


def worst_first(view: ExperimentView) -> list[tuple[int, str]]:
    """The treatments with their places in the settings, the worst first, and then what loses most."""
    metric = headline(view.experiment)

    def order(each: tuple[int, str]) -> tuple[int, float, int]:
        place, name = each
        compared, state = (
            view.comparisons.get(name),
            view.book.standings.get(name, Standing()).state,
        )
        found = None if compared is None else compared.differences.get(metric)
        return words.severity(state), 0.0 if found is None else min(0.0, found.estimate), place

    return sorted(enumerate(view.experiment.treatments), key=order)


@dataclass(slots=True)
class ExperimentPage:
    """Makes pictures of one experiment; tables are made again only where the series is another one."""

    _of: ExperimentView | None = None
    _at: float = -DRAWN_S
    _series: bytes = b"null"
    _tables: dict[str, dict[str, Cells]] = field(default_factory=dict)

    def picture(self, view: View, name: str, problem: str | None, now: int) -> Picture:
        """The experiment as of `view`; `problem`: why nothing may be newer. `now`: epoch ms."""
        one = view.experiments[name]
        found = {"name": name, **document(one)}
        (told,) = status(view, problem, now, (name,)).experiments
        self._draw(one)
        parts = dict(_parts(one, found, told, now, problem))
        parts["as-of-day"], parts["as-of"] = words.day(view.as_of), words.clock(view.as_of)
        parts["problem"] = rendered("problem.html", problem=problem)
        lists = {**self._tables, "rows-decisions": decision_rows(found["decisions"])}
        return Picture(parts, lists, self._series, whole=self._of is one)

    def _draw(self, one: ExperimentView) -> None:
        now = time.monotonic()
        if self._of is one or now - self._at < DRAWN_S:
            return
        self._of, self._at = one, now
        drawn = series(one)
        packed = msgspec.json.encode(drawn)
        if packed != self._series:
            self._series, self._tables = packed, tables(drawn, one.experiment.treatments)


def _parts(
    view: ExperimentView,
    found: dict[str, Any],
    told: ExperimentStatus,
    now: int,
    problem: str | None,
) -> Iterator[tuple[str, str]]:
    given = {"found": found, "told": told, "colours": colours(view)}
    yield "facts", rendered("facts.html", **given)
    for place, treatment in enumerate(told.treatments):
        name = treatment.treatment
        facts = found["comparisons"][name]
        said = answers(found, name, now=now, problem=problem)
        verbs = _verbs(treatment.commands)
        yield (
            f"t{place}",
            rendered("treatment.html", **given, one=treatment, said=said, verbs=verbs),
        )
        yield (
            f"value{place}",
            rendered("value.html", **given, facts=facts, changes=_changes(view, facts)),
        )
        assumed = _assumed(view, facts["roi_range"])
        yield f"range{place}", rendered("range.html", facts=facts, assumed=assumed)
        judged = [_judged(each) for each in facts["guardrails"].values()]
        yield f"evidence{place}", rendered("evidence.html", judged=judged, facts=facts)
    yield "counts", rendered("counts.html", **given)
    yield "sample", rendered("sample.html", **given)
    yield "hints", rendered("hints.html", hints=found["hints"])


def _verbs(commands: tuple[str, ...]) -> list[str]:
    """What a person can do now that changes something, the likeliest first."""
    return [command.split()[1] for command in commands]


def _changes(view: ExperimentView, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The three parts of net business value: what changed, what it is worth, and what it comes to."""
    weights, parts = view.experiment.business_value, facts["net_business_value"]["parts"]
    told = (
        ("accuracy", "accuracy", 100, " points", weights.per_accuracy_point_pct),
        ("latency", "latency_mean_ms", 1, " ms", weights.per_latency_ms_pct),
        ("errors", "error_rate", 100, " points", weights.per_error_point_pct),
    )
    found = []
    for name, metric, scale, unit, weight in told:
        change = facts["differences"][metric]["estimate"]
        found.append(
            {
                "name": name,
                "change": words.signed(None if change is None else scale * change, 2, unit),
                "weight": words.signed(
                    weight, 2, f" % per {unit.strip().removesuffix('s') if scale == 100 else 'ms'}"
                ),
                "part": parts[name],
            }
        )
    return found


def _assumed(view: ExperimentView, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the settings assume, in the scale in which the range is told."""
    q, p0 = view.experiment.q, view.experiment.reference_precision
    if found is None or q is None:
        return None
    roi = found["scale"] == "roi"
    if roi and p0 is None:
        return None
    value = p0 * q - 1 if roi and p0 is not None else q
    floor = p0 - 1 if roi and p0 is not None else 1.0
    return {
        "value": value,
        "floor": floor,
        "text": f"{100 * value:.4g} %" if roi else f"{value:.4g}",
    }


def _judged(found: dict[str, Any]) -> dict[str, Any]:
    """A guardrail, how much of the evidence for either verdict there is, and its effect in words."""
    evidence, effect = found["evidence"], found["effect"]
    told: dict[str, Any] = {**found, "harm": None, "safe": None, "nearest": None}
    told["level"] = words.PHASES.get(found["phase"], "unknown")
    if evidence is not None:
        told["harm"] = share_of(evidence["harm"], evidence["harm_needed"])
        if evidence["safe"] is not None:
            told["safe"] = share_of(evidence["safe"], evidence["safe_needed"])
            told["nearest"] = nearest(found)[0]
    told["effect_text"] = None if effect is None else _effect(found["metric"], effect)
    return told


def _effect(metric: str, effect: dict[str, Any]) -> str:
    if effect["kind"] == "ratio":
        numbers = [words.fixed(effect[each], 2) for each in ("estimate", "lower", "upper")]
        return f"\N{MULTIPLICATION SIGN}{numbers[0]} [{numbers[1]}, {numbers[2]}]"
    numbers = [words.difference_of(metric, effect[each]) for each in ("estimate", "lower", "upper")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
