"""Dashboards around their panels: variables, links, annotations and the grid. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from panels import SOURCE
from queries import decisions
from style import TREATMENT


MONITOR = "http://localhost:8000"
"""Where people reach the monitor; a field of the dashboards, so that anybody can change it."""
TAG = "abmonitor"
OWN = shapes.DataSourceRef(type_val="grafana", uid="-- Grafana --")
REFRESH = "10s"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right as they fit."""

    title: str
    panels: Sequence[Builder[models.Panel]]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    since: str
    """How far back it looks at first, as `now-3h`."""
    variables: Sequence[Builder[models.VariableModel]]
    annotations: Sequence[Builder[models.AnnotationQuery]]
    links: Sequence[Builder[models.DashboardLink]]
    rows: Sequence[Row]

    def build(self) -> models.Dashboard:
        """It as Grafana reads it; panels are numbered in order, so that links to them stay."""
        made = builders.Dashboard(self.title).uid(self.uid).description(self.description)
        made.tags([TAG]).readonly().refresh(REFRESH).time(self.since, "now").timezone("browser")
        made.tooltip(models.DashboardCursorSync.CROSSHAIR)
        made.variables([source(), *self.variables, monitor()])
        made.annotations(list(self.annotations)).links([*between(), *self.links])
        for row in self.rows:
            made.with_row(builders.Row(row.title))
            for panel in row.panels:
                made.with_panel(panel)
        built = made.build()
        for number, each in enumerate(built.panels or (), 1):
            each.id_val = number
        return built


def source() -> builders.DatasourceVariable:
    """The Prometheus that is asked."""
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def monitor() -> builders.TextBoxVariable:
    """The monitor's address, for links."""
    return (
        builders.TextBoxVariable("monitor")
        .label("Monitor")
        .description("Where links to the monitor go: its address as your browser reaches it.")
        .default_value(MONITOR)
        .current(models.VariableOption(text=MONITOR, value=MONITOR, selected=True))
    )


def chosen(
    name: str,
    label: str,
    description: str,
    query: str,
    *,
    several: bool = False,
    first: str | None = None,
) -> builders.QueryVariable:
    """A variable whose values Prometheus knows; `first` is chosen at first, where it is one of them.

    With `several`, all of them are.
    """
    made = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query(query)
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
    )
    if first is not None:
        made.current(models.VariableOption(text=first, value=first, selected=True))
    if not several:
        return made
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return made.multi(multi=True).include_all(include_all=True).all_value(".+").current(everything)


def decided(where: str) -> builders.AnnotationQuery:
    """A line where the monitor decided something."""
    return (
        builders.AnnotationQuery()
        .name("Decisions")
        .enable(enable=True)
        .datasource(SOURCE)
        .icon_color(TREATMENT)
        .expr(decisions(where))
        .target(Dataquery().ref_id("Decisions").expr(decisions(where)).range())
        .title_format("{{variant}}: {{reason}}")
        .text_format("{{experiment}}")
        .tag_keys("reason")
        .step("15s")
    )


def noted(*tags: str) -> builders.AnnotationQuery:
    """A line where people, or hooks, left a note with these tags."""
    return (
        builders.AnnotationQuery()
        .name("Notes")
        .enable(enable=True)
        .datasource(OWN)
        .icon_color("#8E8E8E")
        .target(_tagged(tags))  # type: ignore[arg-type]  # Grafana's own source takes no query
    )


def _tagged(tags: Sequence[str]) -> builders.AnnotationTarget:
    made = builders.AnnotationTarget().type("tags").limit(100).match_any(match_any=False)
    return made.tags([TAG, *tags])


def between() -> list[builders.DashboardLink]:
    """The way to the other dashboards."""
    return [
        builders.DashboardLink("abmonitor")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(keep_time=True)
        .include_vars(include_vars=True)
        .as_dropdown(as_dropdown=False)
    ]


def to_monitor(title: str, path: str, icon: str = "external link") -> builders.DashboardLink:
    """A way to the monitor's own pages."""
    return (
        builders.DashboardLink(title)
        .type(models.DashboardLinkType.LINK)
        .url(f"${{monitor:raw}}{path}")
        .icon(icon)
        .target_blank(target_blank=True)
    )
