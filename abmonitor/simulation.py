"""Simulations of the application (files): where they come from, where they go, and what settings fit."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.convert import Check, Parser, Problem, convert, shown
from abmonitor.settings import (
    LONGEST,
    PARSERS,
    ExperimentSettings,
    Settings,
    SettingsError,
    experiment_names,
)
from abmonitor.summary import number
from abmonitor.yaml_source import read
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE
from stream.simulation import (
    Change,
    LabelDelay,
    Latency,
    Moment,
    SimulatedExperiment,
    Simulation,
    Truth,
)


EXAMPLE = Simulation(
    experiments=(
        SimulatedExperiment(
            name="example",
            prevalence=0.1,
            horizon=Duration(5 * MINUTE),
            variants={
                "control": Truth(tpr=0.7, fpr=0.2, error_rate=0.002, latency=Latency(median_ms=60)),
                "treatment": Truth(
                    tpr=0.75, fpr=0.2, error_rate=0.002, latency=Latency(median_ms=65)
                ),
            },
        ),
    )
)
"""What is simulated where nothing is said: a treatment that finds more, and takes longer."""

UNIT_PREDICTIONS = 3.0
"""Predictions a unit makes on average, where settings only say that units are randomised."""


def load(path: Path) -> Simulation:
    """Read the simulation in a YAML file. Raises SettingsError with all mistakes at once."""
    document, mistakes = read(path)
    if document is None:
        raise SettingsError(mistakes)
    simulation, found = convert(document, Simulation, _PARSERS, _CHECKS)
    if simulation is None or found or mistakes:
        raise SettingsError([*mistakes, *found])
    return simulation


def from_settings(settings: Settings) -> Simulation:
    """The experiments of `settings` with usual truths, the same for all variants of an experiment.

    So whatever difference is found between variants, is a false alarm. Raises ValueError where an
    experiment is of a kind that cannot be simulated.
    """
    return Simulation(experiments=tuple(_usual(experiment) for experiment in settings.experiments))


def _usual(declared: ExperimentSettings) -> SimulatedExperiment:
    labels = declared.labels
    if labels.observed == "explored":
        raise ValueError(f"{declared.name}: labels.observed: explored cannot be simulated")
    delay = LabelDelay(median=Duration(labels.horizon // 10))
    variants = {
        name: Truth(
            weight=weight,
            tpr=0.7,
            fpr=0.2,
            error_rate=0.002,
            latency=Latency(median_ms=60),
            label_delay=delay,
        )
        for name, weight in declared.variants.items()
    }
    return SimulatedExperiment(
        name=declared.name,
        variants=variants,
        control=declared.control,
        # The test set's prevalence, if it is like the reference model's.
        prevalence=declared.reference_precision or 0.1,
        horizon=labels.horizon,
        observed=labels.observed,
        predictions_per_unit=UNIT_PREDICTIONS if declared.randomised_by == "unit" else None,
    )


def in_vain(simulation: Simulation, span: float) -> Iterator[str]:
    """What is to happen only after the last prediction, `span` ms after the start."""
    for what, moment in simulation.moments():
        if moment.after_start(span) >= span:
            yield f"{what} at {moment} comes after the last prediction, at {Duration(span)}"


def write(
    path: Path,
    blocks: Iterable[bytes],
    *,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Write a file, gzipped if its name ends in .gz; it is there when it is whole, or not at all.

    Raises FileExistsError unless `force`, and OSError where it cannot be written.
    """
    path = path.resolve()  # so that the target of a link is replaced, and not the link
    special = path.exists() and not path.is_file()  # a pipe or a device cannot be replaced
    if path.is_file() and not force:
        raise FileExistsError(f"{path} exists already; --force overwrites it")
    part = path if special else path.with_name(path.name + ".part")
    try:
        with _opened(part, gzipped=path.suffix == ".gz") as stream:
            for block in blocks:
                stream.write(block)
                progress()
        if not special:
            part.replace(path)
    finally:
        if not special:
            part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, *, gzipped: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as stream:
        if not gzipped:
            yield stream
            return
        # Neither the name nor the time of writing, so that the same seed gives the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
            yield packed


def truth_tables(truth: dict[str, Any]) -> RenderableType:
    """The truth for people: a table an experiment, a row a variant."""
    tables = [
        _table(name, experiment["variants"]) for name, experiment in truth["experiments"].items()
    ]
    told = [f"{count:,} {what}" for what, count in truth["events"].items()]
    return Group(*tables, Text("events: " + ", ".join(told)))


def _table(name: str, variants: dict[str, Any]) -> Table:
    table = Table(title=name, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("variant")
    for column in ("predictions", "TP", "FP", "TN", "FN", "errors", "no label", "mean ms"):
        table.add_column(column, justify="right")
    for variant, found in variants.items():
        counts = [found["predictions"], *found["counts"].values()]
        counts += [found["errors"], found["unlabelled"]]
        mean = number(found["latency_ms"]["mean"], ".1f")
        table.add_row(variant, *(f"{count:,}" for count in counts), mean)
    return table


def settings_for(simulation: Simulation) -> str:
    """Settings (YAML) under which a simulation can be replayed."""
    parts = ["# Settings for events of `abmonitor simulate`.", "experiments:"]
    return "\n".join(parts + [_settings(each) for each in simulation.experiments]) + "\n"


def _settings(simulated: SimulatedExperiment) -> str:
    cohort = Duration((10 if simulated.horizon >= HOUR else 1) * MINUTE)
    shares = {name: truth.weight for name, truth in simulated.variants.items()}
    total = sum(shares.values())
    split = ", ".join(f'"{name}": {share / total:.6g}' for name, share in shares.items())
    labels = f"observed: {simulated.observed}, horizon: {simulated.horizon}, grace: 1m"
    guardrails = ["{metric: error_rate, test: sequential, relative_margin: 0.5}"]
    if any(truth.latency for truth in simulated.variants.values()):
        guardrails.append(
            "{metric: latency_p95_ms, window: 5m, relative_margin: 0.5, consecutive: 3}"
        )
    lines = [
        f'- name: "{simulated.name}"',
        f'  control: "{simulated.baseline}"',
        f"  variants: {{{split}}}",
        f"  randomised_by: {'unit' if simulated.predictions_per_unit else 'request'}",
        f"  labels: {{{labels}, cohort: {cohort}, when_missing: negative}}",
    ]
    precision = _precision(simulated)
    if precision:
        lines.append(f"  profitability: {{reference_precision: {precision:.6g}, assumed_roi: 0.5}}")
        metric = "profit_per_prediction" if simulated.observed == "acted" else "rap"
        guardrails.append(f"{{metric: {metric}, test: sequential, margin: 0.05, detect: 0.1}}")
    lines += ["  guardrails:", *(f"    - {guardrail}" for guardrail in guardrails)]
    return "\n".join(f"  {line}" for line in [*lines, "  on_breach: {action: log}"])


def _precision(simulated: SimulatedExperiment) -> float:
    """The precision of the control."""
    truth, prevalence = simulated.variants[simulated.baseline], simulated.prevalence
    right, wrong = prevalence * truth.tpr, (1 - prevalence) * truth.fpr
    return right / (right + wrong) if right else 0.0


def _moment(data: object) -> Moment:
    if isinstance(data, int | float) and not isinstance(data, bool) and 0 <= data <= 1:
        return Moment(fraction=data)
    try:
        time = Duration.parse(data)
    except (ValueError, OverflowError):
        time = Duration(LONGEST + 1)
    if time > LONGEST:
        raise ValueError(
            "expected a duration of at most 10 years, such as '10m',"
            f" or a fraction of the whole from 0 to 1; got {shown(data)}"
        )
    return Moment(time=time)


def _horizon(simulated: SimulatedExperiment) -> Iterator[Problem]:
    if not simulated.horizon > 0:
        yield ("horizon",), f"expected a time above 0, got {simulated.horizon}"


_PARSERS: dict[type, Parser] = {**PARSERS, Moment: _moment}
_CHECKS: dict[type, tuple[Check, ...]] = {
    Simulation: (experiment_names,),
    SimulatedExperiment: (
        lambda simulated: simulated.variant_problems(),
        lambda simulated: simulated.change_problems(),
        _horizon,
    ),
    Change: (lambda change: change.problems(),),
}
