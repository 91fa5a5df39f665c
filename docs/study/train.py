"""Train candidates of several families on real offers; write the scores of rows that none has seen.

The offers are the demo's (UCI Bank Marketing, see `README.md`). Two thirds of them, drawn at random with the
same share of accepted offers as the rest, train every candidate; the remaining third is scored. No candidate is
chosen, tuned or left out by what it does on that third: sweeps are written down here before they are run.

Run `python docs/study/train.py` where the project is installed with scikit-learn and pyarrow; a
minute and a half on two cores. `--split later` holds out the offers after the demo's split in time instead.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from abmonitor.demo import train as demo


TARGET = Path(__file__).resolve().parent / "bank_candidates.parquet"
INCUMBENT = "rule"
ID, LABEL = "customer", "accepted"
HELD_OUT = 1 / 3
SEED = 20081120
JOBS = 2
DECIMALS = 3

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Candidate = tuple[str, Any]


def flat(model: Any) -> Any:
    """`model` on one column per category and on numbers of mean 0 and variance 1, for those that measure."""
    categories = list(range(len(demo.CATEGORIES)))
    prepared = ColumnTransformer(
        [("categories", OneHotEncoder(sparse_output=False, drop="if_binary"), categories)],
        remainder=StandardScaler(),
    )
    return make_pipeline(prepared, model)


def linear() -> Iterator[Candidate]:
    """Logistic regressions from strong to weak shrinkage, and the two discriminant analyses."""
    for c in (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0):
        yield f"logistic-c{c:g}", flat(LogisticRegression(C=c, max_iter=2000))
    for c in (0.01, 1.0):
        model = LogisticRegression(C=c, max_iter=2000, class_weight="balanced")
        yield f"logistic-c{c:g}-balanced", flat(model)
    yield "lda", flat(LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.001))
    for share in (0.01, 0.1, 0.5):
        yield f"qda-{share:g}", flat(QuadraticDiscriminantAnalysis(reg_param=share))


def simple() -> Iterator[Candidate]:
    """Naive Bayes and nearest neighbours."""
    yield "bayes-gaussian", flat(GaussianNB(var_smoothing=1e-3))
    yield "bayes-bernoulli", flat(BernoulliNB())
    for neighbours in (5, 15, 51, 151, 401):
        yield f"knn-{neighbours}", flat(KNeighborsClassifier(neighbours, n_jobs=JOBS))


def trees() -> Iterator[Candidate]:
    """Single trees, from a stump to full depth."""
    for depth in (1, 2, 3, 4, 5, 6, 8, 10, 14, 20):
        yield f"tree-d{depth}", DecisionTreeClassifier(max_depth=depth, random_state=SEED)
    yield "tree-full", DecisionTreeClassifier(random_state=SEED)
    for depth in (4, 8):
        model = DecisionTreeClassifier(max_depth=depth, class_weight="balanced", random_state=SEED)
        yield f"tree-d{depth}-balanced", model


def forests() -> Iterator[Candidate]:
    """Random forests and extra trees whose leaves have at least one to a hundred customers."""
    for kind, name in ((RandomForestClassifier, "forest"), (ExtraTreesClassifier, "extra")):
        for leaf in (1, 3, 10, 30, 100):
            model = kind(200, min_samples_leaf=leaf, n_jobs=JOBS, random_state=SEED)
            yield f"{name}-leaf{leaf}", model
        for leaf in (3, 30):
            model = kind(200, min_samples_leaf=leaf, n_jobs=JOBS, random_state=SEED)
            yield f"{name}-leaf{leaf}-balanced", model.set_params(class_weight="balanced")


def boosting() -> Iterator[Candidate]:
    """Gradient boosting (rate x rounds) from slow to fast, from shallow to deep; and boosted stumps."""
    for rate, rounds in ((0.02, 100), (0.05, 120), (0.1, 100), (0.1, 300), (0.3, 300)):
        for depth in (2, 4, 8):
            yield f"boost-{rate:g}x{rounds}-d{depth}", boosted(rate, rounds, depth)
    for depth in (2, 4):
        model = boosted(0.05, 120, depth).set_params(class_weight="balanced")
        yield f"boost-d{depth}-balanced", model
    yield "adaboost-100", AdaBoostClassifier(n_estimators=100, random_state=SEED)


def boosted(rate: float, rounds: int, depth: int) -> Any:
    """Gradient boosting of histograms, as the demo's good model is."""
    return HistGradientBoostingClassifier(
        learning_rate=rate,
        max_iter=rounds,
        max_depth=depth,
        early_stopping=False,
        categorical_features=list(range(len(demo.CATEGORIES))),
        random_state=SEED,
    )


def networks() -> Iterator[Candidate]:
    """Small neural networks."""
    for layers, decay in (((8,), 1.0), ((16,), 0.01), ((32,), 1.0), ((32, 16), 0.1)):
        model = MLPClassifier(layers, alpha=decay, max_iter=15, random_state=SEED)
        yield f"network-{'x'.join(map(str, layers))}", flat(model)


def candidates() -> Iterator[Candidate]:
    """All candidates but the incumbent, which learns nothing."""
    for family in (linear, simple, trees, forests, boosting, networks):
        yield from family()


def splits(by: str, accepted: NDArray[np.bool_], later: int) -> tuple[Places, Places]:
    """Which rows train and which are held out, in order: at random, or those from `later` on."""
    rows = np.arange(len(accepted))
    if by == "later":
        return rows[:later], rows[later:]
    trained, held_out = train_test_split(
        rows, test_size=HELD_OUT, stratify=accepted, random_state=SEED
    )
    return np.sort(trained), np.sort(held_out)


def write(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of numbers; pages are packed hard, as the file is kept with the project."""
    pq.write_table(pa.table(columns), path, compression="gzip", compression_level=9)


def main() -> None:
    """Train, score and write, and say how long each candidate took."""
    parser = argparse.ArgumentParser(description="Train the study's candidates.")
    parser.add_argument("--split", choices=("random", "later"), default="random")
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    rows = demo.read_rows(demo.DATA / "bank_marketing.csv.gz")
    dates = demo.infer_dates(rows)
    accepted = np.array([row["y"] == "yes" for row in rows])
    table = demo.features(rows, dates)
    if arguments.split == "random":
        # The pace of the campaign all but names the day, and a day's other customers are among the trained ones.
        table = table[:, : -len(demo.PACE_DAYS)]
    trained, held_out = splits(arguments.split, accepted, sum(day < demo.SPLIT for day in dates))
    columns: dict[str, NDArray[Any]] = {
        ID: (held_out + 1).astype(np.int32),
        LABEL: accepted[held_out].astype(np.int8),
        INCUMBENT: demo.control_scores([rows[place] for place in held_out]).astype(np.float32),
    }
    warnings.simplefilter(
        "ignore", ConvergenceWarning
    )  # networks stop after a few passes on purpose
    for name, model in candidates():
        began = time.monotonic()
        model.fit(table[trained], accepted[trained])
        scores: Floats = model.predict_proba(table[held_out])[:, 1]
        columns[name] = np.round(scores, DECIMALS).astype(np.float32)
        sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {name}\n")
    write(arguments.target, columns)
    sys.stdout.write(f"{len(columns) - 2} candidates, {len(held_out)} customers held out\n")


if __name__ == "__main__":
    main()
