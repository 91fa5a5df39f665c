"""The demo as people run it: a process of its own, asked over HTTP while it runs."""

import csv
import gzip
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import pytest

from abmonitor.demo.router import Router


CUSTOMERS, REVENUE, COST = 7_500, 60, 20


@dataclass(slots=True)
class Run:
    """What one run of the demo said."""

    document: dict[str, Any]
    scrapes: list[str] = field(default_factory=list)
    """What /metrics said while it ran."""


def asked(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):  # not there yet, or not any more
        return None


@pytest.fixture(scope="module")
def demo() -> Run:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "abmonitor", "demo", "--fast", "--json", "--port", str(port)]
    scrapes: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None and len(scrapes) < 3:
            text = asked(f"http://127.0.0.1:{port}/metrics")
            scrapes += [text] if text else []
            time.sleep(0.3)
        output, _ = running.communicate()
    assert running.returncode == 0
    return Run(json.loads(output), scrapes)


def offers() -> Iterator[tuple[int, dict[str, str]]]:
    """The customers that are called, read without the demo's own code."""
    packed = (files("abmonitor.demo") / "data" / "offers.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    return zip(range(CUSTOMERS), rows, strict=False)


SEED = next(each.default for each in fields(Router) if each.name == "seed")


def treated(number: int) -> bool:
    return bool(blake2b(f"{SEED}:{number}".encode(), digest_size=8).digest()[0] & 1)


def test_it_ends_in_a_verified_rollback(demo: Run) -> None:
    found = demo.document["experiments"]["term-deposit-offers"]
    assert found["state"] == "rolled_back"
    assert found["comparisons"]["boosted-v2"]["verified"] is True
    assert demo.document["demo"]["verified"] is True
    actions = [decision["action"] for decision in found["decisions"]]
    assert actions[actions.index("rollback") :] == ["rollback", "accepted", "rolled_back"]
    assert (
        demo.document["demo"]["reasons"] == found["decisions"][actions.index("rollback")]["reasons"]
    )


def test_its_numbers_follow_from_the_offers_and_the_assignment(demo: Run) -> None:
    story = demo.document["demo"]
    begins, ends = story["defect_at_customer"], story["rolled_back_at_customer"]
    assert begins == 3_000 < ends < 4_500
    counts = {variant: dict.fromkeys(("tp", "fp", "tn", "fn"), 0) for variant in ("a", "b")}
    lost = whole = bad = 0
    for number, row in offers():
        broken, accepted = number >= begins, row["accepted"] == "1"
        model = "control"
        if treated(number):
            model = "defect" if broken else "good"
            worth = REVENUE * accepted - COST
            loss = worth * (row["control"] == "1") - worth * (row["defect"] == "1")
            whole += loss * broken
            lost += loss * (begins <= number < ends)
            bad += begins <= number < ends
        called = row["control" if number >= ends else model] == "1"
        cell = ("t" if called == accepted else "f") + ("p" if called else "n")
        counts["b" if treated(number) and number < ends else "a"][cell] += 1
    variants = demo.document["experiments"]["term-deposit-offers"]["variants"]
    assert variants["rule-v1"]["counts"] == variants["rule-v1"]["mature_counts"] == counts["a"]
    assert (
        variants["boosted-v2"]["counts"] == variants["boosted-v2"]["mature_counts"] == counts["b"]
    )
    assert (story["lost"], story["would_have_been_lost"]) == (lost, whole)
    assert story["saved"] == whole - lost > 0
    assert (story["bad_predictions"], story["customers"]) == (bad, CUSTOMERS)


def test_every_event_was_accepted(demo: Run) -> None:
    events = demo.document["events"]
    assert (events["predictions"], events["outcomes"]) == (CUSTOMERS, CUSTOMERS)
    assert events["accepted"] == 2 * CUSTOMERS
    others = ("duplicate", "late", "rejected", "ignored", "unmatched")
    assert not any(events[name] for name in others)


def test_metrics_could_be_scraped_while_it_ran(demo: Run) -> None:
    assert demo.scrapes
    assert all("# TYPE abmonitor_predictions_total counter" in text for text in demo.scrapes)
    assert any(
        'abmonitor_treatment_state{experiment="term-deposit-offers"' in t for t in demo.scrapes
    )
