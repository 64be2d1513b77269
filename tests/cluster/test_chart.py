"""The chart as users install it: the documented commands word for word, on a real node with real containers."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from cluster import images
from cluster.real import RealCluster
from testbed import foreign
from testbed.product import ROOT

pytestmark = pytest.mark.serial

NAMESPACE = "aim-engine"
DEPLOY = ROOT / "deploy"
CUSTOM_RECIPE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "custom-recipe", "namespace": NAMESPACE},
    "data": {
        "recipe.yaml": yaml.safe_dump(
            {
                "recipe_id": "qwen3-8b-team", "huggingface_id": "Qwen/Qwen3-8B", "hardware": "MI300X", "gpu_count": 1,
                "precision": "bfloat16", "backend": "vllm", "config": {"args": {"--max-model-len": 8192}},
            }
        )
    },
}  # fmt: skip
PATIENCE = 480
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """The cluster with the image of this source, GPUs on the real node, and simulated nodes with older ones beside it."""
    real_cluster.load(images.operator_image(), "aim-engine-operator:0.1.0")
    real_cluster.load(images.engine_image(), "vllm/vllm-openai-rocm:v0.32.0")
    real_cluster.set_gpus(16)
    real_cluster.add_nodes("mi210-4", "mi210-4")
    real_cluster.kubectl("create", "namespace", NAMESPACE)
    with real_cluster.default_namespace(NAMESPACE):
        yield real_cluster
    real_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def helm(cluster: RealCluster, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return cluster.run(["helm", *words], cwd=DEPLOY, check=check)


@pytest.fixture
def uninstalled(cluster: RealCluster) -> Iterator[None]:
    """Whatever a test installs goes afterwards, the owner of the operator last."""
    yield
    releases = json.loads(helm(cluster, "list", "-o", "json").stdout)
    for release in sorted((each["name"] for each in releases), key=lambda name: name == "aim-engine"):
        helm(cluster, "uninstall", release, "--wait")
    cluster.kubectl("delete", "configmap", "-n", NAMESPACE, "-l", "aim.engine.amd.com/recipe=decision")


def aimd(cluster: RealCluster, name: str = "aim-engine") -> Json:
    found: Json = cluster.request(
        "GET", f"/apis/aim.engine.amd.com/v1alpha1/namespaces/{NAMESPACE}/aimdeployments/{name}"
    )
    return found


def condition(obj: Json, kind: str) -> str | None:
    return next((c["status"] for c in obj.get("status", {}).get("conditions", []) if c["type"] == kind), None)


def ready(cluster: RealCluster, name: str = "aim-engine") -> Json:
    cluster.wait_for(
        lambda: condition(aimd(cluster, name), "Ready") == "True", PATIENCE, f"{name} to be ready"
    )
    return aimd(cluster, name)


Check = Callable[[RealCluster], None]


def selector_log(cluster: RealCluster, release: str = "aim-engine") -> str:
    return cluster.run(["kubectl", "logs", f"job/{release}-recipe-selector", "-n", NAMESPACE]).stdout


def served(cluster: RealCluster, release: str = "aim-engine") -> Json:
    """The release's deployment once it serves; its engine answers under the documented Service."""
    obj = ready(cluster, release)
    text = cluster.fetch_served(f"http://{release}-service.{NAMESPACE}.svc:8000/metrics")
    assert "vllm:num_requests_running" in text
    return obj


def test_auto_selection(cluster: RealCluster, uninstalled: None) -> None:
    done = helm(
        cluster,
        "install",
        "aim-engine",
        "./helm",
        "--set",
        "aim_engine.auto_select=true",
        "--set",
        "aim_engine.model_id=Qwen/Qwen3-32B",
    )
    assert "kubectl logs job/aim-engine-recipe-selector -n aim-engine" in done.stdout
    log = selector_log(cluster)
    for step in (
        "[1/6] GPUs of the cluster",
        "[2/6] The model",
        "[3/6]",
        "[4/6]",
        "[5/6] Free GPUs",
        "[6/6] The choice",
    ):
        assert step in log
    assert "MI300X: 16 on 1 nodes, 16 free" in log
    obj = served(cluster)
    record = yaml.safe_load(
        cluster.run(
            ["kubectl", "get", "configmap", "aim-engine-recipe-config", "-n", NAMESPACE, "-o", "yaml"]
        ).stdout
    )
    decision = yaml.safe_load(record["data"]["decision.yaml"])
    assert obj["status"]["recipe"]["name"] == decision["chosen"]["recipe"]
    assert "as recorded" in next(
        c["message"] for c in obj["status"]["conditions"] if c["type"] == "RecipeSelected"
    )
    assert yaml.safe_load(record["data"]["recipe.yaml"])["spec"]["modelID"] == "Qwen/Qwen3-32B"


def test_exact_requirements(cluster: RealCluster, uninstalled: None) -> None:
    helm(
        cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.auto_select=false", "--set", "aim_engine.gpu_count=4",
        "--set", "aim_engine.precision=bf16", "--set", "aim_engine.backend=vllm",
    )  # fmt: skip
    recipe = served(cluster)["status"]["recipe"]
    assert (recipe["gpuCount"], recipe["precision"], recipe["backend"]) == (4, "bf16", "vllm")


def test_overrides(cluster: RealCluster, uninstalled: None) -> None:
    helm(
        cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.auto_select=true", "--set", "aim_engine.overrides.gpu_count=8",
        "--set", "aim_engine.overrides.precision=fp16", "--set", "aim_engine.overrides.vllm_args.max_model_len=16384",
    )  # fmt: skip
    recipe = served(cluster)["status"]["recipe"]
    assert (recipe["gpuCount"], recipe["precision"]) == (8, "fp16")
    container = cluster.request("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aim-engine")[
        "spec"
    ]["template"]["spec"]["containers"][0]
    assert container["args"][container["args"].index("--max-model-len") + 1] == "16384"


def test_a_custom_recipe(cluster: RealCluster, uninstalled: None) -> None:
    cluster.apply(CUSTOM_RECIPE)
    helm(
        cluster,
        "install",
        "aim-engine",
        "./helm",
        "--set",
        "aim_engine.auto_select=false",
        "--set",
        "aim_engine.custom_recipe=custom-recipe",
    )
    assert served(cluster)["status"]["recipe"]["name"] == "configmap/custom-recipe"


def test_two_releases_share_one_operator(cluster: RealCluster, uninstalled: None) -> None:
    helm(
        cluster,
        "install",
        "aim-engine-qwen",
        "./helm",
        "--set",
        "aim_engine.model_id=Qwen/Qwen3-32B",
        "--set",
        "aim_engine.gpu_count=4",
    )
    helm(
        cluster, "install", "aim-engine-llama", "./helm", "--set", "aim_engine.model_id=meta-llama/Llama-2-70b-chat-hf",
        "--set", "aim_engine.gpu_count=8", "--set", "aim_engine.precision=fp16",
    )  # fmt: skip
    operators = cluster.run(
        ["kubectl", "get", "deployments", "-A", "-l", "app.kubernetes.io/component=operator", "-o", "name"]
    ).stdout.split()
    assert operators == ["deployment.apps/aim-engine-qwen-operator"]
    assert ready(cluster, "aim-engine-qwen")["status"]["recipe"]["gpuCount"] == 4
    llama = ready(cluster, "aim-engine-llama")["status"]["recipe"]
    assert (llama["gpuCount"], llama["precision"]) == (8, "fp16")
    refused = helm(cluster, "uninstall", "aim-engine-qwen", check=False)
    assert refused.returncode != 0
    assert "aim-engine/aim-engine-llama" in refused.stdout + refused.stderr
    helm(cluster, "uninstall", "aim-engine-llama", "--wait")


def test_tuning_then_debug_then_restore(cluster: RealCluster, uninstalled: None) -> None:
    helm(
        cluster, "install", "aim-engine", "./helm", "--set", "monitoring.enabled=true", "--set", "aim_engine.performance_tuning=true",
        "--set", "aim_engine.vllm_args.max_batch_size=64",
    )  # fmt: skip
    before = served(cluster)["status"]["recipe"]
    upgraded = helm(
        cluster,
        "upgrade",
        "aim-engine",
        "./helm",
        "--set",
        "aim_engine.debug=true",
        "--set",
        "aim_engine.log_level=DEBUG",
    )
    assert "overrides is kept as the installed release has it" in upgraded.stdout
    after = ready(cluster)
    assert after["spec"]["overrides"]["engineArgs"] == {"max-num-seqs": 64}
    assert after["status"]["recipe"]["name"] == before["name"]
    backup = cluster.run(["kubectl", "get", "configmap", "-n", NAMESPACE, "-o", "yaml"]).stdout
    cluster.run(["kubectl", "delete", "configmap", "aim-engine-recipe-config", "-n", NAMESPACE])
    cluster.run(["kubectl", "apply", "-f", "-"], stdin=backup)
    helm(cluster, "upgrade", "aim-engine", "./helm", "--set", "aim_engine.restore_from_backup=true")
    assert "is kept" in selector_log(cluster)
    assert ready(cluster)["status"]["recipe"]["name"] == before["name"]


def test_a_forgotten_requirement_is_refused_by_name(cluster: RealCluster, uninstalled: None) -> None:
    helm(cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.gpu_count=4")
    refused = helm(cluster, "upgrade", "aim-engine", "./helm", "--set", "aim_engine.debug=true", check=False)
    assert refused.returncode != 0
    assert "--reuse-values" in refused.stderr
    assert "recipe.gpuCount 4" in refused.stderr


def test_what_nothing_can_serve_fails_with_the_explanation(cluster: RealCluster, uninstalled: None) -> None:
    refused = helm(
        cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.model_id=Qwen/Qwen3-32B", "--set", "aim_engine.hardware.gpu_type=MI210",
        "--set", "aim_engine.precision=fp8", check=False,
    )  # fmt: skip
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "MI210 (gfx90a) cannot compute it" in said, said


def test_the_release_passes_its_own_test(cluster: RealCluster, uninstalled: None) -> None:
    helm(
        cluster,
        "install",
        "aim-engine",
        "./helm",
        "--set",
        "aim_engine.model_id=Qwen/Qwen3-32B",
        "--wait",
        "--timeout",
        "8m",
    )
    served(cluster)
    done = helm(cluster, "test", "aim-engine")
    for step in (
        "ok      a good AIMDeployment",
        "ok      a wrong one is refused",
        "ok      the operator's metrics",
        "ok      the model answers",
    ):
        assert step in done.stdout + done.stderr, done.stderr


def test_one_namespace_only(cluster: RealCluster, uninstalled: None) -> None:
    """With rights in its own namespace alone, all of the release does its work: hooks, operator, validator."""
    ours = f"watchNamespaces={{{NAMESPACE}}}"
    mark = cluster.audit.mark()
    helm(
        cluster,
        "install",
        "aim-engine",
        "./helm",
        "--set",
        ours,
        "--set",
        "aim_engine.model_id=Qwen/Qwen3-32B",
    )
    served(cluster)
    cluster.wait_deployment(NAMESPACE, "aim-engine-recipe-validator")
    cluster.wait_for(lambda: bool(webhooks(cluster)), PATIENCE, "the gate to be on")
    (selector,) = webhooks(cluster)[0]["namespaceSelector"]["matchExpressions"]
    assert selector["values"] == [NAMESPACE]
    helm(cluster, "upgrade", "aim-engine", "./helm", "--reuse-values", "--set", "aim_engine.debug=true")
    served(cluster)
    accounts = f"system:serviceaccount:{NAMESPACE}:aim-engine-"
    asked = [each for each in cluster.audit.records(mark) if each.user.startswith(accounts)]
    assert {"operator", "recipe-validator", "recipe-selector", "crd-upgrade"} <= {
        each.user.removeprefix(accounts) for each in asked
    }
    assert [each for each in asked if each.code == 403] == []
    assert {each.namespace for each in asked} <= {"", NAMESPACE}


def webhooks(cluster: RealCluster) -> list[Json]:
    """What the validator has filled in."""
    group = "/apis/admissionregistration.k8s.io/v1"
    found = cluster.request("GET", f"{group}/validatingwebhookconfigurations/aim-engine-recipe-validator")
    return list(found.get("webhooks", ()))


def install_monitoring_crds(cluster: RealCluster) -> None:
    wanted = ("servicemonitors", "podmonitors", "prometheusrules")
    files = [path for path in foreign.crds("prometheus-operator") if path.stem.split("_")[-1] in wanted]
    assert len(files) == len(wanted)
    cluster.apply(*files)
    cluster.establish_crds()


VERIFICATION = [
    ("kubectl get configmap aim-engine-recipe-config -n aim-engine -o yaml", "decision.yaml"),
    ("kubectl get servicemonitor -n aim-engine", "aim-engine-operator"),
    ("kubectl get prometheusrule -n aim-engine", "aim-engine-alerts"),
    ("kubectl get configmap -n aim-engine | grep recipe", "aim-engine-recipe-config"),
    ("kubectl describe deployment aim-engine -n aim-engine; kubectl get events -n aim-engine", "vllm"),
    (
        "kubectl logs deployment/aim-engine-recipe-validator -n aim-engine",
        "webhook configuration aim-engine-recipe-validator is on",
    ),
    ("kubectl get validatingwebhookconfiguration | grep aim-engine", "aim-engine-recipe-validator"),
]


def shows(cluster: RealCluster, command: str, expected: str) -> bool:
    return expected in cluster.run(["bash", "-c", command], check=False).stdout


def test_monitoring_and_admission_and_the_commands_to_look_at_them(
    cluster: RealCluster, uninstalled: None
) -> None:
    install_monitoring_crds(cluster)
    helm(
        cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.auto_select=true", "--set", "monitoring.enabled=true",
        "--set", "admission_controller.enabled=true", "--set", "aim_engine.model_id=Qwen/Qwen3-32B",
    )  # fmt: skip
    served(cluster)
    for command, expected in VERIFICATION:
        show = functools.partial(shows, cluster, command, expected)
        cluster.wait_for(show, 240, f"{command} to show {expected}")
    forward = ["kubectl", "port-forward", "service/aim-engine-service", "8000:8000", "-n", NAMESPACE]
    with cluster.background(forward):
        cluster.wait_for(
            lambda: cluster.fetch("http://localhost:8000/metrics")[0] == 200, 240, "the port to be forwarded"
        )


def test_an_uninstalled_release_leaves_what_is_documented(cluster: RealCluster) -> None:
    helm(cluster, "install", "aim-engine", "./helm", "--set", "aim_engine.model_id=Qwen/Qwen3-32B")
    ready(cluster)
    helm(cluster, "uninstall", "aim-engine", "--wait")
    with contextlib.suppress(AssertionError):
        cluster.wait_for(lambda: left(cluster) == LEFT, 180, "the rest to be collected")
    assert left(cluster) == LEFT


LEFT = {"configmap/aim-engine-recipe-config"}


def left(cluster: RealCluster) -> set[str]:
    """What of ours is in the namespace and, beside CRDs and recipes, in the cluster."""
    kinds = "all,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,controllerrevision,pvc"
    found = cluster.run(["kubectl", "get", kinds, "-n", NAMESPACE, "-o", "name"]).stdout.split()
    wide = "clusterrole,clusterrolebinding,validatingwebhookconfiguration"
    found += cluster.run(
        ["kubectl", "get", wide, "-l", "app.kubernetes.io/name=aim-engine", "-o", "name"]
    ).stdout.split()
    mine = {"configmap/kube-root-ca.crt", "serviceaccount/default", "configmap/custom-recipe"}
    return {name for name in found if name not in mine and "/sh.helm.release" not in name}
