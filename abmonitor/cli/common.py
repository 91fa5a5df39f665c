"""What all commands share: where the settings are, and how mistakes and failures are told."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from abmonitor.settings import Settings, SettingsError, load


Config = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="ABMONITOR_CONFIG",
        help="Settings: a YAML file or a folder of them.",
        show_default=False,
    ),
]
MaybeExperiment = Annotated[str | None, typer.Argument(help="The experiment.", show_default=False)]
ExperimentToo = Annotated[
    str | None,
    typer.Option("--experiment", help="The same as EXPERIMENT.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def settings_from(config: Path | None) -> Settings:
    """The settings; ends the program with status 2 when there are none or they have mistakes."""
    if config is None:
        wrong_usage("no settings given: pass -c FILE, or set ABMONITOR_CONFIG")
    try:
        return load(config)
    except SettingsError as error:
        wrong_usage(str(error))


def chosen(command: str, given: str | None, option: str | None) -> str | None:
    """The experiment, which may stand alone or behind --experiment; status 2 where both say otherwise."""
    if None not in {given, option} and given != option:
        wrong_usage(f"{command}: expected one experiment, got {given} and --experiment {option}")
    return option if given is None else given


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, and does not come from anywhere else."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def wrong_usage(message: str) -> NoReturn:
    """End with status 2: the arguments or the settings are wrong."""
    say(message)
    raise typer.Exit(2)


def failed(message: str) -> NoReturn:
    """End with status 1: the work failed."""
    say(message)
    raise typer.Exit(1)


def say(message: str) -> None:
    """Tell people something; standard output is for results."""
    print(message, file=sys.stderr)  # noqa: T201  # this is the command line


def print_json(document: object) -> None:
    """Print the one JSON document of a command."""
    # Bytes: JSON is UTF-8, whatever the terminal is.
    typer.echo(msgspec.json.format(msgspec.json.encode(document)))
