"""Panels: lines, bands, numbers, bars, timelines, heatmaps and tables, all made the same way. Pure.

Sizes are in units of the grid: 24 are as wide as the screen, and one is 38 pixels high.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from queries import Query
from style import absent, properties


SOURCE = shapes.DataSourceRef(type_val="prometheus", uid="${datasource}")
LAST = ["lastNotNull"]


_P = TypeVar(
    "_P",
    timeseries.Panel,
    stat.Panel,
    bargauge.Panel,
    statetimeline.Panel,
    heatmap.Panel,
    table.Panel,
)


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    size: tuple[int, int] = (8, 8),
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    stacked: bool = False,
    log: bool = False,
) -> timeseries.Panel:
    """Lines over time; `size` is width and height, `low` and `high` where the axis ends at least."""
    panel = _asking(timeseries.Panel(), title, description, queries, size)
    panel.unit(unit).line_width(2).fill_opacity(0).show_points(shapes.VisibilityMode.NEVER)
    panel.legend(_legend()).tooltip(_all_values())
    if low is not None:
        panel.axis_soft_min(low)
    if high is not None:
        panel.axis_soft_max(high)
    if decimals is not None:
        panel.decimals(decimals)
    if stacked:
        panel.draw_style(shapes.GraphDrawStyle.BARS).fill_opacity(70).line_width(0)
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    if log:
        scale = common.ScaleDistributionConfig().type(shapes.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    return panel


def band(panel: timeseries.Panel, colour: Mapping[str, str]) -> timeseries.Panel:
    """Fill what lies between the lines `lower` and `upper`, around `estimate`."""
    edge = properties(
        custom__lineWidth=1,
        custom__lineStyle={"fill": "dash", "dash": [4, 6]},
        color=colour,
    )
    panel.override_by_name("estimate", properties(color=colour, custom__lineWidth=3))
    panel.override_by_name("lower", edge)
    filled = properties(custom__fillBelowTo="lower", custom__fillOpacity=18)
    return panel.override_by_name("upper", [*edge, *filled])


def numbers(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    steps: ThresholdsConfig,
    unit: str = "short",
    mappings: Sequence[models.ValueMapping] = (),
    names_only: bool = False,
    named: bool = False,
    nothing: str = "not known",
    decimals: int | None = None,
) -> stat.Panel:
    """The latest values, large, on the colour of their step; `nothing` says what no value means."""
    panel = _asking(stat.Panel(), title, description, queries, size, instant=True)
    mode = shapes.BigValueTextMode.VALUE
    if named:
        mode = shapes.BigValueTextMode.VALUE_AND_NAME
    if names_only:
        mode = shapes.BigValueTextMode.NAME
    panel.unit(unit).thresholds(steps).text_mode(mode).no_value(nothing)
    panel.color_mode(shapes.BigValueColorMode.BACKGROUND_SOLID)
    panel.graph_mode(shapes.BigValueGraphMode.NONE).justify_mode(shapes.BigValueJustifyMode.CENTER)
    panel.reduce_options(common.ReduceDataOptions().calcs(LAST))
    if mappings:
        panel.mappings(list(mappings))
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def bars(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    size: tuple[int, int],
    steps: ThresholdsConfig,
    high: float | None = None,
    nothing: str = "not known",
) -> bargauge.Panel:
    """The latest values as bars from 0 to `high`."""
    panel = _asking(bargauge.Panel(), title, description, queries, size, instant=True)
    panel.unit(unit).min(0).thresholds(steps).no_value(nothing)
    panel.orientation(shapes.VizOrientation.HORIZONTAL)
    panel.display_mode(shapes.BarGaugeDisplayMode.BASIC)
    panel.value_mode(shapes.BarGaugeValueMode.COLOR).show_unfilled(show_unfilled=True)
    panel.reduce_options(common.ReduceDataOptions().calcs(LAST))
    return panel if high is None else panel.max(high)


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    mappings: Sequence[models.ValueMapping],
) -> statetimeline.Panel:
    """What was when: a row for each series, a colour for each word."""
    panel = _asking(statetimeline.Panel(), title, description, queries, size)
    panel.mappings(list(mappings)).show_value(shapes.VisibilityMode.AUTO).row_height(0.8)
    panel.merge_values(merge_values=True).fill_opacity(85).line_width(0)
    return panel.legend(_legend(shown=False)).tooltip(_all_values())


def heat(
    title: str, description: str, query: Query, *, unit: str, size: tuple[int, int] = (8, 8)
) -> heatmap.Panel:
    """How values are spread over time, from the buckets of a histogram."""
    panel = _asking(heatmap.Panel(), title, description, [query], size)
    scale = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")
    panel.color(scale.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5).steps(64))
    panel.y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(0).calculate(calculate=False)
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(shapes.HeatmapCellLayout.LE))
    panel.cell_values(heatmap.CellValues().unit("reqps"))
    return panel.tooltip(heatmap.HeatmapTooltip().mode(shapes.TooltipDisplayMode.SINGLE))


def columns(
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    size: tuple[int, int],
    labels: Mapping[str, str],
    unit: str = "short",
    missing: str = "-",
    sorted_by: str | None = None,
    labels_only: bool = False,
) -> table.Panel:
    """A table: a row for each set of labels, a column for each query (expressions by their column's name).

    `labels` gives the names of the labels' columns, in order; the queries have no other ones. With
    `labels_only` the values are left out.
    """
    asked = [Query(expr) for expr in queries.values()]
    panel = _asking(table.Panel(), title, description, asked, size, instant=True, as_table=True)
    values = {f"Value #{_ref(index)}": name for index, name in enumerate(queries)}
    if len(queries) == 1:
        values = {"Value": next(iter(queries))}
    order = [*labels, *values]
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(["Time", *(values if labels_only else ())], True),
                "indexByName": {name: index for index, name in enumerate(order)},
                "renameByName": {**labels, **values},
            },
        )
    )
    panel.unit(unit).mappings([absent(missing)]).filterable(filterable=False)
    panel.cell_height(shapes.TableCellHeight.SM).min_width(50)
    if sorted_by is not None:
        panel.sort_by([common.TableSortByFieldState().display_name(sorted_by).desc(desc=True)])
    return panel


def _asking(
    panel: _P,
    title: str,
    description: str,
    queries: Sequence[Query],
    size: tuple[int, int],
    *,
    instant: bool = False,
    as_table: bool = False,
) -> _P:
    """A panel with what it asks."""
    panel.title(title).description(description).datasource(SOURCE).span(size[0]).height(size[1])
    for index, query in enumerate(queries):
        asked = prometheus.Dataquery().datasource(SOURCE).expr(query.expr).ref_id(_ref(index))
        asked = asked.instant() if instant else asked.range()
        if query.legend:
            asked.legend_format(query.legend)
        form = PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES
        panel.with_target(asked.format(PromQueryFormat.HEATMAP if query.heatmap else form))
        if query.properties:
            panel.override_by_query(_ref(index), properties(**query.properties))
    return panel


def _ref(index: int) -> str:
    """A, B, C, …: how Grafana calls the questions of a panel."""
    return chr(ord("A") + index)


def _legend(*, shown: bool = True) -> common.VizLegendOptions:
    made = common.VizLegendOptions().show_legend(show_legend=shown)
    made.display_mode(shapes.LegendDisplayMode.LIST)
    return made.placement(shapes.LegendPlacement.BOTTOM).calcs([])


def _all_values() -> common.VizTooltipOptions:
    mode = shapes.TooltipDisplayMode.MULTI
    return common.VizTooltipOptions().mode(mode).sort(shapes.SortOrder.DESCENDING)
