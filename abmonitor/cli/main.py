"""The entry point of the command line."""

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from abmonitor import __version__
from abmonitor.cli import (
    analyse,
    business_case,
    decisions,
    init,
    letters,
    operate,
    rank,
    rekey,
    report,
    run,
    serve,
    simulate,
    topics,
)


app = typer.Typer(
    name="abmonitor",
    help="Watch A/B experiments between machine-learning models, and roll bad variants back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
serve.register(app)
analyse.register(app)
business_case.register(app)
rank.register(app)
init.register(app)
simulate.register(app)
topics.register(app)
letters.register(app)
operate.register(app)
decisions.register(app)
rekey.register(app)
report.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"abmonitor {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that has no € shows something else
            stream.reconfigure(errors="replace")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
