"""The demo's customers: what each model would do, and what was true. This module does I/O (a file)."""

import csv
import gzip
from importlib.resources import files
from io import TextIOWrapper
from typing import NamedTuple


class Decision(NamedTuple):
    """One model's answer for one customer."""

    score: float
    call: bool


class Offer(NamedTuple):
    """One real customer who was called, and what three models would have decided."""

    number: int
    date: str
    segment: str
    accepted: bool
    control: Decision
    good: Decision
    defect: Decision


def load_offers() -> list[Offer]:
    """All bundled customers in the order in which they were called."""
    source = files("abmonitor.demo") / "data" / "offers.csv.gz"
    with source.open("rb") as raw, gzip.open(raw) as packed:
        rows = csv.DictReader(TextIOWrapper(packed, "utf-8"))
        return [_offer(number, row) for number, row in enumerate(rows)]


def _offer(number: int, row: dict[str, str]) -> Offer:
    models = (
        Decision(float(row[f"{model}_score"]), row[model] == "1")
        for model in ("control", "good", "defect")
    )
    return Offer(number, row["date"], row["segment"], row["accepted"] == "1", *models)
