"""What `abmonitor rank` costs: many models on one labelled test set, beside scikit-learn's metrics in a loop.

Run: `python benchmarks/rank.py` (needs pyarrow and scikit-learn; some minutes and 4 GB of disk for the large file,
`--rows 100000` for less). Files of made-up scores are written to a temporary folder: 2,266 models on 22,750 rows,
the size of the study that RAP comes from, and 1,000 models on 1,000,000 rows. Each is ranked by the command
itself in a process of its own, so that starting Python and reading the file are in the time, and the peak of memory is
that of the whole process. scikit-learn gets the small set as arrays in memory, model by model: confusion matrix, accuracy,
precision, recall and F-score at the same threshold, without intervals; so many models as `--models-in-loop` says,
since each costs the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet


STUDY = (2_266, 22_750)
LARGE = (1_000, 1_000_000)
POSITIVES = 0.0117
"""The share of positives in the study."""
GROUP = 10_000
"""Rows made and written at once."""
THRESHOLD = 0.5
ASSUMED = ("--q", "40")
SEED = 7

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Run(NamedTuple):
    """What one run of the command took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    told: dict[str, Any]


def made(models: int, rows: int) -> Iterator[tuple[Bools, Floats]]:
    """Labels (n,) and scores (n, models) in groups: some models are better than others, none is good."""
    chance = np.random.default_rng(SEED)
    skill = np.linspace(0.0, 2.0, models, dtype=np.float32)
    for start in range(0, rows, GROUP):
        n = min(GROUP, rows - start)
        labels = chance.random(n) < POSITIVES
        noise = chance.standard_normal((n, models), dtype=np.float32)
        scores = 1 / (1 + np.exp(2.5 - noise - skill * labels[:, None]))
        yield labels, scores.astype(np.float32)


def write(path: Path, models: int, rows: int) -> None:
    names = ["label", *(f"model-{number}" for number in range(models))]
    kinds = [pa.bool_(), *[pa.float32()] * models]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for labels, scores in made(models, rows):
            columns = [pa.array(labels), *map(pa.array, np.ascontiguousarray(scores.T))]
            file.write_table(pa.table(columns, schema=schema))


def ranked(path: Path, *options: str) -> Run:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "abmonitor", "rank", str(path), *ASSUMED, "--json", *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, json.loads(told))


def in_a_loop(labels: Bools, scores: Floats, models: int) -> tuple[float, list[float]]:
    """Seconds that scikit-learn's metrics of the first `models` take one by one, and the accuracies."""
    from sklearn import metrics  # noqa: PLC0415  # slow to import, and none of the time

    accuracies = []
    started = time.perf_counter()
    for at in range(models):
        decided = scores[:, at] >= THRESHOLD
        metrics.confusion_matrix(labels, decided)
        metrics.precision_score(labels, decided, zero_division=0)
        metrics.recall_score(labels, decided)
        metrics.f1_score(labels, decided)
        accuracies.append(float(metrics.accuracy_score(labels, decided)))
    return time.perf_counter() - started, accuracies


def told_of(run: Run) -> dict[str, float]:
    """Accuracy by model, as the command says."""
    return {each["model"]: each["accuracy"] for each in run.told["models"]}


def show(what: str, run: Run) -> None:
    print(
        f"{what:<52}{run.seconds:>8.2f} s {run.cpu_seconds:>8.2f} s CPU {run.peak_mib:>8.0f} MiB",
        flush=True,
    )


@contextmanager
def file_of(models: int, rows: int, folder: Path) -> Iterator[Path]:
    path = folder / f"{models}x{rows}.parquet"
    write(path, models, rows)
    print(f"{models:,} models x {rows:,} rows: {path.stat().st_size / 2**20:,.0f} MiB", flush=True)
    yield path
    path.unlink()


def study(folder: Path, in_loop: int) -> None:
    models, rows = STUDY
    with file_of(models, rows, folder) as path:
        bare = ranked(path, "--replicates", "0")
        show("  rank, no intervals", bare)
        show("  rank, intervals from 400 replicates, ties", ranked(path))
        show("  rank, ranges of assumptions", ranked(path, "--q", "20..60"))
        show("  rank --optimise-threshold", ranked(path, "--optimise-threshold"))
    parts = list(made(models, rows))
    labels = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    seconds, accuracies = in_a_loop(labels, scores, in_loop)
    ours = told_of(bare)
    assert all(abs(ours[f"model-{at}"] - found) < 1e-12 for at, found in enumerate(accuracies)), (
        "scikit-learn says otherwise"
    )
    whole = seconds / in_loop * models
    print(f"  scikit-learn in a loop, no intervals: {seconds / in_loop * 1000:.1f} ms a model,")
    print(f"    {whole:.0f} s for all: {whole / bare.seconds:.0f} times rank without intervals")


def large(folder: Path, rows: int) -> None:
    models = LARGE[0]
    with file_of(models, rows, folder) as path:
        show("  rank, no intervals", ranked(path, "--replicates", "0"))
        show("  rank, intervals from 400 replicates, ties", ranked(path))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models-in-loop", type=int, default=100)
    parser.add_argument(
        "--rows", type=int, default=LARGE[1], help="of the large file; 0: leave it out"
    )
    wanted = parser.parse_args(arguments)
    print(machine.description(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        study(Path(folder), wanted.models_in_loop)
        if wanted.rows:
            large(Path(folder), wanted.rows)


if __name__ == "__main__":
    main()
