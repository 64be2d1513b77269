"""Series of objects, kept as the bytes they are served as.

A cluster has thousands of deployments with some 37 series each. Written anew at every scrape they would hold the event loop for
seconds, and with it the Lease. So each object's lines are written once, when the object changes, and a scrape only joins bytes.

    store = SeriesStore(FAMILIES)
    store.put("performance", ("team-a", "chat"), [(TOKENS_PER_SECOND, ("team-a", "chat"), 1234.5)])
    store.drop("performance", ("team-a", "chat"))

`put` replaces all that was put for the same section and key: a series that is left out vanishes. Sections only keep writers apart,
so that two of them can show the same object.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from prometheus_client.utils import floatToGoString


def number(value: float) -> str:
    """A value or bucket bound as Prometheus' own clients write it: 1, 0.25, 2.0, +Inf."""
    if isinstance(value, int):
        return str(value)
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A gauge of objects: its name, meaning and labels in order."""

    name: str
    help: str
    labels: tuple[str, ...]
    per_object: str = "1"
    """How many series an object has, in words."""

    def line(self, values: tuple[str, ...], value: float) -> str:
        """One sample, in the form that the text format and OpenMetrics share."""
        if _is_special("".join(values)):
            values = tuple(_escaped(each) for each in values)
        return f"{_template(self) % values} {number(value)}\n"


Sample = tuple[Family, tuple[str, ...], float]
"""Family, label values in its order, value."""
_Entry = tuple[str, Hashable]


class SeriesStore:
    """Lines by family and object."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.families = tuple(families)
        self._lines: dict[Family, dict[_Entry, bytes]] = {family: {} for family in self.families}
        self._shown: dict[_Entry, tuple[Family, ...]] = {}
        self.rendered = 0
        """Objects written so far: a scrape of what did not change adds none."""

    def put(self, section: str, key: Hashable, samples: Iterable[Sample]) -> None:
        """Show exactly these samples for an object; KeyError for a family the store was not made with."""
        entry = (section, key)
        lines: dict[Family, list[str]] = {}
        for family, values, value in samples:
            lines.setdefault(family, []).append(family.line(values, value))
        for family in self._shown.get(entry, ()):
            if family not in lines:
                del self._lines[family][entry]
        for family, found in lines.items():
            self._lines[family][entry] = "".join(found).encode()
        self._shown[entry] = tuple(lines)
        self.rendered += 1

    def drop(self, section: str, key: Hashable) -> None:
        """Show the object no more; nothing happens where it was not shown."""
        entry = (section, key)
        for family in self._shown.pop(entry, ()):
            del self._lines[family][entry]

    def keys(self, section: str) -> list[Hashable]:
        """Objects shown in a section."""
        return [key for name, key in self._shown if name == section]

    def parts(self) -> Iterator[bytes]:
        """The page, a family at a time. Between two parts the store may change."""
        for family, lines in self._lines.items():
            if lines:
                yield f"# HELP {family.name} {_help(family.help)}\n# TYPE {family.name} gauge\n".encode()
                yield b"".join(lines.values())


@cache
def _template(family: Family) -> str:
    labels = ",".join(f'{label}="%s"' for label in family.labels)
    return f"{family.name}{{{labels}}}"


def _is_special(text: str) -> bool:
    return "\\" in text or '"' in text or "\n" in text


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
