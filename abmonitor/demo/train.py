"""Train the demo's models on the earlier offers; write what each decides about every later one.

The data are 45,211 real telephone offers of a term deposit (UCI Bank Marketing, see
``data/README.md``), in order of time. Every customer was called, so that the truth is known for
every decision that a model could have taken: nothing here is simulated.

Three columns of scores come out:

``control``  the incumbent, a rule: call whom an earlier campaign has sold to. Scores are 1 and 0.
``good``     gradient boosting on all columns and on the pace of the campaign.
``defect``   the good model itself, served with a stale table: the two columns with the pace stay
             as they were on the last day of training, a quiet one. The model takes every mass
             campaign for a hand-picked one and offers to nearly everybody.

All three offer when a call is expected to pay: score > cost / revenue.

Run ``python abmonitor/demo/train.py``. It needs numpy and scikit-learn, which the demo does not.
"""

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier


DATA = Path(__file__).resolve().parent / "data"

UNIT_COST = 20.0  # euros: the agent's time for one offer, some three attempts to reach the customer
UNIT_REVENUE = 60.0  # euros: what an accepted deposit brings in
FIRST_YEAR = 2008  # the file gives day and month only
SPLIT = date(2009, 4, 1)  # models learn from the offers before this day
SEED = 20090401

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CATEGORIES = (
    "job",
    "marital",
    "education",
    "default",
    "housing",
    "loan",
    "contact",
    "poutcome",
)
# Not `duration`, which is known only after the call and gives the answer away; not `day` and
# `month`, of which less than a year is there to learn from.
NUMBERS = ("age", "balance", "campaign", "pdays", "previous")
PACE_DAYS = (1, 5)  # offers made on the last day with offers, and on the last five of them

Row = dict[str, str]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Model(NamedTuple):
    """What one model says of the later customers, in their order."""

    name: str
    scores: Floats  # (n,), between 0 and 1, three decimals
    decisions: Bools  # (n,), whether it offers


def read_rows(path: Path) -> list[Row]:
    """Return the raw offers in the order of the file, which is the order of time."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=";"))


def infer_dates(rows: Sequence[Mapping[str, str]]) -> list[date]:
    """Return the day of each offer; a month earlier than the one before begins a new year.

    Raises:
        ValueError: a month's name is unknown, or the days are not in order.

    """
    dates: list[date] = []
    year, last_month = FIRST_YEAR, 0
    for row in rows:
        month = MONTHS.index(row["month"]) + 1
        year += month < last_month
        last_month = month
        dates.append(date(year, month, int(row["day"])))
    if dates != sorted(dates):
        raise ValueError("offers are not in order of time, from which their year is inferred")
    return dates


def pace(dates: Sequence[date]) -> Floats:
    """Return (n, 2) counts: the offers made on the last 1 and 5 days with offers before each.

    Known before the call, and the strongest sign of what kind of campaign is under way: the bank
    called thousands in its mass campaigns, of whom few accepted, and dozens in between, of whom
    half did.
    """
    sizes = [len(list(group)) for _, group in groupby(dates)]
    sums = np.concatenate([[0.0], np.cumsum(sizes)])
    days = np.repeat(np.arange(len(sizes)), sizes)
    return np.column_stack([sums[days] - sums[np.maximum(days - k, 0)] for k in PACE_DAYS])


def features(rows: Sequence[Mapping[str, str]], dates: Sequence[date]) -> Floats:
    """Return (n, features): categories as codes in alphabetical order, numbers, pace (last)."""
    columns: list[Floats] = []
    for name in CATEGORIES:
        _, codes = np.unique([row[name] for row in rows], return_inverse=True)
        columns.append(codes.astype(np.float64))
    columns.extend(np.array([float(row[name]) for row in rows]) for name in NUMBERS)
    return np.column_stack([*columns, pace(dates)])


def with_stale_pace(later: Floats, last_trained: Floats) -> Floats:
    """Return a copy of the later features whose pace is that of the last day of training."""
    stale = later.copy()
    stale[:, -len(PACE_DAYS) :] = last_trained[-len(PACE_DAYS) :]
    return stale


def control_scores(rows: Sequence[Mapping[str, str]]) -> Floats:
    """Return 1 for each customer whom an earlier campaign has sold to, otherwise 0."""
    return np.array([float(row["poutcome"] == "success") for row in rows])


def train(table: Floats, accepted: Bools) -> HistGradientBoostingClassifier:
    """Return the good model, fitted to (n, features) and n truths."""
    model = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=120,
        max_depth=4,
        min_samples_leaf=40,
        l2_regularization=1.0,
        early_stopping=False,  # its validation rows would be drawn at random over time
        categorical_features=list(range(len(CATEGORIES))),
        random_state=SEED,
    )
    return model.fit(table, accepted)


def decide(name: str, scores: Floats) -> Model:
    """Return the decisions that follow from scores as they are written: with three decimals."""
    rounded = np.round(scores, 3)
    return Model(name, rounded, rounded > UNIT_COST / UNIT_REVENUE)


def build_models(rows: Sequence[Row], dates: Sequence[date], accepted: Bools) -> list[Model]:
    """Trains before the split and returns what control, good and defect say after it."""
    split = sum(day < SPLIT for day in dates)
    table = features(rows, dates)
    classifier = train(table[:split], accepted[:split])
    later = table[split:]
    stale = with_stale_pace(later, table[split - 1])
    return [
        decide("control", control_scores(rows[split:])),
        decide("good", np.asarray(classifier.predict_proba(later)[:, 1], dtype=np.float64)),
        decide("defect", np.asarray(classifier.predict_proba(stale)[:, 1], dtype=np.float64)),
    ]


def write_offers(
    path: Path,
    rows: Sequence[Mapping[str, str]],
    dates: Sequence[date],
    accepted: Bools,
    models: Sequence[Model],
) -> None:
    """Write one line per later customer, in order; equal input gives equal bytes."""
    text = io.StringIO(newline="")
    out = csv.writer(text, lineterminator="\n")
    names = [column for model in models for column in (f"{model.name}_score", model.name)]
    out.writerow(["date", "segment", "accepted", *names])
    for i, row in enumerate(rows):
        said = [s for m in models for s in (f"{m.scores[i]:.3f}", int(m.decisions[i]))]
        out.writerow([dates[i].isoformat(), row["job"], int(accepted[i]), *said])
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.getvalue().encode())


def summary(name: str, decisions: Bools, accepted: Bools) -> str:
    """Return one line: counts, RAP and profit per prediction, with q = revenue / cost.

    RAP is [tp - fp / (q - 1)] / (tp + fn); profit per prediction, in unit costs, is
    (q tp - tp - fp) / n.
    """
    q = UNIT_REVENUE / UNIT_COST
    tp, fp = int((decisions & accepted).sum()), int((decisions & ~accepted).sum())
    fn, tn = int((~decisions & accepted).sum()), int((~decisions & ~accepted).sum())
    rap = (tp - fp / (q - 1)) / (tp + fn)
    profit = (q * tp - tp - fp) / len(accepted)
    counts = f"tp {tp:5d}  fp {fp:5d}  fn {fn:5d}  tn {tn:5d}"
    return f"  {name:8s} {counts}  RAP {rap:6.3f}  profit per prediction {profit:6.3f}\n"


def report(accepted: Bools, models: Sequence[Model]) -> str:
    """Return what the models earn before and after a third of the customers, and in all."""
    always = Model("always", np.ones(len(accepted)), np.ones(len(accepted), dtype=np.bool_))
    third, n = len(accepted) // 3, len(accepted)
    lines: list[str] = []
    for title, a, b in (("first third", 0, third), ("the rest", third, n), ("all", 0, n)):
        lines.append(f"{title}: {b - a} customers, {accepted[a:b].mean():.1%} accepted\n")
        lines.extend(summary(m.name, m.decisions[a:b], accepted[a:b]) for m in (*models, always))
    return "".join(lines)


def main() -> None:
    """Read, train, write and say what came of it."""
    parser = argparse.ArgumentParser(description="Train the demo's models.")
    parser.add_argument("--source", type=Path, default=DATA / "bank_marketing.csv.gz")
    parser.add_argument("--target", type=Path, default=DATA / "offers.csv.gz")
    arguments = parser.parse_args()
    rows = read_rows(arguments.source)
    dates = infer_dates(rows)
    accepted = np.array([row["y"] == "yes" for row in rows])
    models = build_models(rows, dates, accepted)
    n = len(models[0].scores)
    write_offers(arguments.target, rows[-n:], dates[-n:], accepted[-n:], models)
    sys.stdout.write(report(accepted[-n:], models))


if __name__ == "__main__":
    main()
