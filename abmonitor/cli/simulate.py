"""The command that simulates: events with known truth."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Meta
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from abmonitor import simulation as simulations
from abmonitor.cli import loading
from abmonitor.cli.common import (
    Config,
    Json,
    failed,
    is_typed,
    print_json,
    say,
    settings_from,
    wrong_usage,
)
from abmonitor.settings import SettingsError
from metrics.experiment import DAY
from stream.arms import Run
from stream.events import LATEST_MS, epoch_ms
from stream.simulate import Simulator
from stream.simulation import Simulation


File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="Where to write the events; gzipped if it ends in .gz.",
        show_default=False,
    ),
]
ToKafka = Annotated[
    bool,
    typer.Option("--kafka", help="Send the events to Kafka: to the topics of --config, if given."),
]
Speed = Annotated[
    str | None,
    typer.Option(
        help="With --kafka: seconds of the simulation a second, or max. Default: 1.",
        show_default=False,
    ),
]
Spec = Annotated[Path | None, typer.Option(help="What to simulate: a YAML file.")]
Predictions = Annotated[int, typer.Option(min=1, help="How many requests.")]
Seed = Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="The same seed, the same file.")]
Start = Annotated[
    str | None,
    typer.Option(
        help="When it takes place: RFC 3339 with a zone, or epoch milliseconds."
        " Default: 2026-01-01T00:00:00Z; with --kafka now.",
        show_default=False,
    ),
]
Rate = Annotated[float, typer.Option(help="Predictions a second; their outcomes come on top.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]
PrintSettings = Annotated[
    bool, typer.Option("--print-settings", help="Print settings for `abmonitor replay`.")
]


FILE_START = "2026-01-01T00:00:00Z"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("simulate")(simulate_command)


def simulate_command(
    context: typer.Context,
    *,
    file: File = None,
    kafka: ToKafka = False,
    spec: Spec = None,
    config: Config = None,
    predictions: Predictions = 100_000,
    seed: Seed = 1,
    start: Start = None,
    rate: Rate = 50.0,
    speed: Speed = None,
    force: Force = False,
    print_settings: PrintSettings = False,
    as_json: Json = False,
) -> None:
    """Write events of experiments whose truth is known, and print that truth.

    Without --spec the experiments of --config are simulated with variants that do not differ, so that
    every difference found is a false alarm; without either, an example with two variants.
    """
    if as_json and print_settings:
        wrong_usage("expected one of --json and --print-settings: both print to standard output")
    if kafka == (file is not None):
        wrong_usage("expected one of --file FILE and --kafka")
    if speed is not None and not kafka:
        wrong_usage("--speed is only for --kafka: a file is written as fast as it goes")
    chosen = _chosen(context, spec, config, both=kafka)
    if chosen is not None and print_settings:
        wrong_usage(f"--print-settings: the settings {chosen} fit already")
    simulation = _simulation(spec, chosen)
    run = _run(predictions, seed, _start(start or (_now() if kafka else FILE_START)), rate)
    for line in simulations.in_vain(simulation, run.span):
        say(f"simulate: {line}")
    if file is None:
        simulator = loading.send(simulation, run, config, speed)
    else:
        simulator = Simulator(simulation, run)
        _write(simulator, run, file, force=force)
    if print_settings:
        typer.echo(simulations.settings_for(simulation), nl=False)
    else:
        _tell(simulator.truth(), as_json=as_json)


def _now() -> str:
    return str(int(time.time() * 1000))


def _tell(truth: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(truth)
    else:
        Console().print(simulations.truth_tables(truth))


def _chosen(
    context: typer.Context, spec: Path | None, config: Path | None, *, both: bool
) -> Path | None:
    """The settings to simulate; those of the environment give way to a --spec.

    `both` may be given where the settings also say where to.
    """
    if spec is None or config is None:
        return config
    if both:
        return None
    if is_typed(context, "config"):
        wrong_usage("expected one of --spec and --config, got both")
    return None


def _simulation(spec: Path | None, config: Path | None) -> Simulation:
    try:
        if spec is not None:
            return simulations.load(spec)
        if config is not None:
            return simulations.from_settings(settings_from(config))
    except (SettingsError, ValueError) as error:
        wrong_usage(str(error))
    return simulations.EXAMPLE


def _run(predictions: int, seed: int, start: int, rate: float) -> Run:
    if not (math.isfinite(rate) and rate > 0):
        wrong_usage(f"--rate: expected a number above 0, got {rate}")
    run = Run(predictions, seed, start, rate)
    if run.start + run.span > LATEST_MS - 20 * 365 * DAY:  # outcomes take half of that at most
        wrong_usage(f"--rate: {predictions:,} predictions at {rate:g} a second take too long")
    return run


def _start(text: str) -> int:
    try:
        kind = Annotated[int, Meta(ge=0, le=LATEST_MS)] | Annotated[datetime, Meta(tz=True)]
        found = epoch_ms(msgspec.convert(text, kind, strict=False))
    except msgspec.ValidationError:
        found = -1
    if found < 0:
        wrong_usage(f"--start: expected RFC 3339 with a zone, or epoch milliseconds, got {text!r}")
    return found


def _write(simulator: Simulator, run: Run, file: Path, *, force: bool) -> None:
    try:
        with _progress(simulator, run) as progress:
            simulations.write(file, simulator.blocks(), force=force, progress=progress)
    except FileExistsError as error:
        wrong_usage(f"--file: {error}")
    except OSError as error:
        failed(f"simulate: cannot write {file}: {error.strerror or error}")


@contextmanager
def _progress(simulator: Simulator, run: Run) -> Iterator[Callable[[], None]]:
    """Show on a terminal how far it is."""
    console = Console(stderr=True)
    columns = BarColumn(), TextColumn("{task.completed:,} predictions"), TimeElapsedColumn()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("simulate", total=run.predictions)
        yield lambda: progress.update(task, completed=simulator.made)
