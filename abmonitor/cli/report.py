"""The command for people who decide: a report on an experiment, as one file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from abmonitor.api_client import DEFAULT_URL
from abmonitor.cli.common import Json, failed, is_typed, print_json, say, wrong_usage
from abmonitor.cli.operate import TokenFile, Url, client_of
from abmonitor.report.build import as_document, build
from abmonitor.report.gather import Gathered, GatherError, from_file, from_monitor
from abmonitor.report.write import html, markdown


HTML = frozenset({".html", ".htm"})
MARKDOWN = frozenset({".md", ".markdown"})

Experiment = Annotated[str, typer.Argument(help="The experiment.", show_default=False)]
Replayed = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="REPLAY.json",
        help="What `abmonitor replay --json` or `abmonitor demo --json` printed; else a running monitor is asked.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE.html|FILE.md",
        help="Where to write it, as one HTML file or as Markdown; default: Markdown on standard output.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there already.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("report")(report_command)


def report_command(
    context: typer.Context,
    experiment: Experiment,
    *,
    replayed: Replayed = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a report that people decide by: what to do, what it is worth, how sure, and what was saved."""
    if replayed is not None and is_typed(context, "url"):
        wrong_usage("report: expected either --from or --url, got both")
    _check_output(output, force=force)
    try:
        if replayed is not None:
            given = from_file(replayed, experiment)
        else:
            given = from_monitor(client_of(url, token_file), url, experiment)
    except GatherError as error:
        if error.wrong_call:
            wrong_usage(f"report: {error}")
        failed(f"report: {error}")
    _tell(given, output, as_json=as_json)


def _check_output(output: Path | None, *, force: bool) -> None:
    """Ends the program with status 2 where a report cannot go there; before anything is asked."""
    if output is None:
        return
    if output.suffix.lower() not in HTML | MARKDOWN:
        wrong_usage(f"report: -o: expected a name that ends in .html or .md, got {output}")
    if output.is_dir():
        wrong_usage(f"report: -o: {output} is a folder")
    if output.exists() and not force:
        wrong_usage(f"report: {output} is there already; --force overwrites it")


def _built(given: Gathered, output: Path | None) -> tuple[str, dict[str, Any]]:
    """The report as text, and what it computes; ends with status 2 where the source has other shapes."""
    try:
        report = build(given)
        as_html = output is not None and output.suffix.lower() in HTML
        text = html(report, given.series) if as_html else markdown(report)
        return text, as_document(given)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        wrong_usage(
            f"report: {given.source}: the document is not as this version of abmonitor writes it"
            f" ({type(error).__name__}: {error}); replay the events again, or ask a monitor of this version"
        )


def _tell(given: Gathered, output: Path | None, *, as_json: bool) -> None:
    if given.series is None:
        say("report: the source has no lines over time (an older version wrote it): no charts")
    text, computed = _built(given, output)
    if output is not None:
        try:
            output.write_text(text, "utf-8")
        except OSError as error:
            failed(f"report: {output}: {error.strerror or error}")
        say(f"wrote {output}")
    if as_json:
        print_json(computed)
    elif output is None:
        typer.echo(text, nl=False)
