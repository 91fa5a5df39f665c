"""The case of one treatment: what is asked again and again of the document of an experiment. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from abmonitor.progress import nearest, share_of
from abmonitor.report.words import about, gap, headline, moment
from alerts.health import STRAYS, HoldOptions
from metrics.duration import Duration


Level = Literal["good", "watch", "bad", "unknown"]
LEVELS: tuple[Level, ...] = ("bad", "watch", "unknown", "good")
"""Worst first; what is not known is never good."""

ROLLBACKS = frozenset({"rollback", "would_roll_back"})
OFF = frozenset({"rolling_back", "verifying", "rolled_back", "rollback_failed", "would_roll_back"})
"""States after harm was acted on, or would have been."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One plain sentence with its numbers."""

    level: Level
    text: str


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """How far the evidence of a sequential guardrail is."""

    name: str
    metric: str
    phase: str
    verdict: str
    """The one that was reached or is nearest: rollback or pass."""
    share: float
    """The part of the evidence that this verdict takes; 1 decides."""
    harm: float | None
    """The part of the evidence that a rollback takes; None before there is any."""
    safe: float | None
    """The part of the evidence that a pass takes; None where it cannot be known."""
    missing: int | None
    """Predictions of the treatment until a verdict, if all goes on as it has."""


@dataclass(frozen=True, slots=True)
class Case:
    """One treatment of an experiment, as its document tells it."""

    found: dict[str, Any]
    """The document of the experiment."""
    treatment: str
    now: int | None = None
    """Epoch ms; None where there is no clock, as in a replay."""
    dated: bool = False
    """Whether moments of today are told with their date, too: for what is read later."""

    @property
    def facts(self) -> dict[str, Any]:
        """The comparison of the treatment with the control; raises KeyError where there is none."""
        facts: dict[str, Any] = self.found["comparisons"][self.treatment]
        return facts

    @property
    def state(self) -> str:
        """Where it stands."""
        return str(self.facts["state"])

    @property
    def metric(self) -> str | None:
        """The metric by which it is told to be better or worse; None while none is known."""
        return headline(self.facts["differences"])

    @property
    def gap(self) -> str | None:
        """How far it is from the control; None while that is not known."""
        metric = self.metric
        if metric is None:
            return None
        past = self.state in OFF - {"would_roll_back"}
        return gap(metric, self.facts["differences"][metric], past=past)

    @property
    def behind(self) -> bool:
        """Whether it is worse than the control with all that its bounds allow for, tolerated or not."""
        metric = self.metric
        upper = None if metric is None else self.facts["differences"][metric]["upper"]
        return upper is not None and upper < 0

    @property
    def watched(self) -> bool:
        """Whether a sequential test looks at the metric by which it is told to be better or worse."""
        return any(
            each["test"] == "sequential" and each["metric"] == self.metric
            for each in self.guardrails
        )

    @property
    def more(self) -> str | None:
        """How many more predictions a verdict takes: the test that needs most sets the pace."""
        undecided = [each for each in self.tested if each.phase == "inconclusive"]
        waits = [each.missing for each in undecided if each.missing is not None]
        if not waits:
            return None
        least = "about" if len(waits) == len(undecided) else "at least"
        return f"{least} {about(max(waits))} more predictions"

    @property
    def guardrails(self) -> list[dict[str, Any]]:
        """All guardrails, as they were last judged."""
        return list(self.facts["guardrails"].values())

    @property
    def failing(self) -> list[dict[str, Any]]:
        """Guardrails that fail."""
        return [found for found in self.guardrails if found["phase"] == "fail"]

    @property
    def tested(self) -> tuple[Tested, ...]:
        """Sequential guardrails whose evidence is known."""
        return tuple(self._tested())

    def _tested(self) -> Iterator[Tested]:
        for found in self.guardrails:
            evidence = found["evidence"]
            if found["test"] != "sequential" or evidence is None:
                continue
            verdict, share = nearest(found)
            if evidence["harm"] is None and evidence["safe"] is None:
                continue
            harm, safe = (
                None
                if evidence[side] is None
                else share_of(evidence[side], evidence[f"{side}_needed"])
                for side in ("harm", "safe")
            )
            missing = found["missing"]
            yield Tested(
                name=found["guardrail"],
                metric=found["metric"],
                phase=found["phase"],
                verdict=verdict,
                share=share,
                harm=harm,
                safe=safe,
                missing=None if missing is None else missing["predictions"],
            )

    @property
    def untold(self) -> tuple[str, ...]:
        """Metrics of sequential guardrails of which it is not known how near a pass is."""
        known = {each.name for each in self.tested if each.safe is not None}
        return tuple(
            found["metric"]
            for found in self.guardrails
            if found["test"] == "sequential" and found["guardrail"] not in known
        )

    @property
    def decision(self) -> dict[str, Any] | None:
        """The rollback of its present life; None where there is none among the decisions shown."""
        return self.last(*ROLLBACKS)

    def last(self, *actions: str) -> dict[str, Any] | None:
        """The newest decision of the present life that did one of `actions`."""
        for found in reversed(self.found["decisions"]):
            ours = found["treatment"] == self.treatment and found["epoch"] == self.facts["epoch"]
            if ours and found["action"] in actions:
                decision: dict[str, Any] = found
                return decision
        return None

    @property
    def still(self) -> str | None:
        """How much of the newest traffic it got all the same once it was rolled back.

        None where that is none or only strays, where its traffic was seen to go, and where no window lies
        wholly after the rollback and the time that traffic takes to drain.
        """
        decision, as_of, hold = self.decision, self.found["as_of"], self._hold
        if decision is None or as_of is None or self.facts["verified"]:
            return None
        variants = self.found["variants"]
        for width in sorted(map(Duration.parse, variants[self.treatment]["windows"])):
            came = {
                name: each["windows"][str(width)]["predictions"] for name, each in variants.items()
            }
            if as_of - width < decision["at"] + hold.drain:
                return None
            if whole := sum(came.values()):
                ours = came[self.treatment]
                told = f"{ours:,} of the {whole:,} predictions of the latest {width}"
                return told if ours > max(STRAYS, hold.leftover * whole) else None
        return None

    @property
    def _hold(self) -> HoldOptions:
        """What counts as no traffic, and from when on; as by default where the settings are not told."""
        declared = self.declared.get("hold") or {}
        told = {name: declared[name] for name in ("drain", "leftover") if name in declared}
        return msgspec.structs.replace(HoldOptions(), **told)

    @property
    def today(self) -> int | None:
        """The moment whose day need not be named; None where every day has to be."""
        return None if self.dated else self.now

    def at(self, when: int | None) -> str:
        """A moment of this case with the word before it; without the date where that is today's."""
        told = moment(when, self.today)
        return f"at {told}" if len(told) == len("00:00 UTC") else f"on {told}"

    @property
    def declared(self) -> dict[str, Any]:
        """What its settings declare (see `declared.declared`); empty where the document does not say."""
        return self.found.get("declared") or {}

    @property
    def dry_run(self) -> bool:
        """Whether nothing is carried out, as far as that can be told from the document."""
        said = (self.declared.get("on_breach") or {}).get("dry_run")
        return bool(said) or self.state == "would_roll_back"
