"""The entry point of the command line."""

import sys
from io import TextIOWrapper

import typer

from abmonitor.cli import analyse, run, simulate


app = typer.Typer(
    name="abmonitor",
    help="Watch A/B experiments between machine-learning models, and roll bad variants back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
analyse.register(app)
simulate.register(app)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that has no € shows something else
            stream.reconfigure(errors="replace")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
