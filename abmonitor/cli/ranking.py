"""What `abmonitor rank` does (reads the file, writes figures and settings); needs the extra `rank`."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from abmonitor.cli.common import failed, print_json, say, wrong_usage
from abmonitor.cli.rank import INSTALL, Options
from abmonitor.ranking import document, sensitivity_table, table
from abmonitor.ranking.assumed import Assumed, assumed, parse
from abmonitor.ranking.columns import check_name
from abmonitor.ranking.lead import notes, sentences
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.ranking import Ranking, rank
from abmonitor.ranking.reading import ContentsError, FileError, Roles, open_candidates
from abmonitor.ranking.sensitivity import SHOWN, Sensitivity, sensitivity
from abmonitor.ranking.tuning import rank_tuned
from abmonitor.ranking.write_settings import write_profitability
from abmonitor.settings import SettingsError
from metrics.resampling import LEAST


T = TypeVar("T")
FIGURES = {".png", ".svg"}


def run(options: Options) -> None:
    """Rank, and print what was asked for; ends the program with status 1 or 2 where that is impossible."""
    try:
        given, plan = _plan(options)
        for name in options.columns:
            check_name(name)
        settings = None if options.write_settings is None else _settings(given)
    except ValueError as error:
        wrong_usage(f"rank: {error}")
    found = _read(options, plan)
    curves = _sensitivity(found, given) if options.sensitivity else None
    for path in options.figures:
        _draw(curves, path)
    if options.as_json:
        _print_document(options, found, curves)
    else:
        _print(options, found, curves)
    if options.write_settings is not None and settings is not None:
        try:
            say(write_profitability(options.write_settings, options.experiment, settings))
        except (SettingsError, ValueError) as error:
            wrong_usage(f"--write-settings: {error}")
        except OSError as error:
            failed(f"rank: cannot write {options.write_settings}: {error.strerror or error}")


def _plan(options: Options) -> tuple[Assumed | None, Plan]:
    """What is assumed, and how to rank; raises ValueError where options contradict each other."""
    _check(options)
    by_rows = options.value is not None or options.cost is not None
    given = None
    if not by_rows or (None not in {options.value, options.cost} and _told(options)):
        given = assumed(
            reference_precision=options.reference_precision,
            assumed_roi=_roi(options),
            q=options.q,
            unit_revenue=options.unit_revenue,
            unit_cost=options.unit_cost,
        )
    revenue, cost = _constants(options) if by_rows else (None, _unit_cost(given))
    if given is None and (options.sensitivity or options.write_settings):
        raise ValueError(
            "--sensitivity and --write-settings need one q for all rows:"
            " --q, or --reference-precision and --assumed-roi, or --unit-revenue and --unit-cost"
        )
    return given, Plan(
        assumed=None if by_rows else given,
        threshold=options.threshold,
        replicates=options.replicates,
        seed=options.seed,
        unit_revenue=revenue,
        unit_cost=cost,
    )


def _roi(options: Options) -> str | None:
    """The assumed ROI as it was typed; where only sensitivity to it is asked for, all that is shown."""
    alone = options.sensitivity and _told(options) == ["--reference-precision"]
    return f"{SHOWN[0]}..{SHOWN[1]}" if alone else options.assumed_roi


def _constants(options: Options) -> tuple[float | None, float | None]:
    """The unit revenue or unit cost that stands in for a column of money, where there is only one."""
    if options.cost is None:
        return None, _one_number(options, "--value", "--unit-cost", options.unit_cost)
    if options.value is None:
        return _one_number(options, "--cost", "--unit-revenue", options.unit_revenue), None
    return None, None


def _check(options: Options) -> None:
    if 0 < options.replicates < LEAST:
        raise ValueError(
            f"--replicates: expected 0 for no intervals, or {LEAST} and more, got {options.replicates}"
        )
    if options.figures and not options.sensitivity:
        raise ValueError("--figure: draws what --sensitivity finds, which is not asked for")
    for path in options.figures:
        if path.suffix.lower() not in FIGURES:
            raise ValueError(f"--figure: expected a name that ends in .png or .svg, got {path}")
        if path.is_dir() or not path.parent.is_dir():  # told now, and not when all is ranked
            raise ValueError(f"--figure: expected a file in a folder that is there, got {path}")
    if options.write_settings is not None and not options.write_settings.exists():
        raise ValueError(f"--write-settings: there is no {options.write_settings}")
    if options.experiment is not None and options.write_settings is None:
        raise ValueError("--experiment: says where --write-settings writes, which is not asked for")


def _told(options: Options) -> list[str]:
    """The assumptions that were typed."""
    typed = {
        "--reference-precision": options.reference_precision,
        "--assumed-roi": options.assumed_roi,
        "--q": options.q,
        "--unit-revenue": options.unit_revenue,
        "--unit-cost": options.unit_cost,
    }
    return [name for name, text in typed.items() if text is not None]


def _one_number(options: Options, column: str, name: str, text: str | None) -> float:
    """The constant that stands in for the missing column of money."""
    other = "--cost" if column == "--value" else "--value"
    if text is None or _told(options) != [name]:
        got = " and ".join(_told(options)) or "none"
        raise ValueError(f"{column}: expected {other} or {name} beside it, and no other; got {got}")
    found = parse(name, text, percent=False)
    if found.low is None or found.low != found.high or found.low < 0:
        raise ValueError(f"{name}: expected one number of at least 0 beside {column}, got {text!r}")
    return found.low


def _unit_cost(given: Assumed | None) -> float | None:
    """What an action costs, in a currency; None where that is not known."""
    if given is None:
        return None
    for told, share in ((given.unit_cost, 1.0), (given.unit_revenue, given.q or math.nan)):
        if told is not None and told.low is not None and told.low == told.high:
            return None if math.isnan(share) else told.low / share
    return None


def _settings(given: Assumed | None) -> dict[str, float]:
    if given is None:
        raise ValueError("--write-settings: nothing is assumed that could be written")
    try:
        return given.settings()
    except ValueError as error:
        raise ValueError(f"--write-settings: {error}") from None


def _read(options: Options, plan: Plan) -> Ranking:
    roles = Roles(
        label=options.label,
        id=options.id,
        value=options.value,
        cost=options.cost,
        models=options.models,
    )
    try:
        candidates = open_candidates(
            options.file,
            roles,
            drop_unlabelled=options.drop_unlabelled,
            separator=options.separator,
        )
        with _progress() as progress:
            if options.optimise_threshold:
                return rank_tuned(candidates, plan, progress=progress)
            return rank(candidates, plan, progress=progress)
    except ContentsError as error:
        failed(str(error))
    except FileError as error:
        wrong_usage(str(error))
    except ValueError as error:  # of values and costs of rows
        failed(f"{options.file}: {error}")


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """Show on a terminal which share is done."""
    console = Console(stderr=True)
    columns = TextColumn("ranking"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("rank", total=1.0)
        yield lambda done: progress.update(task, completed=done)


def _sensitivity(found: Ranking, given: Assumed | None) -> Sensitivity | None:
    if given is None:
        return None
    try:
        return sensitivity(found.of_models().counts, given)
    except ValueError as error:  # no positive labels
        failed(f"--sensitivity: {error}")


def _draw(curves: Sensitivity | None, path: Path) -> None:
    if curves is None:
        return
    try:
        from abmonitor.ranking.figure import draw  # noqa: PLC0415  # an extra, and slow
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        wrong_usage(f"--figure: needs matplotlib, which is not installed: {INSTALL}")
    try:
        draw(curves, path)
    except OSError as error:
        failed(f"--figure: cannot write {path}: {error.strerror or error}")


def _print_document(options: Options, found: Ranking, curves: Sensitivity | None) -> None:
    told: dict[str, Any] = {"file": str(options.file), **document.document(found)}
    if curves is not None:
        told["sensitivity"] = sensitivity_table.document(curves)
    print_json(told)


def _print(options: Options, found: Ranking, curves: Sensitivity | None) -> None:
    terminal = Console()
    width = terminal.width if terminal.is_terminal else _columns()
    console = terminal if width is not None else Console(width=table.WIDTH)
    if curves is not None:
        console.print(Text(" ".join(sentences(found))), Text(), sep="\n")
        console.print(sensitivity_table.render(curves))
        for note in notes(found):
            if note not in curves.notes:
                console.print(table.note(note))
        return
    try:
        told = table.render(found, top=options.top, columns=options.columns, width=width)
    except ValueError as error:  # a column that there is not in this ranking
        wrong_usage(f"rank: {error}")
    console.print(told, crop=False)


def _columns() -> int | None:
    """How wide a pipe is: as COLUMNS says, else as wide as names need."""
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdecimal() and int(told) else None
