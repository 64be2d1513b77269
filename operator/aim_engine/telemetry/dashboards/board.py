"""A whole dashboard: rows of panels laid out in Grafana's grid, variables, and links to its sisters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aim_engine.telemetry.dashboards.panels import DATASOURCE, Panel
from aim_engine.telemetry.dashboards.style import Json

COLUMNS = 24
TAG = "aim-engine"
SCHEMA_VERSION = 42
"""Of Grafana 12, which reads older ones and is read by Grafana 11."""
BUILT_IN = {
    "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": True, "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading; "" for none. They flow from left to right, those of one line being equally high."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard. `uid` is what links name, and stays whatever the title becomes."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Json]
    since: str = "now-3h"
    """Start of the time range at first."""


def document(board: Board) -> Json:
    """The dashboard as Grafana stores it: the bare object, as provisioning by file or ConfigMap needs it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "refresh": "30s",
        "time": {"from": board.since, "to": "now"},
        "annotations": {"list": [BUILT_IN]},
        "links": [_sisters()],
        "templating": {"list": [_datasource(), *board.variables]},
        "panels": list(_placed(board.rows)),
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    number = y = 0
    for row in rows:
        if row.title:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
            y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            if height and panel.height != height:
                raise ValueError(
                    f"panel '{panel.body['title']}' is {panel.height} high in a line that is {height} high"
                )
            number += 1
            height = panel.height
            yield {
                "id": number,
                **panel.body,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
            }
            x += panel.width
        y += height


def _sisters() -> Json:
    return {
        "type": "dashboards", "title": "AIM Engine", "tags": [TAG], "asDropdown": True, "includeVars": True, "keepTime": True,
        "icon": "external link", "tooltip": "The other dashboards of AIM Engine", "targetBlank": False, "url": "",
    }  # fmt: skip


def _datasource() -> Json:
    return {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "regex": "", "hide": 0,
        "refresh": 1, "multi": False, "includeAll": False, "skipUrlSync": False, "options": [],
        "current": {"selected": False, "text": "default", "value": "default"},
    }  # fmt: skip


def chosen(name: str, label: str, query: str, *, many: bool = True, listed: bool = False) -> Json:
    """A variable whose values Prometheus tells. `many` allows several and all; "all" is `.*`, or with `listed` each of them."""
    every: Json = {"allValue": ".*"} if many and not listed else {}
    current: Json = (
        {"selected": True, "text": ["All"], "value": ["$__all"]}
        if many
        else {"selected": False, "text": "", "value": ""}
    )
    return {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"}, "refresh": 2, "sort": 1, "regex": "", "hide": 0,
        "multi": many, "includeAll": many, **every, "skipUrlSync": False, "options": [], "current": current,
    }  # fmt: skip


def typed(name: str, label: str, about: str) -> Json:
    """A variable that a user types; empty at first."""
    return {
        "type": "textbox", "name": name, "label": label, "description": about, "query": "", "hide": 0, "skipUrlSync": False,
        "options": [{"selected": True, "text": "", "value": ""}], "current": {"selected": True, "text": "", "value": ""},
    }  # fmt: skip


def link_to(uid: str, **variables: str) -> str:
    """URL of another board within the same time range, with some of its variables set."""
    pairs = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}?${{__url_time_range}}&var-datasource=${{datasource}}{pairs}"
