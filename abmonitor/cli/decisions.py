"""Commands that show what was decided, and why."""

import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from abmonitor import explain
from abmonitor.cli.common import (
    Config,
    ExperimentToo,
    Json,
    MaybeExperiment,
    chosen,
    failed,
    print_json,
    say,
    settings_from,
    wrong_usage,
)
from abmonitor.explain import ApiSource, FileSource, Source, SourceError, StoreSource, Wanted
from alerts.actions import ACTIONS, unknown_action
from alerts.book import Decision
from alerts.explain import to_text
from alerts.notifiers.words import unsigned
from metrics.duration import Duration
from metrics.moment import Moment


Url = Annotated[
    str | None,
    typer.Option(
        envvar="ABMONITOR_URL",
        help="The monitor to ask, such as http://127.0.0.1:8000; ABMONITOR_TOKEN is sent along.",
        show_default=False,
    ),
]
Exported = Annotated[
    Path | None,
    typer.Option("--file", help="Read a file that --export wrote.", show_default=False),
]
When = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Such as 2026-01-31T10:00:00Z, or 24h for a day ago.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("decisions")(decisions_command)
    app.command("explain")(explain_command)


def decisions_command(
    experiment: MaybeExperiment = None,
    *,
    named: ExperimentToo = None,
    treatment: Annotated[str | None, typer.Option(help="Of this treatment only.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as rollback or hold.")] = None,
    since: When = None,
    until: When = None,
    limit: Annotated[int, typer.Option(min=1, max=explain.EVERY, help="The newest so many.")] = 50,
    export: Annotated[
        Path | None,
        typer.Option(help="Write them to this file, with what they rest on.", show_default=False),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check that no decision was changed or taken out."),
    ] = False,
    url: Url = None,
    config: Config = None,
    file: Exported = None,
    as_json: Json = False,
) -> None:
    """List decisions, oldest first; export them; or check that none was changed or taken out."""
    experiment = chosen("decisions", experiment, named)
    if action is not None and action not in ACTIONS:
        wrong_usage(f"--action: {unknown_action(action)}")
    wanted = Wanted(
        experiment=experiment,
        treatment=treatment,
        action=action,
        since=_moment("--since", since),
        until=_moment("--until", until),
        limit=limit,
    )
    if verify and wanted != Wanted(experiment=experiment, limit=limit):
        wrong_usage("--verify looks at all decisions of an experiment: it takes only EXPERIMENT")
    if verify and export is not None:
        wrong_usage("--verify and --export are two commands: give one of them")
    source = _source(url, config, file)
    try:
        if verify:
            _verify(source, experiment, as_json=as_json)
        elif export is not None:
            say(f"{explain.export(source, wanted, export):,} decisions written to {export}")
        else:
            _list(source.decisions(wanted), as_json=as_json)
    except SourceError as error:
        failed(f"decisions: {error}")
    except OSError as error:
        failed(f"decisions: {export}: {error.strerror}")


def explain_command(
    decision: Annotated[
        str,
        typer.Argument(
            metavar="DECISION", help="Its id, such as offers:ranker-v2:1772366399250:3."
        ),
    ],
    url: Url = None,
    config: Config = None,
    file: Exported = None,
    as_json: Json = False,
) -> None:
    """Recompute a decision from what was stored with it; status 1 where it does not come out again."""
    parts = decision.split(":")
    if len(parts) != 4 or not all(parts):
        wrong_usage(
            f"expected the id of a decision such as offers:ranker-v2:1772366399250:3, got {decision!r};"
            " `abmonitor decisions` lists them"
        )
    source = _source(url, config, file)
    try:
        found = source.find(decision)
    except SourceError as error:
        failed(f"explain: {error}")
    if found is None:
        failed(f"explain: there is no decision {decision}; `abmonitor decisions` lists them")
    explanation = found.explained()
    if as_json:
        plain = msgspec.to_builtins(explanation)
        print_json({**plain, "differences": list(explanation.differences)})
    else:
        typer.echo(to_text(explanation))
    if not explanation.same:
        raise typer.Exit(1)


def _source(url: str | None, config: Path | None, file: Path | None) -> Source:
    """Where to look: a file before a monitor, a monitor before the store."""
    try:
        if file is not None:
            return FileSource(file)
        if url is not None:
            return ApiSource(url, os.environ.get("ABMONITOR_TOKEN"))
    except SourceError as error:
        failed(str(error)) if file is not None else wrong_usage(str(error))
    if config is None:
        wrong_usage(
            "nowhere to look: give --url (or ABMONITOR_URL) of a monitor, -c with the settings to read"
            " the store, or --file with an export"
        )
    return StoreSource(settings_from(config))


def _moment(option: str, text: str | None) -> int | None:
    """Epoch ms; ends the program with status 2 where it cannot be read."""
    if text is None:
        return None
    try:
        if text[:4].isdigit() and "-" in text:
            return Moment.parse(text)
        return int(time.time() * 1000) - Duration.parse(text)
    except (ValueError, OverflowError):
        wrong_usage(f"{option}: expected a time such as 2026-01-31T10:00:00Z, or 24h, got {text!r}")


def _verify(source: Source, experiment: str | None, *, as_json: bool) -> None:
    found = list(explain.verify(source, experiment))
    if as_json:
        rows = {name: {"decisions": count, "broken": wrong} for name, count, wrong in found}
        print_json({"experiments": rows, "whole": not any(wrong for _, _, wrong in found)})
    else:
        for name, count, wrong in found:
            typer.echo(f"{name}: {count:,} decisions: {wrong or 'none was changed or taken out'}")
        if not found:
            typer.echo("there are no decisions")
    if any(wrong for _, _, wrong in found):
        raise typer.Exit(1)


def _list(decisions: list[Decision], *, as_json: bool) -> None:
    if as_json:
        print_json({"decisions": decisions})
        return
    console = Console()
    for each in decisions:
        head = f"{Moment(each.at)}  {each.action}  ({each.before} -> {each.state}, by {each.actor})"
        console.print(Text(head, style="bold"))
        console.print(Text(f"  {each.id}", no_wrap=True, overflow="ignore"))  # to be copied whole
        for reason in unsigned(each)[:1]:
            console.print(Padding(Text(reason), (0, 0, 0, 2)))
