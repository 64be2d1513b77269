"""What users and their tools see: columns, explanations, scaling, waiting, and refusals that say what to do."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
import yaml

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import RolloutStrategy
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.render import EngineConfig, RenderInput, ResolvedRecipe, render
from e2e.support import COLLECTION, KINDS, Tenant, recipe_object
from testbed.api import ApiStatusError
from testbed.product import GROUP, ROOT, deployment, path
from unit.api_objects import SAMPLES, Sample

STRICT = "dryRun=All&fieldValidation=Strict"


def words(text: str) -> list[list[str]]:
    """Lines of a table as words."""
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["aimdeployments", "aimrecipes"])
def test_the_schemas_are_structural_and_the_names_accepted(tenant: Tenant, kind: str) -> None:
    crd = tenant.plane.request(
        "GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}.aim.engine.amd.com"
    )
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("aimdeployment", ("spec", "status", "best recipe")),
        (
            "aimdeployment.spec.recipe",
            ("autoSelect", "gpuModel", "fallback", "updatePolicy", "Requirements on the recipe"),
        ),
        ("aimdeployment.spec.cache.sizeGiB", ("GiB",)),
        ("aimdeployment.status.selection.candidates", ("remedy", "needed", "has")),
        ("aimrecipe.spec.performance.provenance", ("kind", "source")),
        ("aimrecipe.spec.hardware", ("gpuCount", "one node")),
    ],
)
def test_kubectl_explain_describes_fields(tenant: Tenant, field: str, parts: tuple[str, ...]) -> None:
    text = " ".join(tenant.plane.kubectl("explain", field).stdout.split())
    for part in parts:
        assert part in text
    assert "<no description>" not in text.lower()


def test_recipes_are_listed_with_their_columns(tenant: Tenant) -> None:
    name = tenant.corner(gpus=2, maturity="preview")
    tenant.deploy()
    tenant.wait_ready()
    tenant.wait_for(
        "the user to be counted", lambda: tenant.recipe(name).get("status", {}).get("usedBy") == 1
    )
    table = words(tenant.plane.kubectl("get", "aimrecipes", name).stdout)
    assert table[0] == [
        "NAME",
        "MODEL",
        "GPU",
        "COUNT",
        "PRECISION",
        "BACKEND",
        "MATURITY",
        "TOK/S",
        "FITS",
        "USED",
        "AGE",
    ]
    assert table[1][:7] == [name, tenant.model, "MI300X", "2", "bf16", "vllm", "preview"]
    assert table[1][-2] == "1"
    wide = words(tenant.plane.kubectl("get", "aimr", name, "-o", "wide").stdout)
    assert wide[0][-3:] == ["VALID", "OBSERVED", "NODES"]
    assert wide[1][-2] == "True"


def test_deployments_are_listed_with_their_columns(tenant: Tenant) -> None:
    recipe = tenant.corner(gpus=4)
    tenant.deploy()
    tenant.wait_ready()
    table = words(tenant.plane.kubectl("get", "aimd", "-n", tenant.namespace, "-o", "wide").stdout)
    columns = [
        "NAME",
        "READY",
        "MODEL",
        "RECIPE",
        "GPUS",
        "PRECISION",
        "REPLICAS",
        "TOK/S",
        "AGE",
        "REASON",
        "TIER",
        "URL",
    ]
    assert table[0] == columns
    filled = [column for column in columns if column != "TOK/S"]  # empty until it is measured
    row = dict(zip(filled, table[1], strict=True))
    assert (row["READY"], row["MODEL"], row["RECIPE"], row["GPUS"]) == (
        "True",
        tenant.model,
        recipe,
        "4xMI300X",
    )
    assert (row["PRECISION"], row["REPLICAS"], row["REASON"], row["TIER"]) == (
        "bf16",
        "1/1",
        "Serving",
        "Primary",
    )
    assert row["URL"] == f"http://app-service.{tenant.namespace}.svc:8000/v1"
    short = words(tenant.plane.kubectl("get", "aimdeployments", "-n", tenant.namespace).stdout)
    assert short[0] == columns[:9]


def test_the_category_lists_both_kinds(tenant: Tenant) -> None:
    recipe = tenant.corner()
    tenant.deploy()
    listed = tenant.plane.kubectl("get", "aim", "-n", tenant.namespace, "-o", "name").stdout.split()
    assert "aimdeployment.aim.engine.amd.com/app" in listed
    assert f"aimrecipe.aim.engine.amd.com/{recipe}" in listed


def test_kubectl_scale_scales_and_the_selector_selects_the_pods(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    tenant.plane.kubectl("scale", "aimd", "app", "--replicas=2", "-n", tenant.namespace)
    tenant.wait("two replicas to answer", lambda obj: obj["status"]["ready"] == "2/2")
    scale = tenant.plane.request("GET", path(tenant.namespace, "app", "scale"))
    assert scale["spec"]["replicas"] == 2
    assert scale["status"]["replicas"] == 2
    selected = tenant.plane.kubectl(
        "get", "pods", "-n", tenant.namespace, "-l", scale["status"]["selector"], "-o", "name"
    )
    assert len(selected.stdout.split()) == 2


def test_kubectl_wait_waits_for_ready(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    done = tenant.plane.kubectl(
        "wait", "--for=condition=Ready", "aimd/app", "-n", tenant.namespace, "--timeout=180s"
    )
    assert "condition met" in done.stdout


def test_field_selectors_find_by_model_gpu_and_recipe(tenant: Tenant) -> None:
    recipe = tenant.corner()
    tenant.deploy()
    tenant.wait_ready()

    def names(kind: str, selector: str) -> list[str]:
        answer = tenant.plane.kubectl("get", kind, "-A", "--field-selector", selector, "-o", "json").stdout
        return [item["metadata"]["name"] for item in json.loads(answer)["items"]]

    assert names("aimd", f"spec.model.id={tenant.model}") == ["app"]
    assert names("aimd", f"status.recipe.name={recipe}") == ["app"]
    assert names("aimr", f"spec.modelID={tenant.model},spec.precision=bf16") == [recipe]
    assert recipe in names("aimr", "spec.hardware.gpuModel=MI300X")
    assert names("aimr", f"spec.modelID={tenant.model},spec.precision=fp8") == []


def model(**recipe: Any) -> dict[str, Any]:
    return {"model": {"id": "example/x"}, "recipe": recipe}


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a name that is too long": ("a" * 56, model(), "at most 55 characters"),
    "a name with a dot": ("my.app", model(), "DNS label"),
    "a name that starts with a digit": ("1app", model(), "DNS label that starts with a letter"),
    "no model and no recipe": ("app", {}, "spec.model.id must be set unless"),
    "a recipe and a ConfigMap": ("app", model(name="a", configMap="b"), "exclude each other; keep one"),
    "a claim and a size": ("app", {**model(), "cache": {"existingClaim": "x", "sizeGiB": 5}}, "spec.cache.existingClaim excludes"),
    "a claim and a class": (
        "app", {**model(), "cache": {"existingClaim": "x", "storageClassName": "fast"}}, "spec.cache.existingClaim excludes",
    ),
    "negative replicas": ("app", {**model(), "replicas": -1}, "spec.replicas"),
    "too many replicas": ("app", {**model(), "replicas": 1001}, "spec.replicas"),
    "an unknown precision": ("app", model(precision="fp7"), "supported values"),
    "no model id": ("app", {"model": {"id": "a b"}}, "spec.model.id"),
    "a port out of range": ("app", {**model(), "service": {"port": 70000}}, "spec.service.port"),
    "a bad quantity": ("app", {**model(), "overrides": {"resources": {"cpu": "many"}}}, "spec.overrides.resources.cpu"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_one_object_can_prove_wrong_is_refused_with_a_message(tenant: Tenant, what: str) -> None:
    name, spec, part = REFUSED[what]
    body = deployment(name, tenant.namespace)
    body["spec"] = spec
    with pytest.raises(ApiStatusError) as refused:
        tenant.plane.request("POST", path(tenant.namespace), body)
    assert refused.value.code == http.client.UNPROCESSABLE_ENTITY
    assert part.lower() in refused.value.body["message"].lower()


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_api_server_judges_objects_as_the_command_line_judges_files(
    tenant: Tenant, sample: Sample
) -> None:
    """tests/unit/test_api_rules.py asks the command line's half the same."""
    kind = sample.obj["kind"]
    where = path(tenant.namespace) if kind == "AIMDeployment" else f"{GROUP}/aimrecipes"
    if sample.taken:
        tenant.plane.request("POST", f"{where}?{STRICT}", sample.obj)
        return
    with pytest.raises(ApiStatusError) as refused:
        tenant.plane.request("POST", f"{where}?{STRICT}", sample.obj)
    assert refused.value.code in (http.client.BAD_REQUEST, http.client.UNPROCESSABLE_ENTITY)


def test_a_name_of_the_greatest_length_works(tenant: Tenant) -> None:
    tenant.corner()
    name = "a" + "b" * 53 + "c"
    tenant.deploy(name)
    tenant.wait_ready(name)


def test_performance_without_provenance_is_refused(tenant: Tenant) -> None:
    body = recipe_object(f"{tenant.namespace}-x", tenant.model, performance=[{"tokensPerSecond": 100}])
    with pytest.raises(ApiStatusError, match="provenance"):
        tenant.plane.request("POST", f"{GROUP}/aimrecipes", body)


@pytest.mark.parametrize(
    "change", [{"modelID": "example/other"}, {"hardware": {"gpuModel": "MI325X"}}], ids=["model", "GPU model"]
)
def test_what_identifies_a_recipe_cannot_be_changed(tenant: Tenant, change: dict[str, Any]) -> None:
    name = tenant.add_recipe()
    with pytest.raises(ApiStatusError, match="create a new AIMRecipe instead"):
        tenant.change_recipe(name, **change)


def test_an_unknown_field_is_refused_by_strict_validation(tenant: Tenant) -> None:
    body = tenant.body()
    body["spec"]["recipe"] = {"gpuModle": "MI300X"}
    done = tenant.plane.kubectl("apply", "--validate=strict", "-f", "-", stdin=json.dumps(body), check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.recipe.gpuModle"' in done.stderr


def test_users_cannot_write_the_status_through_the_spec(tenant: Tenant) -> None:
    body = tenant.body(model="example/nobody")
    body["status"] = {"url": "http://evil.example.com"}
    created = tenant.plane.request("POST", path(tenant.namespace), body)
    assert created.get("status", {}).get("url") is None


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {
        "replicas": 3,
        "service": {"type": "NodePort", "port": 80, "annotations": {"example.com/a": "b"}},
    },
    "cached": {"cache": {"sizeGiB": 100, "accessMode": "ReadWriteMany", "storageClassName": "shared"}},
    "kept": {"cache": {"existingClaim": "weights"}},
    "secret": {"service": {"apiKeySecret": {"name": "key", "key": "value"}}},
    "tuned": {
        "workload": {"maxBatchSize": 8, "maxInputTokens": 1000, "maxOutputTokens": 500},
        "overrides": {
            "engineArgs": {"enable-prefix-caching": True, "compilation-config": {"level": 3}},
            "env": {"NCCL_DEBUG": "$(HOME)"},
            "resources": {"cpu": "0.5", "memory": "1e10"},
        },
    },
    "placed": {
        "rollout": {"strategy": "Surge"},
        "scheduling": {
            "tolerations": [
                {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
            ],
            "priorityClassName": "system-node-critical",
        },
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_rendered_passes_strict_validation(tenant: Tenant, variant: str) -> None:
    tenant.corner()
    tenant.create("PersistentVolumeClaim", claim("weights"))
    tenant.deploy(variant, recipe={"whenNoCapacity": "CreatePending"}, **VARIANTS[variant])
    ready = tenant.wait("a revision", lambda obj: obj.get("status", {}).get("recipe"), variant)
    assert ready["status"]["recipe"]["name"] == tenant.recipes[0]
    revision = tenant.find("ControllerRevision", ready["status"]["recipe"]["revision"])
    manifests = revision["data"]["manifests"]
    assert {m["kind"] for m in manifests} >= {"Deployment", "Service", "PodDisruptionBudget"}
    for manifest in manifests:
        body = {
            **manifest,
            "metadata": {**manifest["metadata"], "name": f"copy-of-{manifest['metadata']['name']}"[:60]},
        }
        accepted = tenant.plane.request(
            "POST", f"{KINDS[manifest['kind']].format(tenant.namespace)}?{STRICT}", body
        )
        assert accepted["kind"] == manifest["kind"]


def claim(name: str) -> dict[str, Any]:
    """A PersistentVolumeClaim."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


def enforce(tenant: Tenant, level: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level}
    tenant.plane.request("PATCH", f"/api/v1/namespaces/{tenant.namespace}", {"metadata": {"labels": labels}})
    spec = {"hostNetwork": True, "containers": [{"name": "main", "image": "example/job:1"}]}
    lax = {"metadata": {"name": "lax"}, "spec": spec}

    def refused() -> bool:
        try:
            tenant.plane.request("POST", f"{KINDS['Pod'].format(tenant.namespace)}?dryRun=All", lax)
        except ApiStatusError as error:
            return "violates PodSecurity" in str(error)
        return False

    tenant.wait_for(f"{level} to be enforced", refused)


def test_pods_run_in_a_namespace_that_enforces_baseline(tenant: Tenant) -> None:
    enforce(tenant, "baseline")
    tenant.corner()
    tenant.deploy(replicas=2)
    tenant.wait("two replicas to answer", lambda obj: obj.get("status", {}).get("ready") == "2/2")


def test_pods_are_refused_by_restricted_as_shipped_and_the_user_reads_why(tenant: Tenant) -> None:
    enforce(tenant, "restricted")
    tenant.corner()
    tenant.deploy()
    told = tenant.wait_reason("Available", "PodCreationRefused")
    text = next(c["message"] for c in told["status"]["conditions"] if c["type"] == "Available")
    assert "runAsNonRoot" in text


@pytest.mark.parametrize(
    "recipe_file", sorted((ROOT / "recipes").rglob("*-8x-*.yaml"))[:6], ids=lambda file: file.stem
)
def test_pods_pass_restricted_where_the_administrator_set_a_user(tenant: Tenant, recipe_file: Any) -> None:
    enforce(tenant, "restricted")
    spec = AIMRecipeSpec.model_validate(yaml.safe_load(recipe_file.read_text())["spec"])
    rendered = render(
        RenderInput(
            name="app", namespace=tenant.namespace, uid="0", spec=AIMDeploymentSpec(),
            recipe=ResolvedRecipe(recipe_file.stem, "0", spec, spec.engine_args, spec.env),
            gpu=gpu_catalog()[spec.hardware.gpu_model], resource="amd.com/gpu", replicas=1, strategy=RolloutStrategy.RECREATE,
            partition=spec.hardware.partition, config=EngineConfig(run_as_user=1000),
        )
    )  # fmt: skip
    template = rendered.deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", **template["metadata"]},
        "spec": template["spec"],
    }
    where = f"{KINDS['Pod'].format(tenant.namespace)}?{STRICT}"
    assert tenant.plane.request("POST", where, pod)["spec"]["securityContext"]["runAsNonRoot"] is True
    del pod["spec"]["securityContext"]["runAsNonRoot"]
    with pytest.raises(ApiStatusError, match="violates PodSecurity"):
        tenant.plane.request("POST", where, pod)


def test_the_shipped_catalogue_is_accepted_and_valid(tenant: Tenant) -> None:
    files = sorted((ROOT / "recipes").rglob("*.yaml"))
    names = [yaml.safe_load(file.read_text())["metadata"]["name"] for file in files]
    assert len(names) >= 20

    def judged() -> dict[str, Any]:
        found = {
            item["metadata"]["name"]: item
            for item in tenant.plane.request("GET", f"{GROUP}/aimrecipes")["items"]
        }
        return {
            name: next(c for c in found[name].get("status", {}).get("conditions", []) if c["type"] == "Valid")
            for name in names
        }

    tenant.wait_for(
        "every recipe to be judged",
        lambda: all(
            item.get("status", {}).get("conditions")
            for item in tenant.plane.request("GET", f"{GROUP}/aimrecipes")["items"]
            if item["metadata"]["name"] in names
        ),
        timeout=COLLECTION,
    )
    assert {name: c["message"] for name, c in judged().items() if c["status"] != "True"} == {}


@pytest.mark.parametrize(
    ("model_id", "node"),
    [
        ("Qwen/Qwen3-32B", "mi300x-8"),
        ("meta-llama/Llama-3.1-8B-Instruct", "mi210-4"),
        ("openai/gpt-oss-120b", "mi355x-8"),
    ],
)
def test_the_catalogue_serves_on_real_kinds_of_nodes(tenant: Tenant, model_id: str, node: str) -> None:
    tenant.add_node(node)
    tenant.deploy(model=model_id)
    status = tenant.wait_ready()["status"]
    assert status["recipe"]["modelID"] == model_id
    assert status["recipe"]["gpuModel"].lower() == node.partition("-")[0]
    assert not status["recipe"]["name"].startswith("generated/")
