"""Queries of Prometheus' HTTP API."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT = 30.0


class PrometheusError(RuntimeError):
    """Prometheus cannot be reached, or refuses a query; the message has its words."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer. An instant query gives one point."""

    labels: Mapping[str, str]
    times: Sequence[float]
    """Seconds since the epoch."""
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Window:
    """The time range of a dashboard, in seconds since the epoch, and the time between two scrapes in seconds."""

    start: float
    end: float
    scrape_interval: float

    def step(self, points: int) -> float:
        """Seconds between two points of a curve of so many points; never shorter than a scrape."""
        return max(self.scrape_interval, math.ceil((self.end - self.start) / points))

    def rate_interval(self, points: int) -> int:
        """Grafana's `$__rate_interval` in seconds: wide enough to hold four scrapes."""
        return math.ceil(max(self.step(points) + self.scrape_interval, 4 * self.scrape_interval))


class Client:
    """Asks one Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def instant(self, expression: str, at: float) -> list[Series]:
        """The series of an expression at a time."""
        found = self._get("/api/v1/query", query=expression, time=f"{at:.3f}")
        if found["resultType"] == "scalar":
            return [Series({}, (at,), (float(found["result"][1]),))]
        return [Series(each["metric"], (at,), (float(each["value"][1]),)) for each in found["result"]]

    def range(self, expression: str, window: Window, step: float) -> list[Series]:
        """The series of an expression over a time range."""
        found = self._get(
            "/api/v1/query_range", query=expression, start=f"{window.start:.3f}", end=f"{window.end:.3f}", step=f"{step:g}"
        )  # fmt: skip
        return [
            Series(each["metric"], [float(t) for t, _ in each["values"]], [float(v) for _, v in each["values"]])
            for each in found["result"]
        ]  # fmt: skip

    def label_values(self, selector: str, label: str, window: Window) -> list[str]:
        """Values of a label among the series of a selector, sorted."""
        parameters = {"match[]": selector, "start": f"{window.start:.0f}", "end": f"{window.end:.0f}"}
        return sorted(self._get(f"/api/v1/label/{label}/values", **parameters))

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        if not url.startswith(("http://", "https://")):
            raise PrometheusError(f"'{self._url}' is no address of Prometheus; write http://HOST:9090")
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 (http and https only)
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            told = _words(error)
            if told is None:
                raise PrometheusError(
                    f"{self._url} answers {error.code} to {path}: is it Prometheus?"
                ) from error
            raise PrometheusError(f"Prometheus refuses {parameters.get('query', path)}: {told}") from error
        except (OSError, ValueError, KeyError) as error:
            raise PrometheusError(
                f"Prometheus at {self._url} does not answer as it should: {error}"
            ) from error


def _words(error: urllib.error.HTTPError) -> str | None:
    """What Prometheus says is wrong; None when that is not how Prometheus speaks."""
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return None
