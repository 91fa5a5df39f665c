"""The record at the end of a report: variants, decisions, settings and software. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abmonitor.report.content import Section, Table, Text
from abmonitor.report.figures import ms, percent, ratio, told
from abmonitor.report.gather import Gathered
from abmonitor.report.words import UNKNOWN, moment, stamp
from metrics.duration import Duration


_METRICS = {
    "rap": ratio,
    "profit_per_prediction": ratio,
    "roi": percent,
    "precision": percent,
    "recall": percent,
    "specificity": percent,
    "accuracy": percent,
    "f_score": ratio,
    "selection_rate": percent,
    "error_rate": percent,
    "slow_rate": percent,
    "money_per_prediction": ratio,
    "latency_mean_ms": ms,
    "latency_p50_ms": ms,
    "latency_p95_ms": ms,
    "latency_p99_ms": ms,
}


def record(given: Gathered, version: str) -> Iterator[Section]:
    """What was counted, decided and declared, and what wrote this."""
    yield Section(title="Variants", blocks=tuple(_variants(given.found)))
    yield Section(title="Decisions", blocks=tuple(_decisions(given.found)))
    yield Section(title="Settings", blocks=tuple(_settings(given.found)))
    yield Section(title="Software", blocks=tuple(_software(given, version)))


def _variants(found: dict[str, Any]) -> Iterator[Table]:
    variants = found["variants"]
    rows = [
        ("predictions", *(f"{each['predictions']:,}" for each in variants.values())),
        ("acted on", *(f"{each['acted']:,}" for each in variants.values())),
        ("failed", *(f"{each['errors']:,}" for each in variants.values())),
        ("with an outcome", *(f"{_labelled(each):,}" for each in variants.values())),
        ("with a final label", *(f"{each['mature_predictions']:,}" for each in variants.values())),
    ]
    cells = {
        "tp": "acted on, rightly (TP)",
        "fp": "acted on, wrongly (FP)",
        "tn": "left alone, rightly (TN)",
        "fn": "left alone, wrongly (FN)",
    }
    for cell, name in cells.items():
        rows.append((name, *(f"{each['mature_counts'][cell]:,}" for each in variants.values())))
    yield Table("Counts since the beginning; cells of final labels", ("", *variants), tuple(rows))
    shown = [
        (name.replace("_", " "), *(show(each["metrics"].get(name)) for each in variants.values()))
        for name, show in _METRICS.items()
    ]
    caption = "Metrics since the beginning; what needs labels from those that are final"
    yield Table(caption, ("", *variants), tuple(shown))


def _labelled(facts: Mapping[str, int]) -> int:
    return facts["predictions"] - facts["unlabelled"]


def _decisions(found: dict[str, Any]) -> Iterator[Table | Text]:
    decisions = found["decisions"]
    if not decisions:
        yield Text("None were made.")
        return
    rows = tuple(
        (
            stamp(each["at"]),
            each["treatment"],
            f"{each['action'].replace('_', ' ')} ({each['before']} to {each['state']})",
            each["actor"],
            "; ".join(each["reasons"]) or UNKNOWN,
        )
        for each in decisions
    )
    columns = ("at (UTC)", "treatment", "what", "who", "why")
    yield Table(f"{len(decisions):,} decisions, oldest first", columns, rows, words=True)
    last = decisions[-1].get("hash")
    if last:
        yield Text(
            "Decisions are chained by hashes, so that none can be changed or taken out unnoticed. The hash of the"
            f" newest is {last}; abmonitor explain recomputes a decision from what was stored with it."
        )


_DURATIONS = frozenset(
    {
        "horizon",
        "grace",
        "cohort",
        "late_for",
        "min_duration",
        "max_duration",
        "silence",
        "deadline",
        "drain",
        "verify_for",
        "escalate_after",
        "cool_down",
        "window",
        "every",
        "warm_up",
        "landmark",
    }
)


def _settings(found: dict[str, Any]) -> Iterator[Table | Text]:
    declared = found.get("declared")
    if not declared:
        yield Text("The source does not hold the settings: it was written by an older version.")
        return
    plain = {name: value for name, value in declared.items() if name != "guardrails"}
    rows = tuple(_flat(plain))
    yield Table(
        "As declared, with defaults; secrets are not shown", ("setting", ""), rows, words=True
    )
    for each in declared.get("guardrails") or ():
        given = tuple(_flat({name: value for name, value in each.items() if name != "name"}))
        yield Table(f"Guardrail {each['name']}", ("setting", ""), given, words=True)


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names; what is not declared is left out."""
    for name, value in found.items():
        if value is None or value in ([], {}):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{before}{name}", "; ".join(_item(name, each) for each in value)
        else:
            yield f"{before}{name}", _value(name, value)


def _item(name: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        durations = name in {"windows", "landmarks"}
        return str(Duration(value)) if durations else told(value)
    return ", ".join(
        f"{key} {moment(each) if key == 'at' else dict(each) if isinstance(each, Mapping) else told(each)}"
        for key, each in value.items()
    )


def _value(name: str, value: Any) -> str:
    return str(Duration(value)) if name in _DURATIONS and isinstance(value, int) else told(value)


def _software(given: Gathered, version: str) -> Iterator[Table]:
    hashes = dict.fromkeys(each["settings"] for each in given.found["decisions"])
    fingerprint = (given.found.get("declared") or {}).get("fingerprint")
    rows = [
        ("written by", f"abmonitor {version}"),
        ("from", given.source),
        ("data as of", moment(given.found["as_of"])),
        ("settings (hash)", fingerprint or UNKNOWN),
        ("settings that decisions were made with (hashes)", ", ".join(hashes) or UNKNOWN),
    ]
    yield Table("What wrote this", ("", ""), tuple(rows), words=True)
