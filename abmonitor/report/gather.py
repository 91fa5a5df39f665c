"""Gathers what a report is written from: a replay's JSON, or a running monitor. Does I/O (files, HTTP)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from abmonitor.answers import Answers, answers
from abmonitor.api_client import ApiClient, ApiError, segment
from abmonitor.api_types import MOST_DECISIONS
from abmonitor.report.case import Case


_NEEDED = (
    *("control", "as_of", "labels_final_to", "complete_since", "decisions", "variants"),
    *("comparisons", "interval", "testing", "phase", "past_phases", "hints"),
)
"""What a report reads of the document of an experiment."""

_OF_TREATMENTS = (
    *("state", "since", "epoch", "causes", "verified", "paused", "differences"),
    *("net_business_value", "recommendation", "roi_range", "sample_ratio", "guardrails"),
)
"""What it reads of each comparison."""


class GatherError(Exception):
    """There is nothing to report on; says why and what to do."""

    def __init__(self, message: str, *, wrong_call: bool = True) -> None:
        """`wrong_call`: whether the caller has to change something, and not the world."""
        super().__init__(message)
        self.wrong_call = wrong_call


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one experiment."""

    name: str
    found: dict[str, Any]
    """Its document (see `document.experiment`), with all decisions."""
    source: str
    """Where it comes from, for people."""
    series: dict[str, Any] | None = None
    """Its lines over time; None where the source has none."""
    events: dict[str, Any] | None = None
    """What became of all events of the source, not only of this experiment; None where it does not say."""
    now: int | None = None
    """The monitor's clock (epoch ms); None of a replay."""
    problem: str | None = None
    """Why the monitor cannot be relied on; None when it can, and of a replay."""

    def cases(self) -> Iterator[Case]:
        """Its treatments, in their order; with dates, for reports are read later."""
        for treatment in self.found["comparisons"]:
            yield Case(self.found, treatment, self.now, dated=True)

    def answers(self, case: Case) -> Answers:
        """On-call's answers about one of them."""
        return answers(
            self.found,
            case.treatment,
            now=self.now,
            problem=self.problem,
            dated=case.dated,
            events=self.events,
        )


def from_file(path: Path, name: str) -> Gathered:
    """What the JSON of `abmonitor replay --json` at `path` knows of the experiment `name`.

    Raises GatherError.
    """
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise GatherError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GatherError(f"{path}: not JSON: {error}; {_WANTED}") from None
    experiments = document.get("experiments") if isinstance(document, dict) else None
    if not isinstance(experiments, dict):
        raise GatherError(f"{path}: no replay's document, it has no `experiments`; {_WANTED}")
    if name not in experiments:
        known = ", ".join(experiments) or "none"
        raise GatherError(f"{path} has no experiment {name!r}; it has {known}")
    found = _checked(experiments[name], str(path))
    return Gathered(
        name=name,
        found=found,
        source=f"the replay in {path.name}",
        series=found.get("series"),
        events=document.get("events"),
    )


_WANTED = "expected what `abmonitor replay FILE... --json` prints"


def _checked(found: Any, source: str) -> dict[str, Any]:
    """A document that has what a report needs; raises GatherError where it has not."""
    missing = _missing(found, _NEEDED)
    if not missing and isinstance(found["comparisons"], dict):
        for each in found["comparisons"].values():
            missing = missing or _missing(each, _OF_TREATMENTS)
    if missing:
        raise GatherError(
            f"{source}: the experiment's document has no {', '.join(missing)}; it was not written by"
            " `abmonitor replay --json` of this version: replay the events again"
        )
    checked: dict[str, Any] = found
    return checked


def _missing(found: Any, needed: Sequence[str]) -> list[str]:
    return [key for key in needed if not isinstance(found, dict) or key not in found]


def from_monitor(client: ApiClient, url: str, name: str) -> Gathered:
    """What a running monitor knows of the experiment `name`. Raises GatherError."""
    base = f"/api/v1/experiments/{segment(name)}"
    try:
        found = _checked(client.get(base), url)
        status = client.get("/api/v1/status", experiment=name)
        decided = client.get("/api/v1/decisions", experiment=name, limit=MOST_DECISIONS)
        series = _maybe(client, f"{base}/series")
    except ApiError as error:
        raise GatherError(str(error), wrong_call=error.wrong_call) from None
    return Gathered(
        name=name,
        found={**found, "decisions": decided.get("decisions") or found["decisions"]},
        source=f"the monitor at {url}",
        series=series,
        now=status.get("as_of"),
        problem=status.get("problem"),
    )


def _maybe(client: ApiClient, path: str) -> dict[str, Any] | None:
    """A document that monitors of older versions do not have. Raises ApiError for other reasons."""
    try:
        return client.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
