"""Commands that analyse: replay and check."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from abmonitor import checks, summary
from abmonitor.cli.common import Config, Json, failed, print_json, say, settings_from, wrong_usage
from abmonitor.cli.kafka import counting
from abmonitor.document import document
from abmonitor.init.todos import todos
from abmonitor.live import findings
from abmonitor.live.check import live_findings
from abmonitor.live.findings import Finding
from abmonitor.lookups import missing
from abmonitor.operate.sample import RECORDS
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
        typer.Argument(
            metavar="FILE...",
            help="Event files (newline-delimited JSON, gzipped or not). TOPIC=FILE reads one as the"
            " settings' source TOPIC, and so does a file name that starts with it.",
        ),
    ],
    config: Config = None,
    as_json: Json = False,
    complete: Annotated[
        bool,
        typer.Option("--complete", help="The files have all outcomes: every label is final."),
    ] = False,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Append records that cannot be used to this file.")
    ] = None,
) -> None:
    """Run event files through the whole path and report what would have been decided."""
    settings = settings_from(config)
    inputs = _inputs(files, settings)
    if dead_letters is not None and any(_same(dead_letters, given.path) for given in inputs):
        wrong_usage(f"--dead-letters: {dead_letters} is one of the files to be read")
    try:
        with counting("events") as progress:
            found = asyncio.run(
                replay(
                    settings,
                    inputs,
                    complete=complete,
                    dead_letters=dead_letters,
                    progress=progress,
                )
            )
    except (EventFileError, OSError) as error:
        failed(f"replay: {error}")
    _tell(found, settings, as_json=as_json)


def _tell(found: Replayed, settings: Settings, *, as_json: bool) -> None:
    for line in checks.hints(found, settings):
        say(line)
    if as_json:
        print_json(document(found.view))
    else:
        Console().print(summary.render(found.view))


def _inputs(files: Sequence[str], settings: Settings) -> list[Input]:
    """What to read; ends the program with status 2 when some of it is not there."""
    inputs = [_input(given, settings) for given in files]
    wrong = [
        f"{each.path}: {'is a folder' if each.path.is_dir() else 'no such file'}"
        for each in inputs
        if each.path.is_dir() or not each.path.exists()
    ]
    if wrong:
        wrong_usage("\n".join(wrong))
    return inputs


def _input(given: str, settings: Settings) -> Input:
    topic, equals, path = given.partition("=")
    if equals and topic in settings.sources:
        return Input(Path(path), topic)
    file = Path(given)
    stem = file.name.split(".")[0]
    return Input(file, stem) if stem in settings.sources else Input(file)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def check_command(
    config: Config = None,
    as_json: Json = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of settings, for editors.")
    ] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Also look at Kafka and Redis: topics, recent records, memory."
        ),
    ] = False,
    records: Annotated[
        int, typer.Option(min=1, help="With --live: how many recent records of each topic.")
    ] = RECORDS,
) -> None:
    """Check settings, and say what they will need; with --live, whether they work where they will run."""
    if schema:
        print_json(json_schema())
        return
    settings = settings_from(config)
    unfinished = todos(config) if config is not None else []
    if live:
        _check_live(settings, records, unfinished, as_json=as_json)
        return
    report, unfound = checks.check(settings), missing(settings, os.environ)
    if as_json:
        print_json({**report, "todos": unfinished, "not_here": unfound})
        return
    Console().print(summary.check_table(report))
    for line in unfinished:
        Console().print(Text(f"! {line}", style="yellow"))
    if unfound:
        Console().print(Text("What `monitor` will look up, and is not here:", style="bold"))
    for line in unfound:
        Console().print(Text(f"! {line}", style="yellow"))


def _check_live(settings: Settings, records: int, unfinished: list[str], *, as_json: bool) -> None:
    """Look, tell, and end with status 1 where something has to be mended."""
    found = [Finding("warning", "todo", "settings", line) for line in unfinished]
    with Console(stderr=True).status("looking at Kafka and Redis"):
        found += live_findings(settings, os.environ, records)
    if as_json:
        print_json({**checks.check(settings), **findings.as_document(found)})
    else:
        Console().print(findings.rendered(found))
    if findings.has_errors(found):
        raise typer.Exit(1)
