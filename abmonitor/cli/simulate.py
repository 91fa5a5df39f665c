"""The command that simulates: events with known truth."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from abmonitor.settings import LONGEST, SettingsError
from metrics.duration import Duration
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
Lasting = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="How long, in place of --predictions: 8h, or forever (with --kafka, until a signal).",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=(1 << 63) - 1,
        help="The same seed, the same events. Default: 1; with --kafka another one each time.",
        show_default=False,
    ),
]
Router = Annotated[
    str | None,
    typer.Option(
        "--router",
        metavar="HOST:PORT",
        help="With --kafka: take signed rollback orders there, and obey them.",
        show_default=False,
    ),
]
RouterSecret = Annotated[
    Path | None,
    typer.Option(
        "--router-secret-file",
        help="What orders are signed with. Default: ABMONITOR_ROUTER_SECRET.",
        show_default=False,
    ),
]
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
    lasting: Lasting = None,
    seed: Seed = None,
    start: Start = None,
    rate: Rate = 50.0,
    speed: Speed = None,
    router: Router = None,
    router_secret_file: RouterSecret = None,
    force: Force = False,
    print_settings: PrintSettings = False,
    as_json: Json = False,
) -> None:
    """Write events of experiments whose truth is known, and print that truth.

    Without --spec the experiments of --config are simulated with variants that do not differ, so that
    every difference found is a false alarm; without either, an example with two variants.
    """
    given = {"--speed": speed, "--router": router, "--router-secret-file": router_secret_file}
    only_kafka = [option for option, value in given.items() if value is not None]
    if as_json and print_settings:
        wrong_usage("expected one of --json and --print-settings: both print to standard output")
    if kafka == (file is not None):
        wrong_usage("expected one of --file FILE and --kafka")
    if only_kafka and not kafka:
        wrong_usage(f"{only_kafka[0]} is only for --kafka: a file has neither a clock nor traffic")
    if lasting is not None and is_typed(context, "predictions"):
        wrong_usage("expected one of --predictions and --for, got both")
    chosen = _chosen(context, spec, config, both=kafka)
    if chosen is not None and print_settings:
        wrong_usage(f"--print-settings: the settings {chosen} fit already")
    simulation = _simulation(spec, chosen)
    now = _start(start or (_now() if kafka else FILE_START))
    run = _run(predictions, lasting, 1 if seed is None else seed, now, rate, endless=kafka)
    if kafka and seed is None:
        run = replace(run, seed=now)  # ids that were sent before would be duplicates
    _check_moments(simulation, run)
    if file is None:
        target = loading.Target(config, speed, start is None, router, router_secret_file)
        simulator = loading.send(simulation, run, target)
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


def _run(
    predictions: int, lasting: str | None, seed: int, start: int, rate: float, *, endless: bool
) -> Run:
    """What is made; `endless`: whether it may be without an end."""
    if not (math.isfinite(rate) and rate > 0):
        wrong_usage(f"--rate: expected a number above 0, got {rate}")
    cycle = None
    if lasting is not None:
        wanted = _lasting(lasting, endless=endless)
        if wanted is None:
            cycle = max(1, round(rate * DAY / 1000))
        predictions = max(1, round(rate * (wanted or LONGEST) / 1000))
    run = Run(predictions, seed, start, rate, cycle)
    if run.start + run.span > LATEST_MS - 20 * 365 * DAY:  # outcomes take half of that at most
        wrong_usage(f"--rate: {predictions:,} predictions at {rate:g} a second take too long")
    return run


def _lasting(text: str, *, endless: bool) -> int | None:
    """Milliseconds; None: without an end."""
    if text == "forever" and endless:
        return None
    try:
        found = int(Duration.parse(text))
    except (ValueError, OverflowError):
        found = 0
    if not 0 < found <= LONGEST:
        more = ", or forever" if endless else ""
        wrong_usage(
            f"--for: expected a duration of at most 10 years such as 8h{more}, got {text!r}"
        )
    return found


def _check_moments(simulation: Simulation, run: Run) -> None:
    """Say what happens too late; end where something is to happen at a part of what has no end."""
    if run.cycle is not None:
        for what, moment in (*simulation.moments(), *simulation.label_moments()):
            if moment.time is None and moment.fraction:
                wrong_usage(
                    f"--for forever: {what} at {moment} of the whole never comes;"
                    " give a time after the start, such as 5m"
                )
    for line in simulations.in_vain(simulation, run.span):
        say(f"simulate: {line}")


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
