"""Builders of panels. Each gives a panel as Grafana stores it, without its place and number: the board adds those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aim_engine.telemetry.dashboards.style import COUNT, GREEN, NEUTRAL, TEXT, Json, Thresholds

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One query. `legend` names its series, with `{{label}}` for the value of a label."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel and its size in columns (24 make the board's width) and rows of 30 pixels."""

    body: Json
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a label, or the value of the query named in `Table`'s `queries`."""

    field: str
    title: str
    unit: str = TEXT
    width: int | None = None
    decimals: int | None = None
    thresholds: Thresholds | None = None
    mappings: tuple[Json, ...] = ()
    cell: Literal["", "auto", "color-text", "color-background", "gauge"] = ""
    """How it is drawn: "" as text, "auto" as text in several lines, or another cell type of Grafana's."""
    limits: tuple[float, float] | None = None
    """Smallest and largest value, for gauges."""
    link: tuple[str, str] | None = None
    """Title and URL of what a click opens."""


def thresholds(steps: Thresholds) -> Json:
    """Grafana's form of thresholds."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _targets(targets: Sequence[Target], *, instant: bool = False, form: str = "time_series") -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": target.expr,
            "legendFormat": target.legend or "__auto",
            "editorMode": "code",
            "instant": instant,
            "range": not instant,
            "format": form,
        }
        for index, target in enumerate(targets)
    ]


def _panel(kind: str, title: str, about: str, size: tuple[int, int], **more: Any) -> Panel:
    body = {"type": kind, "title": title, "description": about, "datasource": DATASOURCE, **more}
    return Panel(body=body, width=size[0], height=size[1])


def _reduced(calculation: str = "lastNotNull") -> Json:
    return {"calcs": [calculation], "fields": "", "values": False}


def stat(
    title: str, about: str, *targets: Target, unit: str = COUNT, steps: Thresholds = NEUTRAL, decimals: int | None = None,
    mappings: Sequence[Json] = (), text: str = "auto", graph: bool = False, filled: bool = False,
    empty: str = "–", link: tuple[str, str] | None = None, size: tuple[int, int] = (3, 4),
) -> Panel:  # fmt: skip
    """A number in large print. `text="name"` shows the series' name instead, `graph` its course, `filled` a coloured ground."""
    defaults: Json = {
        "unit": unit, "thresholds": thresholds(steps), "color": {"mode": "thresholds"}, "mappings": list(mappings),
        "noValue": empty,
    }  # fmt: skip
    if decimals is not None:
        defaults["decimals"] = decimals
    if link:
        defaults["links"] = [_link(*link)]
    options = {
        "reduceOptions": _reduced(), "colorMode": "background" if filled else "value", "graphMode": "area" if graph else "none",
        "justifyMode": "center", "textMode": text, "orientation": "auto", "wideLayout": True, "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }  # fmt: skip
    queries = _targets(targets, instant=not graph)
    return _panel(
        "stat",
        title,
        about,
        size,
        targets=queries,
        options=options,
        fieldConfig={"defaults": defaults, "overrides": []},
    )


def line(pattern: str, colour: str, *, dashed: bool = True) -> Json:
    """An override that draws the series whose names match as a line of its own, such as an expected value."""
    style = {"fill": "dash", "dash": [10, 8]} if dashed else {"fill": "solid"}
    return _override(
        "byRegexp",
        pattern,
        {
            "color": {"mode": "fixed", "fixedColor": colour}, "custom.lineStyle": style, "custom.fillOpacity": 0,
            "custom.lineWidth": 2, "custom.stacking": {"mode": "none", "group": "A"},
        },
    )  # fmt: skip


def coloured(pattern: str, colour: str) -> Json:
    """An override that gives the series whose names match a fixed colour."""
    return _override("byRegexp", pattern, {"color": {"mode": "fixed", "fixedColor": colour}})


def _override(matcher: str, options: str, properties: Mapping[str, Any]) -> Json:
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def timeseries(
    title: str, about: str, *targets: Target, unit: str = COUNT, stacked: bool = False, bars: bool = False,
    steps: Thresholds | None = None, top: float | None = None, overrides: Sequence[Json] = (), calcs: Sequence[str] = ("mean", "lastNotNull"),
    mappings: Sequence[Json] = (), link: tuple[str, str] | None = None, fill: bool = True, size: tuple[int, int] = (12, 8),
) -> Panel:  # fmt: skip
    """Curves over time with a table of them below. `steps` are drawn as lines, `top` ends the axis; many curves are legible without `fill`."""
    custom = {
        "drawStyle": "bars" if bars else "line", "lineInterpolation": "linear", "lineWidth": 1 if stacked or bars else 2,
        "fillOpacity": 70 if bars else 45 if stacked else 8 if fill else 0, "gradientMode": "none", "showPoints": "never", "pointSize": 5,
        "spanNulls": False, "axisPlacement": "auto", "axisLabel": "", "axisSoftMin": 0, "barAlignment": 0,
        "scaleDistribution": {"type": "linear"}, "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"}, "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    }  # fmt: skip
    defaults: Json = {
        "unit": unit, "color": {"mode": "palette-classic"}, "custom": custom, "mappings": list(mappings),
        "thresholds": thresholds(steps or ((None, GREEN),)), "min": 0,
    }  # fmt: skip
    if top is not None:
        defaults["max"] = top
    if link:
        defaults["links"] = [_link(*link)]
    options = {
        "legend": {
            "displayMode": "table" if calcs else "list", "placement": "bottom", "showLegend": True, "calcs": list(calcs),
            **({"sortBy": "Last *", "sortDesc": True} if "lastNotNull" in calcs else {}),
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip
    return _panel(
        "timeseries",
        title,
        about,
        size,
        targets=_targets(targets),
        options=options,
        fieldConfig={"defaults": defaults, "overrides": list(overrides)},
    )


def bar_gauge(
    title: str, about: str, *targets: Target, unit: str = COUNT, steps: Thresholds = NEUTRAL, limits: tuple[float, float] | None = None,
    size: tuple[int, int] = (12, 8),
) -> Panel:  # fmt: skip
    """One horizontal bar for each series, of its present value."""
    defaults: Json = {
        "unit": unit, "thresholds": thresholds(steps), "color": {"mode": "thresholds"}, "mappings": [], "min": 0,
        "noValue": "–",
    }  # fmt: skip
    if limits:
        defaults["min"], defaults["max"] = limits
    options = {
        "reduceOptions": _reduced(), "displayMode": "gradient", "orientation": "horizontal", "showUnfilled": True, "valueMode": "color",
        "namePlacement": "left", "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }  # fmt: skip
    return _panel(
        "bargauge",
        title,
        about,
        size,
        targets=_targets(targets, instant=True),
        options=options,
        fieldConfig={"defaults": defaults, "overrides": []},
    )


def donut(
    title: str, about: str, *targets: Target, overrides: Sequence[Json] = (), unit: str = COUNT, decimals: int = 0, size: tuple[int, int] = (6, 8)
) -> Panel:  # fmt: skip
    """Shares of a whole, with their values in the legend."""
    defaults = {
        "unit": unit,
        "decimals": decimals,
        "color": {"mode": "palette-classic"},
        "mappings": [],
        "noValue": "–",
    }
    options = {
        "reduceOptions": _reduced(), "pieType": "donut", "displayLabels": [], "orientation": "auto",
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "calcs": [], "values": ["value", "percent"]},
        "tooltip": {"mode": "single", "sort": "none"},
    }  # fmt: skip
    return _panel(
        "piechart",
        title,
        about,
        size,
        targets=_targets(targets, instant=True),
        options=options,
        fieldConfig={"defaults": defaults, "overrides": list(overrides)},
    )


def timeline(
    title: str, about: str, *targets: Target, mappings: Sequence[Json], size: tuple[int, int] = (12, 8)
) -> Panel:
    """One band for each series, coloured by its state at each time."""
    defaults = {
        "unit": "none", "color": {"mode": "thresholds"}, "thresholds": thresholds(((None, GREEN),)), "mappings": list(mappings),
        "custom": {"lineWidth": 0, "fillOpacity": 75, "spanNulls": False, "insertNulls": False, "hideFrom": {"legend": False, "tooltip": False, "viz": False}},
    }  # fmt: skip
    options = {
        "showValue": "never", "rowHeight": 0.8, "mergeValues": True, "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }  # fmt: skip
    return _panel(
        "state-timeline",
        title,
        about,
        size,
        targets=_targets(targets),
        options=options,
        fieldConfig={"defaults": defaults, "overrides": []},
    )


def heatmap(title: str, about: str, target: Target, *, unit: str, size: tuple[int, int] = (12, 8)) -> Panel:
    """A histogram over time: `target` gives the increase of each bucket, by `le`."""
    options = {
        "calculate": False, "cellGap": 1, "filterValues": {"le": 1e-9}, "rowsFrame": {"layout": "auto"},
        "color": {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "reverse": False, "exponent": 0.5, "steps": 64, "scale": "exponential"},
        "yAxis": {"unit": unit, "axisPlacement": "left", "reverse": False}, "cellValues": {"unit": COUNT}, "showValue": "never",
        "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
    }  # fmt: skip
    defaults = {
        "unit": COUNT,
        "custom": {
            "scaleDistribution": {"type": "linear"},
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        },
    }
    return _panel(
        "heatmap",
        title,
        about,
        size,
        targets=_targets([target], form="heatmap"),
        options=options,
        fieldConfig={"defaults": defaults, "overrides": []},
    )


def table(
    title: str, about: str, queries: Mapping[str, str], columns: Sequence[Column], *, sort: str = "", descending: bool = True,
    empty: str = "–", size: tuple[int, int] = (24, 8),
) -> Panel:  # fmt: skip
    """One row for each object: the queries' answers joined by the labels they share.

    `queries` names each query, and a column whose field is that name shows its value; the value of one without a column
    is hidden. A label without a column would be shown, so the queries keep only labels with one.
    """
    letters = {name: chr(ord("A") + index) for index, name in enumerate(queries)}
    fields = {name: f"Value #{letter}" if len(letters) > 1 else "Value" for name, letter in letters.items()}
    shown = [fields.get(column.field, column.field) for column in columns]
    hidden = [field for name, field in fields.items() if name not in {column.field for column in columns}]
    organize: Json = {
        "excludeByName": dict.fromkeys(["Time", *hidden], True),
        "indexByName": {name: index for index, name in enumerate(shown)},
        "renameByName": {name: column.title for name, column in zip(shown, columns, strict=True)},
    }
    transformations = [*([{"id": "merge", "options": {}}] if len(letters) > 1 else []), {"id": "organize", "options": organize}]  # fmt: skip
    defaults: Json = {
        "unit": COUNT, "noValue": empty, "mappings": [], "thresholds": thresholds(((None, GREEN),)), "color": {"mode": "thresholds"},
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": True},
    }  # fmt: skip
    options = {
        "showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        "sortBy": [{"displayName": sort or columns[0].title, "desc": bool(sort) and descending}],
    }  # fmt: skip
    return _panel(
        "table",
        title,
        about,
        size,
        targets=_targets([Target(expr=expr) for expr in queries.values()], instant=True, form="table"),
        transformations=transformations,
        options=options,
        fieldConfig={"defaults": defaults, "overrides": [_column(column) for column in columns]},
    )


def _column(column: Column) -> Json:
    properties: Json = {"unit": column.unit}
    if column.width:
        properties["custom.width"] = column.width
    if column.decimals is not None:
        properties["decimals"] = column.decimals
    if column.thresholds:
        properties["thresholds"] = thresholds(column.thresholds)
    if column.mappings:
        properties["mappings"] = list(column.mappings)
    if column.cell:
        properties["custom.cellOptions"] = _cell(column.cell)
    if column.limits:
        properties["min"], properties["max"] = column.limits
    if column.link:
        properties["links"] = [_link(*column.link)]
    return _override("byName", column.title, properties)


def _cell(kind: str) -> Json:
    more: Mapping[str, Json] = {
        "gauge": {"mode": "gradient", "valueDisplayMode": "text"},
        "color-background": {"mode": "gradient"},
        "auto": {"wrapText": True},
    }
    return {"type": kind, **more.get(kind, {})}


def _link(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": False}
