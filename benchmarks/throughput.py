"""Our worker beside a bare consumer and other frameworks, on the same topics of one Kafka, in one run.

Run: `python benchmarks/throughput.py` (needs redis-server, java and, once, mvn and PyPI). See
README.md for what is measured and how. `--latency` and `--endurance` measure something else.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import endurance
import latency
from contend import CONTENDERS, Contender, Run, quiet, run
from machine import description, middle
from rig import Rig, rig
from workload import Workload


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as many events a second our worker has to make."""

    beside: str
    least: float


GOALS = (Goal("limit", 0.5), Goal("faust", 8.0), Goal("quix", 5.0), Goal("bytewax", 1.0))

Rounds = list[dict[str, Run]]


def measure(using: Rig, events: int, rounds: int, contenders: Sequence[Contender]) -> Rounds:
    """All contenders in turn, as often as asked; raises FailedError where one counts wrongly."""
    workload = Workload(events // 2)
    with using.fresh_topics():
        print(f"producing {events:,} events", file=sys.stderr)
        asyncio.run(using.fill(workload))
        made: Rounds = []
        for number in range(1, rounds + 1):
            made.append({})
            for contender in contenders:
                quiet()
                done = made[-1][contender.name] = run(contender, using, workload, number)
                print(f"round {number}: {_told(contender, done)}", file=sys.stderr)
    return made


def _told(contender: Contender, done: Run) -> str:
    return (
        f"({contender.letter}) {contender.name:13} {done.rate:>10,.0f} events/s"
        f" {done.cpu_per_million:>7.2f} CPU s/million, others {done.others:.2f} cores; {done.notes}"
    )


def _spread(numbers: Sequence[float], form: str) -> str:
    return f"{middle(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def table(made: Rounds, contenders: Sequence[Contender]) -> str:
    """Medians over the rounds, with the least and the most."""
    lines = [
        "| | events/s | CPU s per million | Kafka's | Redis's | cores busy with others |",
        "|---|---|---|---|---|---|",
    ]
    for contender in contenders:
        runs = [each[contender.name] for each in made]
        events = runs[0].events / 1e6
        lines.append(
            f"| ({contender.letter}) {contender.title}"
            f" | {_spread([each.rate for each in runs], ',.0f')}"
            f" | {_spread([each.cpu_per_million for each in runs], '.2f')}"
            f" | {middle([each.kafka_cpu_seconds / events for each in runs]):.2f}"
            f" | {middle([each.redis_cpu_seconds / events for each in runs]):.2f}"
            f" | {_spread([each.others for each in runs], '.2f')} |"
        )
    return "\n".join(lines)


def judged(made: Rounds) -> list[dict[str, Any]]:
    """Each goal with the ratios of its rounds; runs of the same round are compared, as the machine's speed drifts."""
    told = []
    for goal in GOALS:
        if {"worker", goal.beside} - made[0].keys():
            continue
        ratios = [each["worker"].rate / each[goal.beside].rate for each in made]
        cpu = [each[goal.beside].cpu_per_million / each["worker"].cpu_per_million for each in made]
        told.append(
            {
                "beside": goal.beside,
                "least": goal.least,
                "ratio": middle(ratios),
                "ratios": ratios,
                "by_cpu": middle(cpu),
                "passed": middle(ratios) >= goal.least,
            }
        )
    return told


def _goals(made: Rounds) -> str:
    letters = {each.name: each.letter for each in CONTENDERS}
    lines = [
        "| goal | by events/s | by CPU seconds of the process | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| (b) at least {goal['least']:g} times ({letters[goal['beside']]})"
        f" | {_spread(goal['ratios'], '.2f')} | {goal['by_cpu']:.2f}"
        f" | {'pass' if goal['passed'] else 'MISS'} |"
        for goal in judged(made)
    ]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    names = [each.name for each in CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--latency", action="store_true", help="from a record's append to /metrics")
    modes.add_argument("--endurance", action="store_true", help="10,000,000 events without end")
    parser.add_argument("--events", type=int, help="how many (2,000,000; endurance 10,000,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=f"some of {','.join(names)}, with commas between")
    parser.add_argument("--rate", type=int, default=20_000, help="events a second, for --latency")
    parser.add_argument("--seconds", type=int, default=60, help="for --latency")
    parser.add_argument("--kafka", help="host:port of a broker to use instead of an own one")
    parser.add_argument(
        "--redis", help="URL of a Redis to use, and to empty, instead of an own one"
    )
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    given = parser.parse_args()
    given.chosen = names if given.only is None else given.only.split(",")
    if unknown := set(given.chosen) - set(names):
        parser.error(f"--only: unknown {', '.join(unknown)}; there are {', '.join(names)}")
    return given


def main() -> None:
    """Measure, print, and say what was reached."""
    given = _arguments()
    print(f"{description()}; load average {os.getloadavg()[0]:.2f} at the start")
    with rig(given.kafka, given.redis) as using:
        if given.latency:
            text, told = latency.report(latency.measure(using, given.rate, given.seconds))
        elif given.endurance:
            text, told = endurance.report(endurance.measure(using, given.events or 10_000_000))
        else:
            contenders = [each for each in CONTENDERS if each.name in given.chosen]
            made = measure(using, given.events or 2_000_000, given.rounds, contenders)
            text = f"{table(made, contenders)}\n\n{_goals(made)}"
            rounds = [{name: asdict(done) for name, done in each.items()} for each in made]
            told = {"rounds": rounds, "goals": judged(made)}
    print(text)
    if given.json:
        told = {"machine": description(), **told}
        given.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
