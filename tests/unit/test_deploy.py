"""What is shipped beside the code: manifests, image, build files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine import __version__
from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.meta import LABEL_RECIPE
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import read_config_recipe
from aim_engine.reconcile.config import OperatorConfig

ROOT = Path(__file__).parents[2]
PATIENT = {**os.environ, "UV_HTTP_TIMEOUT": "120", "UV_HTTP_RETRIES": "10"}
"""For packages that are not in the cache: where they come from may be slow for a moment."""
MANIFESTS = ROOT / "deploy" / "manifests"
SAMPLES = ROOT / "deploy" / "samples"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def documents(directory: Path) -> list[dict[str, Any]]:
    found = [
        document
        for path in sorted(directory.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]
    assert found
    return found


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents(MANIFESTS) if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def operator_container() -> dict[str, Any]:
    pod = one("Deployment", "aim-engine-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return dict(container)


def test_the_shipped_configuration_is_accepted_by_the_operator() -> None:
    text = one("ConfigMap", "aim-engine-operator-config")["data"]["config.yaml"]
    config = OperatorConfig.strict_load(yaml.safe_load(text))
    container = operator_container()
    assert config.listen == f"0.0.0.0:{container['ports'][0]['containerPort']}"
    assert config.namespace == one("Deployment", "aim-engine-operator")["metadata"]["namespace"]
    mounted = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert container["env"] == [{"name": "AIM_ENGINE_CONFIG", "value": f"{mounted['config']}/config.yaml"}]


def test_the_role_covers_exactly_the_lease_of_the_configuration() -> None:
    rules = one("Role", "aim-engine-operator")["rules"]
    assert [r["resourceNames"] for r in rules if "resourceNames" in r] == [[OperatorConfig().lease.name]]


def test_everything_the_operator_watches_may_be_listed_and_watched() -> None:
    rules = one("ClusterRole", "aim-engine-operator")["rules"]
    for resource in [*resources.WATCHED, resources.NODES, resources.PODS]:
        verbs = {
            verb
            for rule in rules
            if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]
            for verb in rule["verbs"]
        }
        assert {"list", "watch"} <= verbs, resource


OWN_SECRET = {
    "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["aim-engine-recipe-validator-tls"], "verbs": ["get", "patch"],
}  # fmt: skip
OWN_WEBHOOKS = {
    "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
    "resourceNames": ["aim-engine-recipe-validator"], "verbs": ["get", "patch"],
}  # fmt: skip


def test_no_right_is_a_wildcard_and_the_validator_writes_two_objects_by_name() -> None:
    for document in documents(MANIFESTS):
        for rule in document.get("rules") or []:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if document["metadata"]["name"] == "aim-engine-recipe-validator" and rule in (
                OWN_SECRET,
                OWN_WEBHOOKS,
            ):
                continue
            assert not {
                "secrets",
                "pods/exec",
                "clusterroles",
                "roles",
                "validatingwebhookconfigurations",
            } & set(rule["resources"])


def test_every_kustomization_lists_every_file_beside_it() -> None:
    for directory in (MANIFESTS, ROOT / "crds"):
        listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
        beside = {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
        assert {name for name in listed if not name.startswith("..")} == beside


def test_the_image_has_the_version_of_the_code() -> None:
    (image,) = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == __version__
    assert operator_container()["image"] == f"{image['name']}:{__version__}"


def test_samples_are_readable_and_live_in_the_sample_namespace() -> None:
    for document in documents(SAMPLES):
        if document["kind"] == "Namespace":
            continue
        assert document["metadata"]["namespace"] == "aim-demo"
        match document["kind"]:
            case "AIMDeployment":
                AIMDeployment.from_object(document)
            case "ConfigMap":
                assert document["metadata"]["labels"][LABEL_RECIPE] == "true"
                assert isinstance(read_config_recipe(document), tuple)
            case other:
                raise AssertionError(other)


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name}\s+(.*)$", DOCKERFILE, re.MULTILINE)


def test_the_image_is_built_in_stages_from_one_base_that_can_be_replaced() -> None:
    (base,) = instructions("ARG")
    assert base.startswith("BASE=")
    assert re.fullmatch(r"BASE=[\w./-]+:(?!latest)[\w.-]+", base)
    assert instructions("FROM") == ["${BASE} AS build", "${BASE}"]


def test_the_image_runs_as_a_numeric_user_and_starts_the_operator() -> None:
    final = DOCKERFILE.rsplit("FROM", 1)[1]
    user = int(operator_container()["securityContext"].get("runAsUser", 65532))
    assert re.findall(r"^USER (\S+)$", final, re.MULTILINE) == [f"{user}:{user}"]
    assert 'ENTRYPOINT ["aim-engine"]' in final
    assert 'CMD ["operator"]' in final
    assert not re.search(r"apt|gcc|build-essential|^RUN", final, re.MULTILINE)
    assert re.findall(r"^COPY (.*)$", final, re.MULTILINE) == ["--from=build /opt/aim-engine /opt/aim-engine"]


def test_what_the_image_is_built_from_reaches_the_build() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word.removeprefix("./") for line in instructions("COPY") for word in line.split()[:-1]}
    copied = {word for word in copied if not word.startswith(("-", "/"))}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-runtime.lock"])
def test_locks_pin_by_hash_and_name_no_registry(name: str) -> None:
    text = (ROOT / name).read_text()
    pinned = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)
    assert len(pinned) > 20
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text
    assert "index-url" not in text


def test_the_runtime_lock_is_a_part_of_the_whole_lock() -> None:
    versions = [
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-runtime.lock", "requirements.lock")
    ]
    assert versions[0] < versions[1]


def test_the_bill_of_materials_has_every_locked_dependency_with_version_and_licence(tmp_path: Path) -> None:
    venv, bill = Path(sys.prefix), tmp_path / "sbom.cdx.json"
    settings = [f"VENV={venv}", f"SBOM={bill}", f"SBOM_ENV={tmp_path / 'env'}"]
    done = subprocess.run(
        ["make", "--old-file", str(venv / ".installed"), "sbom", *settings],
        cwd=ROOT, env=PATIENT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(bill.read_text())
    assert (content["bomFormat"], content["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    listed = {each["purl"]: each for each in content["components"]}
    lock = (ROOT / "requirements-runtime.lock").read_text()
    locked = re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", lock, re.MULTILINE)
    assert len(locked) > 20
    for name, version in locked:
        assert listed[f"pkg:pypi/{name}@{version}"]["licenses"], name
    assert content["dependencies"]
    assert str(tmp_path) not in bill.read_text()


def test_continuous_integration_runs_exactly_make_test() -> None:
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "make test"]
    assert os.access(script, os.X_OK)


def test_the_wheel_with_the_locked_dependencies_is_a_whole_operator(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, env=PATIENT, capture_output=True, text=True, cwd=tmp_path, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    recipes = {path.name for path in (ROOT / "recipes").glob("*/*.yaml")}
    assert recipes <= {Path(name).name for name in inside if name.startswith("aim_engine/data/recipes/")}
    assert "aim_engine/data/crds/aimdeployments.yaml" in inside
    assert "aim_engine/catalog/gpus.yaml" in inside
    assert not [name for name in inside if name.startswith("tests") or "__pycache__" in name]
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements-runtime.lock"
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock)
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    program = tmp_path / "venv" / "bin" / "aim-engine"
    run("/usr/bin/env", "-u", "PYTHONPATH", program, "operator", "--help")
    assert run("/usr/bin/env", "-u", "PYTHONPATH", program, "--version").strip() == __version__
    listed = run("/usr/bin/env", "-u", "PYTHONPATH", program, "recipes", "list")
    assert len(listed.splitlines()) == 1 + len(recipes)
    assert (program.parent / "kubectl-aim").exists()
