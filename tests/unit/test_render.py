"""Rendering: golden manifests, byte stability, precedence, Pod Security, and affinity that agrees with the inventory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import RolloutStrategy
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.inventory import read_node
from aim_engine.inventory.labels import product_name_values
from aim_engine.render import EngineConfig, Manifests, RenderInput, ResolvedRecipe, render, to_yaml
from aim_engine.render.names import label_value

GOLDEN = Path(__file__).parents[1] / "golden"
GIB = 2**30


def recipe(**changes: Any) -> AIMRecipeSpec:
    base = {
        "modelID": "Qwen/Qwen3-32B",
        "hardware": {"gpuModel": "MI300X", "gpuCount": 2},
        "precision": "bf16",
        "engineArgs": {"max-model-len": 32768, "async-scheduling": True},
        "env": {"VLLM_ROCM_USE_AITER": "1"},
        "resources": {"cpu": "16", "memory": "128Gi"},
    }
    return AIMRecipeSpec.strict_load({**base, **changes})


def inputs(
    spec: dict[str, Any] | None = None,
    chosen: AIMRecipeSpec | None = None,
    *,
    config: EngineConfig | None = None,
    **changes: Any,
) -> RenderInput:
    content = chosen or recipe()
    resolved = ResolvedRecipe(
        "qwen3-32b-mi300x-2-bf16", "0123456789ab", content, content.engine_args, content.env
    )
    values: dict[str, Any] = {
        "name": "qwen",
        "namespace": "team-a",
        "uid": "11111111-2222-3333-4444-555555555555",
        "spec": AIMDeploymentSpec.strict_load({"model": {"id": "Qwen/Qwen3-32B"}, **(spec or {})}),
        "recipe": resolved,
        "gpu": gpu_catalog()[content.hardware.gpu_model],
        "resource": "amd.com/gpu",
        "replicas": 1,
        "strategy": RolloutStrategy.RECREATE,
        "checkpoint_bytes": 65_524_000_000,
        "config": config or EngineConfig(),
    }
    return RenderInput(**{**values, **changes})


def pod_of(manifests: Manifests) -> dict[str, Any]:
    pod: dict[str, Any] = manifests.deployment["spec"]["template"]["spec"]
    return pod


def container_of(manifests: Manifests) -> dict[str, Any]:
    (container,) = pod_of(manifests)["containers"]
    assert isinstance(container, dict)
    return container


def env_of(manifests: Manifests) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container_of(manifests)["env"]
    }


CASES = {
    "minimal": inputs(),
    "everything": inputs(
        {
            "model": {"id": "Qwen/Qwen3-32B", "revision": "abc123", "tokenSecret": {"name": "hf", "key": "token"}},
            "overrides": {"resources": {"cpu": "24", "memory": "20Gi"}, "image": "registry.example.com/vllm:custom"},
            "workload": {"maxOutputTokens": 8192},
            "cache": {"storageClassName": "fast", "accessMode": "ReadWriteMany", "retain": False},
            "service": {
                "port": 80,
                "type": "LoadBalancer",
                "annotations": {"example.com/a": "b"},
                "apiKeySecret": {"name": "keys", "key": "api"},
            },
            "scheduling": {
                "nodeSelector": {"rack": "a"},
                "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
                "priorityClassName": "high",
            },
        },
        recipe(source="Qwen/Qwen3-32B-FP8", precision="fp8"),
        config=EngineConfig(
            run_as_user=1000,
            supplemental_groups=(44, 109),
            image_pull_secrets=("pull",),
            hugging_face_endpoint="https://hub.example.com",
            gpu_labels={"example.com/gpu=big": "MI300X", "example.com/gpu=old": "MI210"},
        ),
        replicas=3,
        strategy=RolloutStrategy.SURGE,
    ),
    "partition": inputs(
        {"cache": {}},
        recipe(hardware={"gpuModel": "MI300X", "gpuCount": 1, "partition": "cpx_nps4"}),
        partition="cpx_nps4",
        replicas=2,
    ),
    "mixed-strategy": inputs(resource="amd.com/spx_nps1", config=EngineConfig(image_registry="mirror.example.com/hub")),
    "mi210": inputs({"cache": {"existingClaim": "weights"}}, recipe(hardware={"gpuModel": "MI210", "gpuCount": 4})),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_manifests_equal_the_golden_file(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    rendered = to_yaml(render(CASES[case]))
    if os.environ.get("AIM_UPDATE_GOLDEN"):
        path.write_text(rendered, encoding="utf-8")
    assert rendered == path.read_text(encoding="utf-8"), (
        "set AIM_UPDATE_GOLDEN=1 to accept, and raise RENDERER_VERSION"
    )


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["max-model-len", "max-num-seqs", "block-size"]), st.integers(1, 9999)),
    st.dictionaries(st.sampled_from(["VLLM_A", "VLLM_B", "NCCL_C"]), st.text("abc$()", max_size=6)),
    st.dictionaries(st.sampled_from(["rack", "zone", "disk"]), st.sampled_from(["a", "b"])),
)
def test_the_order_in_which_things_were_written_does_not_matter(
    args: dict[str, Any], env: dict[str, str], selector: dict[str, str]
) -> None:
    def turned(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return dict(reversed(list(mapping.items())))

    def manifests(*parts: Mapping[str, Any]) -> str:
        spec = {"scheduling": {"nodeSelector": dict(parts[2])}}
        return to_yaml(render(inputs(spec, recipe(engineArgs=dict(parts[0]), env=dict(parts[1])))))

    assert manifests(args, env, selector) == manifests(turned(args), turned(env), turned(selector))


def test_overrides_win_over_the_recipe_and_the_recipe_over_the_engine() -> None:
    plain, overridden = CASES["minimal"], CASES["everything"]
    assert container_of(render(plain))["image"].startswith("vllm/vllm-openai-rocm:v")
    assert (
        container_of(render(inputs(chosen=recipe(image="example.com/own:1"))))["image"] == "example.com/own:1"
    )
    assert container_of(render(overridden))["image"] == "registry.example.com/vllm:custom"
    assert container_of(render(plain))["resources"]["limits"] == {
        "amd.com/gpu": "2",
        "cpu": "16",
        "memory": "128Gi",
    }
    assert container_of(render(overridden))["resources"]["limits"]["memory"] == "20Gi"
    assert (
        env_of(render(inputs(chosen=recipe(env={"VLLM_NO_USAGE_STATS": "0"}))))["VLLM_NO_USAGE_STATS"] == "0"
    )


def test_what_the_operator_owns_cannot_be_overridden() -> None:
    hostile = recipe(
        env={"HF_HOME": "/tmp/x", "HOME": "/root", "HF_TOKEN": "stolen"},  # noqa: S108
        engineArgs={"host": "::1", "port": 1, "served-model-name": "x", "tensor-parallel-size": 1},
    )
    secret = {"model": {"id": "Qwen/Qwen3-32B", "tokenSecret": {"name": "hf", "key": "token"}}}
    manifests = render(inputs(secret, hostile))
    env = env_of(manifests)
    assert (env["HF_HOME"], env["HOME"]) == ("/cache/huggingface", "/scratch")
    assert env["HF_TOKEN"] == {"secretKeyRef": {"key": "token", "name": "hf", "optional": False}}
    args = container_of(manifests)["args"]
    assert args[args.index("--port") + 1] == "8000"
    assert args[args.index("--tensor-parallel-size") + 1] == "2"
    assert args[args.index("--served-model-name") + 1] == "Qwen/Qwen3-32B"


def test_text_that_looks_like_a_variable_is_not_expanded_by_the_kubelet() -> None:
    chosen = recipe(engineArgs={"chat-template-content-format": "$(HF_TOKEN)"}, env={"A": "$(B)"})
    manifests = render(inputs(chosen=chosen))
    assert "$$(HF_TOKEN)" in " ".join(container_of(manifests)["args"])
    assert env_of(manifests)["A"] == "$$(B)"


@pytest.mark.parametrize("case", sorted(CASES))
def test_pods_pass_pod_security_baseline_and_hold_no_token(case: str) -> None:
    pod, container = pod_of(render(CASES[case])), container_of(render(CASES[case]))
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "nodeName"} & set(pod)
    assert all(set(volume) & {"emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in container["ports"])
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_a_numeric_user_makes_pods_pass_restricted() -> None:
    context = pod_of(render(CASES["everything"]))["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, 1000, 1000)


@pytest.mark.parametrize("case", sorted(CASES))
def test_budgets_of_time_fit_each_other(case: str) -> None:
    manifests = render(CASES[case])
    container, spec = container_of(manifests), manifests.deployment["spec"]
    startup = container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"]
    assert spec["progressDeadlineSeconds"] >= startup >= int(env_of(manifests)["VLLM_ENGINE_READY_TIMEOUT_S"])
    args = container["args"]
    drain = int(args[args.index("--shutdown-timeout") + 1])
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_of(manifests)["terminationGracePeriodSeconds"] > sleep + drain


@pytest.mark.parametrize(
    ("strategy", "replicas", "expected"),
    [
        (RolloutStrategy.SURGE, 1, {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}, "type": "RollingUpdate"}),
        (RolloutStrategy.RECREATE, 3, {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}, "type": "RollingUpdate"}),
        (RolloutStrategy.RECREATE, 1, {"type": "Recreate"}),
        (RolloutStrategy.AUTO, 1, {"type": "Recreate"}),
    ],
)  # fmt: skip
def test_the_rollout_strategy_needs_no_more_gpus_than_there_are(
    strategy: RolloutStrategy, replicas: int, expected: dict[str, Any]
) -> None:
    manifests = render(inputs(strategy=strategy, replicas=replicas))
    assert manifests.deployment["spec"]["strategy"] == expected
    assert (manifests.budget is not None) == (replicas > 1)


def test_scaling_changes_no_pod_template() -> None:
    one, three = (render(inputs({"cache": {}}, replicas=count)) for count in (1, 3))
    assert one.deployment["spec"]["template"] == three.deployment["spec"]["template"]


def test_a_claim_is_owned_only_when_it_is_not_retained() -> None:
    kept, owned = (render(inputs({"cache": {"retain": retain}})).claim for retain in (True, False))
    assert kept is not None
    assert owned is not None
    assert "ownerReferences" not in kept["metadata"]
    assert owned["metadata"]["ownerReferences"][0]["controller"] is True
    assert kept["spec"]["resources"]["requests"]["storage"] == "74Gi"
    assert render(inputs({"cache": {"existingClaim": "x"}})).claim is None


def test_shared_memory_leaves_half_of_the_pods_memory() -> None:
    def size(memory: str) -> str:
        pod = pod_of(render(inputs({"overrides": {"resources": {"memory": memory}}})))
        found: str = next(v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "shm")
        return found

    assert (size("128Gi"), size("20Gi"), size("1Gi")) == ("16Gi", "10240Mi", "512Mi")


@pytest.mark.parametrize(
    ("text", "value"),
    [("qwen3", "qwen3"), ("configmap/mine", "configmap.mine"), ("-a-", "a"), ("x" * 63, "x" * 63)],
)
def test_recipe_names_become_label_values(text: str, value: str) -> None:
    assert label_value(text) == value


@given(st.text(min_size=1, max_size=300))
def test_label_values_are_always_valid(text: str) -> None:
    value = label_value(text)
    assert len(value) <= 63
    assert not value or (value[0].isalnum() and value[-1].isalnum())


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_stream_reads_back_as_the_manifests(case: str) -> None:
    manifests = render(CASES[case])
    assert list(yaml.safe_load_all(to_yaml(manifests))) == list(manifests)


_MODELS = sorted(gpu_catalog())
_PARTITIONS = ["spx_nps1", "cpx_nps4", "cpx_nps1", "dpx_nps2", "odd", "SPX_NPS1"]
_ADMIN = {"example.com/gpu=big": "MI325X"}
_LABELS = st.dictionaries(
    st.sampled_from([f"{p}amd.com/gpu.device-id" for p in ("", "beta.")]),
    st.sampled_from([i for g in gpu_catalog().values() for i in g.device_ids] + ["ffff", "74A1"]),
    max_size=1,
)


@st.composite
def node_labels(draw: st.DrawFn) -> dict[str, str]:
    """Labels in any of the forms that AMD's tools and administrators write."""
    gpu = gpu_catalog()[draw(st.sampled_from(_MODELS))]
    labels = draw(_LABELS)
    for device_id in draw(st.sets(st.sampled_from([*gpu.device_ids, "ffff"]), max_size=2)):
        labels[f"{draw(st.sampled_from(['', 'beta.']))}amd.com/gpu.device-id.{device_id}"] = "4"
    if draw(st.booleans()):
        labels["amd.com/gpu.product-name"] = draw(
            st.sampled_from([*product_name_values(gpu), f"{gpu.model}-odd", "x"])
        )
    if draw(st.booleans()):
        labels[f"feature.node.kubernetes.io/amd-gpu-{gpu.model.lower()}"] = draw(
            st.sampled_from(["true", "false"])
        )
    if draw(st.booleans()):
        labels["example.com/gpu"] = draw(st.sampled_from(["big", "small"]))
    for key in ("amd.com/gpu.compute-memory-partition", "amd.com/compute-memory-partition"):
        if draw(st.booleans()):
            labels[key] = draw(st.sampled_from(_PARTITIONS))
    return labels


@settings(max_examples=500, deadline=None)
@given(node_labels(), st.sampled_from(["amd.com/gpu", "amd.com/spx_nps1", "amd.com/cpx_nps4"]))
def test_a_node_that_counts_as_capacity_is_always_selected_by_the_affinity(
    labels: dict[str, str], resource: str
) -> None:
    amounts = {resource: "8"}
    facts = read_node(
        {"metadata": {"name": "n", "labels": labels}, "status": {"allocatable": amounts}}, _ADMIN
    )
    (group,) = facts.groups
    if group.gpu_model is None or group.partition in ("odd", "SPX_NPS1"):
        return
    gpu = gpu_catalog()[group.gpu_model]
    manifests = render(
        inputs(
            gpu=gpu,
            partition=group.partition,
            resource=group.resource,
            config=EngineConfig(gpu_labels=_ADMIN),
        )
    )
    affinity = pod_of(manifests)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = affinity["nodeSelectorTerms"]
    assert any(
        all(matches(expression, labels) for expression in term["matchExpressions"]) for term in terms
    ), labels


def matches(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    match expression["operator"]:
        case "In":
            return labels.get(expression["key"]) in expression["values"]
        case "Exists":
            return expression["key"] in labels
        case "DoesNotExist":
            return expression["key"] not in labels
        case other:
            raise AssertionError(other)
