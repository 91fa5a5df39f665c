"""The command for data scientists: which of many candidate models earns most, before any goes live."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from abmonitor.cli.common import Json, is_typed, wrong_usage


INSTALL = "pip install 'abmonitor[rank]'"

ASSUMPTIONS = "What is assumed (a number, or a range: 10%..20%, 90..110, >=10)"
CONTENTS = "What the columns are"
SHOWN = "What is shown"

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="CSV, Parquet or JSON lines (.gz too): labels, and a column of scores or decisions per model.",
        show_default=False,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="The column of labels, 0/1 or true/false; else one called `label`.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="A column of ids, each of which may occur once.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
Value = Annotated[
    str | None,
    typer.Option(
        help="A column: what acting on a row brings if it is positive. Without --cost"
        " a --unit-cost is needed.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
Cost = Annotated[
    str | None,
    typer.Option(
        help="A column: what acting on a row costs. Without --value a --unit-revenue is needed.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Columns of models, such as 'rf-*'; again and again. Else all others are.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(
        help="Between columns of a CSV file; else found out.",
        show_default=False,
        rich_help_panel=CONTENTS,
    ),
]
DropUnlabelled = Annotated[
    bool,
    typer.Option(
        "--drop-unlabelled", help="Leave rows without a label out.", rich_help_panel=CONTENTS
    ),
]
ReferencePrecision = Annotated[
    str | None,
    typer.Option(
        help="Precision of a reference model; with --assumed-roi.",
        show_default=False,
        rich_help_panel=ASSUMPTIONS,
    ),
]
AssumedRoi = Annotated[
    str | None,
    typer.Option(
        help="The return on investment that the reference model is assumed to have.",
        show_default=False,
        rich_help_panel=ASSUMPTIONS,
    ),
]
Q = Annotated[
    str | None,
    typer.Option(
        "--q",
        help="What a correct action brings, in units of what an action costs.",
        show_default=False,
        rich_help_panel=ASSUMPTIONS,
    ),
]
UnitRevenue = Annotated[
    str | None,
    typer.Option(
        help="What a correct action brings; with --unit-cost.",
        show_default=False,
        rich_help_panel=ASSUMPTIONS,
    ),
]
UnitCost = Annotated[
    str | None,
    typer.Option(help="What an action costs.", show_default=False, rich_help_panel=ASSUMPTIONS),
]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="A score of this and more acts.")]
OptimiseThreshold = Annotated[
    bool,
    typer.Option(
        "--optimise-threshold",
        help="Find the threshold at which each model earns most, and judge it on rows that did not choose it.",
    ),
]
SensitivityOption = Annotated[
    bool,
    typer.Option(
        "--sensitivity",
        help="Tell for which assumed ROI, from -30 % to +100 %, which model is best.",
        rich_help_panel=SHOWN,
    ),
]
Figure = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Draw --sensitivity as .png or .svg; again and again.",
        show_default=False,
        rich_help_panel=SHOWN,
    ),
]
WriteSettings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write what is assumed as `profitability:` of an experiment.",
        show_default=False,
    ),
]
ExperimentName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which, where there are several.", show_default=False),
]
Top = Annotated[
    int, typer.Option(min=0, help="Models in the table; --json has all.", rich_help_panel=SHOWN)
]
All = Annotated[bool, typer.Option("--all", help="All models in the table.", rich_help_panel=SHOWN)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Columns of the table, comma-separated, such as rap,interval,tp,fp.",
        show_default=False,
        rich_help_panel=SHOWN,
    ),
]
Replicates = Annotated[
    int, typer.Option(min=0, max=100_000, help="Of the bootstrap; 0 for no intervals.")
]
Seed = Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="The same seed, the same draws.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was typed."""

    file: Path
    label: str | None
    id: str | None
    value: str | None
    cost: str | None
    models: tuple[str, ...]
    separator: str | None
    drop_unlabelled: bool
    reference_precision: str | None
    assumed_roi: str | None
    q: str | None
    unit_revenue: str | None
    unit_cost: str | None
    threshold: float
    optimise_threshold: bool
    sensitivity: bool
    figures: tuple[Path, ...]
    write_settings: Path | None
    experiment: str | None
    top: int | None
    columns: tuple[str, ...]
    replicates: int
    seed: int
    as_json: bool


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("rank")(rank_command)


def rank_command(
    context: typer.Context,
    *,
    file: File,
    label: Label = None,
    id_column: Id = None,
    value: Value = None,
    cost: Cost = None,
    models: Models = None,
    separator: Separator = None,
    drop_unlabelled: DropUnlabelled = False,
    reference_precision: ReferencePrecision = None,
    assumed_roi: AssumedRoi = None,
    q: Q = None,
    unit_revenue: UnitRevenue = None,
    unit_cost: UnitCost = None,
    threshold: Threshold = 0.5,
    optimise_threshold: OptimiseThreshold = False,
    replicates: Replicates = 400,
    seed: Seed = 0,
    sensitivity: SensitivityOption = False,
    figure: Figure = None,
    top: Top = 20,
    everything: All = False,
    columns: Columns = None,
    write_settings: WriteSettings = None,
    experiment: ExperimentName = None,
    as_json: Json = False,
) -> None:
    """Rank candidate models by the profit that they achieve on labelled rows, before they go live.

    Tells which are statistically tied with the best, and what acting always, never or at random would earn.
    """
    if everything and is_typed(context, "top"):
        wrong_usage("rank: expected --top or --all, not both")
    options = Options(
        file=file,
        label=label,
        id=id_column,
        value=value,
        cost=cost,
        models=tuple(models or ()),
        separator=separator,
        drop_unlabelled=drop_unlabelled,
        reference_precision=reference_precision,
        assumed_roi=assumed_roi,
        q=q,
        unit_revenue=unit_revenue,
        unit_cost=unit_cost,
        threshold=threshold,
        optimise_threshold=optimise_threshold,
        sensitivity=sensitivity,
        figures=tuple(figure or ()),
        write_settings=write_settings,
        experiment=experiment,
        top=None if everything else top,
        columns=tuple(name.strip() for each in columns or () for name in each.split(",")),
        replicates=replicates,
        seed=seed,
        as_json=as_json,
    )
    try:
        from abmonitor.cli.ranking import run  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in {"pyarrow", "matplotlib"}:
            raise
        wrong_usage(f"rank: needs {error.name}, which is not installed: {INSTALL}")
    run(options)
