"""The entry point of the command line."""

import sys

import typer

from abmonitor.cli import analyse, run


EXIT_FAILED = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="abmonitor",
    help="Watch A/B experiments between machine-learning models, and roll bad variants back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
analyse.register(app)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
