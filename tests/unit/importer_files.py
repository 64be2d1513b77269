"""Files of other projects in their real shape, for tests of the importers."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

from aim_engine.api.configmap_yaml import RefusedError, load
from aim_engine.importers.results import SourceFile

_BESIDE = Path(__file__).parents[3] / "shared" / "data"
_SHARED = Path(os.environ.get("AIM_SHARED_DATA", _BESIDE))


def shared_data(name: str) -> Path:
    """The folder of a source as its project publishes it; skips the test where this machine has none."""
    if not (_SHARED / name).is_dir():
        pytest.skip(f"{name} is not on this machine; name its parent folder in AIM_SHARED_DATA")
    return _SHARED / name


def source_file(path: str, text: str) -> SourceFile:
    """A file with this text, read as the command reads it."""
    try:
        return SourceFile(path, load(dedent(text)))
    except RefusedError as refused:
        return SourceFile(path, refused.faults.errors[0])
