"""Dashboards as plain values, and their translation to Grafana's JSON."""

import json
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

WIDTH, HEIGHT = 24, 8
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Line:
    """A query; `legend` is Grafana's template over its labels."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True)
class Chart:
    """A panel; `unit` by Grafana's names ("s", "bytes", "reqps", "percentunit", "short")."""

    title: str
    about: str
    unit: str
    lines: tuple[Line, ...]
    number: bool = False
    """Shown as numbers, not as lines over time."""


@dataclass(frozen=True)
class Row:
    """Charts side by side under one heading."""

    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard. `jobs`: the services it is about, as a regular expression for the choice at the top."""

    uid: str
    title: str
    about: str
    jobs: str
    rows: tuple[Row, ...]


def to_json(board: Board) -> str:
    """Return the dashboard as Grafana provisions it."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["lensmesh"])
        .editable()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .link(_link_to_the_others())
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
        .with_variable(_choice("job", f'label_values(lensmesh_build_info{{job=~"{board.jobs}"}}, job)'))
        .with_variable(_choice("instance", 'label_values(lensmesh_build_info{job=~"$job"}, instance)'))
    )
    number = 1
    for row in board.rows:
        built = built.with_row(dashboard.Row(row.title).id(number))
        number += 1
        for chart in row.charts:
            built = built.with_panel(_panel(chart, number, WIDTH // len(row.charts)))
            number += 1
    encoded: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(built.build()))
    return json.dumps(encoded, indent=2, sort_keys=True) + "\n"


def _choice(name: str, query: str) -> dashboard.QueryVariable:
    """Return a list for the top of the dashboard, all values chosen at first.

    Its values come from Prometheus when the dashboard is opened.
    """
    choice = dashboard.QueryVariable(name).query(query).datasource(SOURCE).multi(True).include_all(True).all_value(".*")
    everything = VariableOption(selected=True, text="All", value="$__all")
    return choice.current(everything).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def _link_to_the_others() -> Any:
    return (
        dashboard.DashboardLink("lensmesh")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["lensmesh"])
        .keep_time(True)
        .include_vars(False)
    )


def _panel(chart: Chart, number: int, width: int) -> Any:
    panel: Any
    if chart.number:
        panel = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        panel = (
            timeseries.Panel().legend(legend.show_legend(True)).tooltip(tooltip).line_width(1).fill_opacity(8).min(0)
        )
    panel = panel.id(number).title(chart.title).description(chart.about).unit(chart.unit)
    panel = panel.datasource(SOURCE).span(width).height(HEIGHT)
    for letter, line in zip("ABCDEFGH", chart.lines, strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(line.expr).legend_format(line.legend)
        panel = panel.with_target(query.exemplar(line.exemplars))
    return panel
