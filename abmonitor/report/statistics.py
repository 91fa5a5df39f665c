"""The statistics of a report in plain words, and what was tested at which error rate. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.progress import nearest
from abmonitor.report.content import Block, Section, Table, Text
from abmonitor.report.gather import Gathered
from abmonitor.report.words import UNKNOWN, about, evidence_told, moment, number


def statistics(given: Gathered) -> Section:
    """What decides, how often it is wrong, and how far each test is."""
    return Section(
        title="The statistics in plain words",
        blocks=(*_words(given.found), *_tests(given)),
    )


def _words(found: dict[str, Any]) -> Iterator[Block]:
    testing, level = found["testing"], found["interval"]["level"]
    yield Text(
        "Why one may look at all times. A usual test is right for one look, planned beforehand. Looked at a"
        " hundred times as data come in it alarms falsely more than one time in three instead of one in twenty,"
        " because chance gets a hundred tries. The tests here collect evidence instead (an e-value: what a bet on"
        " harm has made of its stake; where there is none it wins nothing on average). The probability that such"
        " evidence ever reaches what decides, at any look, stays below the declared error rate. So nobody has to"
        " wait for a planned end, and stopping early is no cheating."
    )
    yield Text(
        f"What a confidence sequence is. An interval like a confidence interval, but for all looks together:"
        f" of 100 experiments, about {100 * level:.0f} or more have true differences that lie inside at"
        " every moment from the beginning to the end. It is wider than an interval for one look; that is"
        " the price. Each interval holds by itself, not all numbers of this report at once."
    )
    longest, least = testing["max_duration_ms"], testing["min_duration_ms"]
    yield Text(
        f"What was tested. At most {number(100 * testing['alpha'], '.3g')} of 100 treatments whose harm is within"
        " all margins are ever rolled back by the sequential tests (alpha, shared between them as below). At"
        f" most {number(100 * testing['alpha_pass'], '.3g')} of 100 whose harm is beyond some margin ever pass."
        f" Nothing passes in the first {_span(least)}. The tests are sharpest at"
        f" {testing['planned']:,.0f} predictions a variant"
        + (f", and the experiment is meant to end after {_span(longest)}." if longest else ".")
        + " Thresholds look at a window by itself, and have no error rate."
    )
    yield Text(
        "What it assumes. Predictions (or units, where units are randomised) are assigned at random and"
        " independent of each other. Where one customer makes many predictions and units are not declared,"
        " all bounds are too narrow."
    )


def _span(ms: float) -> str:
    for unit, name in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if ms >= unit and ms % unit == 0:
            count = int(ms // unit)
            return f"{count} {name.removesuffix('s') if count == 1 else name}"
    return f"{ms / 1000:g} seconds"


def _tests(given: Gathered) -> Iterator[Block]:
    for case in given.cases():
        treatment = case.treatment
        sequential = [each for each in case.guardrails if each["test"] == "sequential"]
        others = [each for each in case.guardrails if each["test"] != "sequential"]
        if sequential:
            yield Table(
                f"Sequential tests of {treatment} (100 % of the evidence decides)",
                ("test", "alpha", "says", "evidence", "from predictions", "what it saw"),
                tuple(_row(each) for each in sequential),
                words=True,
            )
        if others:
            yield Table(
                f"Thresholds of {treatment}",
                ("threshold", "says", "at", "what it saw"),
                tuple(
                    (each["guardrail"], each["phase"], moment(each["at"]), each["reason"])
                    for each in others
                ),
                words=True,
            )
        if not case.guardrails:
            yield Text(f"{treatment} has no guardrails: nothing is tested.")


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    alpha = UNKNOWN if found["alpha"] is None else number(found["alpha"], ".3g")
    return (
        found["guardrail"],
        alpha,
        found["phase"],
        _evidence(found),
        f"{found['n']:,} against {found['n_control']:,}" if found["n"] else UNKNOWN,
        found["reason"],
    )


def _evidence(found: dict[str, Any]) -> str:
    if found["evidence"] is None:
        return UNKNOWN
    verdict, share = nearest(found)
    if not share:
        return "none yet"
    missing = found["missing"]
    more = "" if missing is None else f"; about {about(missing['predictions'])} more"
    return f"{evidence_told(share)} % of a {verdict}{more}"
