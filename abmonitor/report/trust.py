"""Whether the data can be trusted: what is wrong with it, the worst first. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.report.case import LEVELS, Answer, Case
from abmonitor.report.words import moment, number, span
from alerts.causes import word_of
from metrics.experiment import MINUTE


OLD = 2 * MINUTE
"""Data older than this is stale, as the monitor holds it to be."""


UNEVEN = 0.02
"""Shares of missing labels that differ by more than this may make the difference that is seen."""

UNUSED = 0.01
"""A larger part of all outcomes and predictions than this is told when it was not used."""


def trusted(case: Case, events: dict[str, Any] | None = None) -> Answer:
    """The worst that is known of the data with everything else that is, or what was looked at.

    `events`: what became of all events, None where the source does not say (see `document.events`).
    """
    found = (*_problems(case), *_unused(events or {}))
    problems = sorted(found, key=lambda each: LEVELS.index(each.level))
    if not problems:
        return Answer(level="good", text=f"Yes: {_good(case)}.")
    worst = problems[0].level
    opening = {"bad": "No", "watch": "With care", "unknown": "Not all of it is known"}[worst]
    told = "; ".join(each.text for each in problems)
    return Answer(level=worst, text=f"{opening}: {told}.")


def _problems(case: Case) -> Iterator[Answer]:
    yield from _arrived(case)
    yield from _split(case)
    yield from _complete(case)
    yield from _held(case)
    yield from _left_out(case)
    both = (case.treatment, case.found["control"])
    if not all(case.found["variants"][name]["mature_predictions"] for name in both):
        yield Answer(level="unknown", text="no label of both variants is final yet")
    hints = case.found["hints"] or ()
    if hints:
        more = f" and {len(hints) - 1} more" * (len(hints) > 1)
        yield Answer(level="watch", text=f"drift: {hints[0]['sentence'].rstrip('.')}{more}")


def _arrived(case: Case) -> Iterator[Answer]:
    as_of = case.found["as_of"]
    if as_of is None:
        yield Answer(level="unknown", text="no data has arrived yet")
    elif case.now is not None and case.now - as_of > OLD:
        yield Answer(level="bad", text=f"the newest data is {span(case.now - as_of)} old")


def _split(case: Case) -> Iterator[Answer]:
    """Whether variants got what they were meant to get: else they are not comparable."""
    found = case.facts["sample_ratio"]
    p_value, what = found["p_value"], found["counted"]
    counts = " : ".join(f"{count:,}" for count in found["counts"].values())
    if found["mixed"]:
        yield Answer(level="bad", text=f"{found['crossed']:,} units were seen in two variants")
    elif found["mismatched"] or (p_value is not None and p_value < found["limit"]):
        p = "" if p_value is None else f", p = {number(p_value, '.2g')}"
        yield Answer(level="bad", text=f"the split is not the intended one ({counts} {what}{p})")
    elif found["unitless"]:
        text = f"the split cannot be checked, {found['unitless']:,} predictions name no unit"
        yield Answer(level="unknown", text=text)
    elif p_value is None and case.state not in {"rolled_back", "ended"}:
        yield Answer(level="unknown", text="the split cannot be checked at the moment")


def _complete(case: Case) -> Iterator[Answer]:
    since, causes = case.found["complete_since"], case.facts["causes"]
    if "state_incomplete" in map(word_of, causes):
        return  # told with what it is held for
    if since is not None:
        yield Answer(level="watch", text=f"what arrived before {moment(since)} was lost in part")


def _held(case: Case) -> Iterator[Answer]:
    """What it is held for, so far as it is about data."""
    about_split = {"sample_ratio", "units_mixed"}
    for cause in case.facts["causes"] if case.state == "hold" else ():
        word = word_of(cause)
        if word not in {"other", "braked", "max_duration", "quarantined", *about_split}:
            yield Answer(level="bad", text=cause)


def _left_out(case: Case) -> Iterator[Answer]:
    """Labels that are missing more often of one variant: what is left out of it may be what is bad."""
    labels = case.declared.get("labels") or {}
    if labels.get("when_missing") != "exclude" or labels.get("observed") != "all":
        return
    both = (case.treatment, case.found["control"])
    found = [(_unlabelled(case.found["variants"][name]), name) for name in both]
    shares = [share for share, _ in found if share is not None]
    if len(shares) == len(both) and max(shares) - min(shares) > UNEVEN:
        told = " and ".join(f"{100 * (share or 0.0):.1f} % of {name}" for share, name in found)
        text = f"labels are missing unevenly, and left out: {told}"
        yield Answer(level="bad", text=text)


def _unlabelled(facts: dict[str, Any]) -> float | None:
    """The part of the predictions that can have a label, and whose time for it is over, that have none.

    Failed predictions have no cell; their part of what is final is taken to be that of everything.
    """
    final, cells = facts["mature_predictions"], sum(facts["mature_counts"].values())
    if not final:
        return None
    served = final * (1 - facts["errors"] / facts["predictions"])
    return max(0.0, 1 - cells / served) if served else None


def _unused(events: dict[str, Any]) -> Iterator[Answer]:
    """Events that were sent and are in no number."""
    lost = {name: events.get(name) or 0 for name in ("late", "unmatched", "rejected")}
    whole = sum(lost.values()) + (events.get("accepted") or 0)
    if whole and sum(lost.values()) / whole > UNUSED:
        told = ", ".join(f"{count:,} {name}" for name, count in lost.items() if count)
        yield Answer(level="watch", text=f"of {whole:,} events some were not used: {told}")


def _good(case: Case) -> str:
    """What was looked at, with its numbers."""
    found, ratio = case.found, case.facts["sample_ratio"]
    parts = []
    if case.now is not None:
        parts.append(f"the newest data is {span(max(0, case.now - found['as_of']))} old")
    if ratio["p_value"] is not None:
        counts = " : ".join(f"{count:,}" for count in ratio["counts"].values())
        p = number(ratio["p_value"], ".2g")
        parts.append(f"the split is as intended ({counts} {ratio['counted']}, p = {p})")
    else:
        parts.append(_then(case))
    parts.append(f"labels are final to {moment(found['labels_final_to'], case.today)}")
    parts.append("no event before the newest is missing from the state")
    return ", ".join(parts)


def _then(case: Case) -> str:
    """The split that a rollback rested on, of a treatment that gets no traffic any more."""
    phase = (case.decision or {}).get("phase")
    if not phase:
        return "it gets no traffic, so that there is no split to check"
    names = (case.treatment, case.found["control"])
    counts = " : ".join(f"{phase['counts'].get(name, 0):,}" for name in names)
    split = " : ".join(f"{phase['split'].get(name, 0.0):g}" for name in names)
    return f"until it was switched off the split was {counts} for {split} intended"
