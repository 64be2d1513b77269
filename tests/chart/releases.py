"""A chart as it was before this one, for tests of upgrades."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from chart.schema import HELM

OLD = "0.0.9"


def previous_chart(directory: Path) -> Path:
    """The chart as a release before this one: older version and image, a value less, a field less in a CRD."""
    chart = directory / "helm"
    shutil.copytree(HELM, chart)
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**meta, "version": OLD, "appVersion": OLD}))
    for name in ("guards.yaml", "tests/test.yaml"):
        (chart / "templates" / name).unlink()
    helpers = chart / "templates" / "operator.yaml"
    helpers.write_text(helpers.read_text().replace("{{ .Values.operator.replicas }}", "1"))
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    for content in (values["operator"], schema["properties"]["operator"]["properties"]):
        del content["replicas"]
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    (chart / "values.schema.json").write_text(json.dumps(schema))
    crd = chart / "crds" / "aimdeployments.yaml"
    content = yaml.safe_load(crd.read_text())
    del content["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
        "suspend"
    ]
    crd.write_text(yaml.safe_dump(content))
    return chart
