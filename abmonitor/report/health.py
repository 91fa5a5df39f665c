"""The health of the data that a report rests on, check by check. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.report.case import Case
from abmonitor.report.content import Block, Cards, Section, Table, Text
from abmonitor.report.figures import share
from abmonitor.report.gather import Gathered
from abmonitor.report.words import UNKNOWN, moment, number, span


Row = tuple[str, str, str]
"""What was looked at, what was found, and what that means."""


def health(given: Gathered) -> Section:
    """Everything that is known of the data."""
    rows = (*_time(given), *_split(given), *_labels(given), *_events(given), *_complete(given))
    cards = [(case.treatment, given.answers(case).trust) for case in given.cases()]
    blocks: list[Block] = [
        Cards(tuple(cards)),
        Table("What was looked at", ("", "found", "what it means"), rows, words=True),
        *_hints(given.found),
    ]
    return Section(title="The health of the data", blocks=tuple(blocks))


def _time(given: Gathered) -> Iterator[Row]:
    found = given.found
    as_of, now = found["as_of"], given.now
    if as_of is None:
        yield "newest data", UNKNOWN, "nothing has arrived"
    else:
        age = "a replay has no clock" if now is None else f"{span(max(0, now - as_of))} old"
        yield "newest data", moment(as_of), age
    yield (
        "labels are final to",
        moment(found["labels_final_to"]),
        "what arrived later is in no number that needs labels",
    )


def _split(given: Gathered) -> Iterator[Row]:
    for case in given.cases():
        yield (f"split now, {case.treatment}", *_ratio(case.facts["sample_ratio"]))
        decision = case.decision
        if decision is not None and decision.get("phase"):
            yield (f"split when it was rolled back, {case.treatment}", *_then(case, decision))


def _ratio(found: dict[str, Any]) -> tuple[str, str]:
    counts = _against(found["counts"], found["split"], found["counted"])
    p_value, limit = found["p_value"], found["limit"]
    if found["mixed"]:
        return f"{found['crossed']:,} units in two variants", "variants are not comparable"
    if found["unitless"]:
        told = f"{found['unitless']:,} predictions name no unit"
        return told, "whether the split is as intended cannot be known"
    if p_value is None:
        return counts, "not checked: one of them is meant to get no traffic, or none can be told"
    p = f"p = {number(p_value, '.2g')}, limit {number(limit, '.2g')}"
    if found["mismatched"] or p_value < limit:
        return (
            f"{counts}; {p}",
            "NOT as intended (sample ratio mismatch): do not compare the variants",
        )
    return f"{counts}; {p}", "as intended; the check may be looked at all the time"


def _against(counts: dict[str, int], split: dict[str, float], counted: str) -> str:
    whole = sum(split.values())
    parts = [
        f"{name} {count:,} (intended {100 * split.get(name, 0.0) / whole:.3g} %)"
        if whole
        else f"{name} {count:,}"
        for name, count in counts.items()
    ]
    return f"{', '.join(parts)} {counted}"


def _then(case: Case, decision: dict[str, Any]) -> tuple[str, str]:
    phase = decision["phase"]
    both = {name: phase["counts"].get(name, 0) for name in (case.treatment, case.found["control"])}
    split = {name: phase["split"].get(name, 0.0) for name in both}
    told = _against(both, split, case.found["phase"].get("counted", "predictions"))
    return told, f"what the decision rested on; the phase began {moment(phase['since'])}"


def _labels(given: Gathered) -> Iterator[Row]:
    for name, facts in given.found["variants"].items():
        came, without = facts["predictions"], facts["unlabelled"]
        final = facts["mature_predictions"]
        yield (
            f"labels of {name}",
            (
                f"{came - without:,} of {came:,} predictions have an outcome ({share(came - without, came)});"
                f" the time of {final:,} is over"
            ),
            _missing(given),
        )


def _missing(given: Gathered) -> str:
    labels = (given.found.get("declared") or {}).get("labels") or {}
    means = {
        "negative": "one that is still missing when its time is over counts as negative",
        "exclude": "one that is still missing when its time is over is left out",
    }
    told = means.get(labels.get("when_missing", ""), "how missing ones count is not known")
    if labels.get("observed") == "acted":
        return f"only predictions that were acted on get one; {told}"
    return told


def _events(given: Gathered) -> Iterator[Row]:
    found = given.events
    if found is None:
        yield (
            "events that were not used",
            UNKNOWN,
            "a monitor tells late, rejected and unmatched events at /metrics (abmonitor_events_total)",
        )
        return
    seen = found["predictions"] + found["outcomes"]
    meanings = {
        "late": "outcomes that came too late to count",
        "unmatched": "outcomes without a prediction",
        "duplicate": "told again, counted once",
        "rejected": _rejected(found),
        "ignored": "of experiments that are not configured",
    }
    for name, meaning in meanings.items():
        yield f"{name} events", f"{found[name]:,} beside {seen:,} that were used", meaning


def _rejected(found: dict[str, Any]) -> str:
    reasons = found.get("rejected_by_reason") or {}
    told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return "dead letters" + (f": {told}" if told else ": none")


def _complete(given: Gathered) -> Iterator[Row]:
    since = given.found["complete_since"]
    if since is None:
        yield "state", "complete", "every event since the beginning is counted, once"
    else:
        meaning = "what arrived earlier was no longer in the log, and is counted only in part"
        yield "state", f"complete since {moment(since)}", meaning


def _hints(found: dict[str, Any]) -> Iterator[Block]:
    hints = found["hints"]
    if hints is None:
        yield Text("Drift was not looked for.")
    elif not hints:
        yield Text("Drift was looked for, and no hint of it found.")
    else:
        rows = tuple((str(number_), each["sentence"]) for number_, each in enumerate(hints, 1))
        caption = "Hints of drift (without an error guarantee)"
        yield Table(caption, ("", "hint"), rows, words=True)
