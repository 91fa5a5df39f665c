"""Commands that analyse: replay and check."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from abmonitor import checks, summary
from abmonitor.cli.common import Config, Json, failed, print_json, settings_from, wrong_usage
from abmonitor.document import document
from abmonitor.replay import Replayed, replay
from abmonitor.settings import Settings, json_schema
from stream.files import EventFileError, Input


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("replay")(replay_command)
    app.command("check")(check_command)


def replay_command(
    files: Annotated[
        list[str],
        typer.Argument(help="Event files (newline-delimited JSON, .gz too); TOPIC=FILE names the source."),
    ],
    config: Config = None,
    as_json: Json = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="No further labels exist: all labels are final.")
    ] = False,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Append records that cannot be used to this file.")
    ] = None,
) -> None:
    """Run event files through the whole path and report what would have been decided."""
    settings = settings_from(config)
    inputs = [_input(given, settings) for given in files]
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.completed:,} events"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("replay", total=None)
        try:
            found = asyncio.run(
                replay(
                    settings,
                    inputs,
                    complete=complete,
                    dead_letters=dead_letters,
                    progress=lambda done: progress.update(task, completed=done),
                )
            )
        except (EventFileError, OSError) as error:
            failed(f"replay: {error}")
    _tell(found, settings, as_json=as_json, console=console)


def _tell(found: Replayed, settings: Settings, *, as_json: bool, console: Console) -> None:
    for line in checks.hints(found, settings):
        console.print(line, markup=False, highlight=False)
    if as_json:
        print_json(document(found.view))
    else:
        Console().print(summary.render(found.view))


def _input(given: str, settings: Settings) -> Input:
    topic, equals, path = given.partition("=")
    if equals and topic in settings.sources:
        return Input(Path(path), topic)
    file = Path(given)
    if not file.exists():
        wrong_usage(f"{given}: no such file")
    stem = file.name.split(".")[0]
    return Input(file, stem) if stem in settings.sources else Input(file)


def check_command(
    config: Config = None,
    as_json: Json = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of settings, for editors.")
    ] = False,
) -> None:
    """Check settings, and say what they will need."""
    if schema:
        print_json(json_schema())
        return
    settings = settings_from(config)
    report = checks.check(settings)
    if as_json:
        print_json(report)
    else:
        Console().print(summary.check_table(report))
