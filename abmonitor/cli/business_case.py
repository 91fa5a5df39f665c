"""The command for product owners: what a better model is worth in money."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from abmonitor.business import report
from abmonitor.business.calculate import calculate
from abmonitor.business.case import CaseFile, example, load
from abmonitor.business.check import check
from abmonitor.cli.common import Json, print_json, wrong_usage
from abmonitor.settings import SettingsError


File = Annotated[
    Path | None,
    typer.Argument(metavar="CASE.yaml", help="The case file.", show_default=False),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Compare what the file gives as `printed` with its formulas, and end with status 1"
        " where they contradict each other, so that CI can test the numbers of a document.",
    ),
]
Example = Annotated[
    bool, typer.Option("--example", help="Print a case file to start from, and do nothing else.")
]
Draws = Annotated[
    int, typer.Option(min=1_000, max=1_000_000, help="How often ranges are drawn from.")
]
Seed = Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="The same seed, the same draws.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("business-case")(business_case_command)


def business_case_command(
    *,
    file: File = None,
    check: Check = False,
    example: Example = False,
    draws: Draws = 100_000,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Work out what a better model brings and costs, with ranges where inputs are ranges.

    Exact where every input is a point. Nothing is discounted, and inputs are independent of each other.
    """
    if example:
        _print_example(alone=file is None and not check and not as_json)
        return
    if file is None:
        wrong_usage(
            "business-case: no case file given; `abmonitor business-case --example > case.yaml`"
            " writes one to start from"
        )
    try:
        found = load(file)
    except SettingsError as error:
        wrong_usage(str(error))
    if check:
        _check(found, draws, seed, as_json=as_json)
    else:
        _tell(found, draws, seed, as_json=as_json)


def _print_example(*, alone: bool) -> None:
    if not alone:
        wrong_usage("--example: expected no CASE.yaml, --check or --json beside it")
    typer.echo(example(), nl=False)


def _tell(given: CaseFile, draws: int, seed: int, *, as_json: bool) -> None:
    cases = given.cases
    with Console(stderr=True).status("drawing"):
        found = {name: calculate(case, draws, seed) for name, case in cases.items()}
    if as_json:
        print_json(report.document(cases, found, draws=draws, seed=seed, currency=given.currency))
        return
    Console().print(report.render(cases, found, draws=draws, seed=seed, currency=given.currency))


def _check(given: CaseFile, draws: int, seed: int, *, as_json: bool) -> None:
    """Compare, tell, and end with status 1 where anything contradicts."""
    with Console(stderr=True).status("drawing"):
        found = {
            name: check(case, draws, seed)
            for name, case in given.cases.items()
            if case.printed is not None and case.printed.given()
        }
    if not found:
        wrong_usage("--check: no case declares `printed` results, so there is nothing to compare")
    if as_json:
        print_json(report.check_document(found))
    else:
        Console().print(report.render_check(found))
    if report.contradictions(found):
        raise typer.Exit(1)
