"""What goes over HTTP in and out of the API: the types that its description is made of."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from alerts.actions import Action
from alerts.book import Decision
from metrics.experiment import Name


MOST_DECISIONS = 10_000

Reason = Annotated[
    str,
    Meta(min_length=1, max_length=500, pattern=r"\S", description="Why; it is kept and shown."),
]
When = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="RFC 3339 with a zone, epoch milliseconds, or a duration such as 2h before now.",
    ),
]
Until = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="RFC 3339 with a zone, or a duration from now such as 2h; absent: until resumed.",
        examples=["2h", "2026-01-31T10:00:00Z"],
    ),
]
ExperimentName = Annotated[Name, Meta(description="An experiment.")]
Treatment = Annotated[Name, Meta(description="A treatment; absent: all of the experiment.")]


class Word(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word about a treatment, or about all."""

    reason: Reason
    treatment: Treatment | None = None


class PauseWord(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To do nothing for a while; harm is kept in mind."""

    until: Until | None = None


class RearmWord(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To try a treatment again that was rolled back."""

    force: bool = False
    """Although it is too soon, or its version was rolled back."""


class WordForAll(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word about all experiments."""

    reason: Reason


class PauseWordForAll(WordForAll, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To do nothing for a while, whatever the experiment."""

    until: Until | None = None


class Done(Struct, frozen=True, kw_only=True):
    """What became of a person's word."""

    decisions: tuple[Decision, ...]
    refused: dict[str, str]
    """Why nothing changed, by treatment; by experiment/treatment where all experiments were meant."""


class Undone(Struct, frozen=True, kw_only=True):
    """Nothing changed, or not all that was asked for."""

    error: str
    decisions: tuple[Decision, ...] = ()
    refused: dict[str, str] = {}


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused, and what to do."""

    error: str


class DecisionsWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which decisions are asked for."""

    experiment: ExperimentName | None = None
    treatment: Name | None = None
    action: Action | None = None
    since: When | None = None
    until: When | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_DECISIONS)] = 100
    """The newest so many."""


class Decisions(Struct, frozen=True, kw_only=True):
    """Decisions, oldest first."""

    decisions: tuple[Decision, ...]


class DecisionFound(Struct, frozen=True, kw_only=True):
    """A decision and what it rests on."""

    decision: Decision
    reasoning: str | None
    """Base64 of what was stored; null where nothing was."""


class NothingWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No parameters."""


class StatusWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What status is asked for."""

    experiment: ExperimentName | None = None


class PauseShown(Struct, frozen=True, kw_only=True):
    """A pause."""

    actor: str
    reason: str
    until: int | None


class GuardrailStatus(Struct, frozen=True, kw_only=True):
    """How far a guardrail is from a verdict."""

    guardrail: str
    phase: str
    reason: str
    value: float | None = None
    control: float | None = None
    bound: float | None = None
    nearest: Literal["rollback", "pass"] | None = None
    """Of a sequential test: the verdict that was reached, or is nearest."""
    evidence: float | None = None
    """The part of the evidence that this verdict needs; 1 decides."""


class AtRisk(Struct, frozen=True, kw_only=True):
    """What the treatment is estimated to lose against the control."""

    an_hour: float | None
    """(profit per prediction of the control - that of the treatment) x predictions of the treatment an
    hour, at least 0; null where that is not known, and of what is rolled back."""
    unit: Literal["unit costs", "money"]
    """Money where unit_cost is declared, else costs of one action."""
    predictions_an_hour: int | None


class TreatmentStatus(Struct, frozen=True, kw_only=True):
    """One treatment on one screen. Times are epoch milliseconds."""

    treatment: str
    state: str
    since: int | None
    epoch: int
    causes: tuple[str, ...]
    verified: bool | None
    paused: PauseShown | None
    latched: tuple[str, ...]
    """Harm that is acted on when the pause ends."""
    share: float | None
    """Of the predictions of the latest five minutes of data."""
    share_lately: float | None
    """Of the predictions of the latest minute of data."""
    intended_share: float | None
    versions: tuple[str, ...]
    """Seen lately, newest first."""
    quarantined: tuple[str, ...]
    """Versions that were rolled back."""
    guardrails: tuple[GuardrailStatus, ...]
    at_risk: AtRisk
    advice: str | None
    """What is left to do for a person, null where nothing is."""
    commands: tuple[str, ...]
    """That change something in its state, the likeliest first."""


class ExperimentStatus(Struct, frozen=True, kw_only=True):
    """One experiment on one screen."""

    name: str
    state: str
    leads: bool
    """Whether the monitor that answers judges it; else another one does."""
    control: str
    data_age_ms: int | None
    """How old the newest data is that was counted."""
    labels_final_to: int | None
    labels_stalled: bool
    dry_run: bool
    treatments: tuple[TreatmentStatus, ...]


class Status(Struct, frozen=True, kw_only=True):
    """Everything that the person on call has to know."""

    as_of: int | None
    """When the monitor last looked; null before that."""
    problem: str | None
    """Why the monitor is not ready, null when it is."""
    experiments: tuple[ExperimentStatus, ...]


class ExperimentShort(Struct, frozen=True, kw_only=True):
    """An experiment in the list of them."""

    name: str
    state: str
    control: str
    treatments: dict[str, str]
    """The state of each."""
    predictions: int
    as_of: int | None
    url: str


class Experiments(Struct, frozen=True, kw_only=True):
    """All experiments."""

    as_of: int | None
    experiments: tuple[ExperimentShort, ...]
