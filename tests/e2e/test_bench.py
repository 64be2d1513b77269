"""`aim-engine bench` against simulated engines: results of users reach the AIMRecipe, stay there, and are used."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.api.performance import Benchmark
from aim_engine.cli import main
from aim_engine.cli.bench_save import record
from aim_engine.cli.live import with_client
from aim_engine.kube.client import KubeClient
from e2e.support import Json, Tenant
from testbed.engines import EngineFleet
from testbed.product import ROOT
from unit.cli_examples import examples, placed

LOAD = ("--concurrency", "8", "--input-tokens", "64", "--output-tokens", "8", "--warmup", "0.5")
SAVED = (*LOAD, "--duration", "11", "--save")
QUICK = (*LOAD, "--duration", "30", "--requests", "5")


def bench(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["bench", *(str(word) for word in words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def engine_of(tenant: Tenant, fleet: EngineFleet, name: str = "app") -> str:
    """Address of the deployment's only engine, as a port-forward would give it."""
    found: str = tenant.wait_for(
        "the engine to listen",
        lambda: next((url for pod in tenant.pods(name) if (url := fleet.url(tenant.namespace, pod["metadata"]["name"]))), None),
    )  # fmt: skip
    return f"{found}/v1"


def users(tenant: Tenant, recipe: str) -> int:
    return int(tenant.recipe(recipe).get("status", {}).get("usedBy", 0))


def benchmarks(tenant: Tenant, recipe: str) -> list[Json]:
    return list(tenant.recipe(recipe).get("status", {}).get("benchmarks", []))


def test_a_saved_result_stays_with_the_recipe_and_is_evidence_for_others(
    tenant: Tenant, fleet: EngineFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    tenant.corner(gpus=1)
    fast = tenant.add_recipe("z-fast", gpus=1)
    tenant.deploy("app", recipe={"name": fast})
    tenant.wait_ready("app")
    url = engine_of(tenant, fleet)

    words = ("app", "-n", tenant.namespace, "--url", url)
    code, out, err = bench(capsys, *words, *SAVED, "-o", "json")
    assert code == 0, err
    assert "does not show what the recipe can do" not in err
    assert f"saved as observed performance of AIMRecipe {fast}" in err
    result = json.loads(out)
    (entry,) = benchmarks(tenant, fast)
    assert entry["source"] == f"{tenant.namespace}/app"
    assert entry["tokensPerSecond"] == round(result["outputTokensPerSecond"])
    assert entry["requests"] == result["requests"]["answered"]
    assert entry["workload"]["concurrency"] == 8
    assert entry["workload"]["outputTokens"] == 8
    assert entry["timeToFirstTokenMilliseconds"]["p50"] >= 50, "the simulated engine takes that long"
    assert entry["recipeHash"] == tenant.get("app")["status"]["recipe"]["hash"]
    assert entry["gpuModel"] == "MI300X"
    assert entry["seconds"] >= 11

    # A newcomer without wishes, who comes when the operator knows of it, gets the recipe that is known to be fast, not the one whose name comes first.
    tenant.seen()
    tenant.deploy("newcomer")
    tenant.wait_ready("newcomer")
    assert tenant.get("newcomer")["status"]["recipe"]["name"] == fast
    # The operator has written the recipe's status since: two use it.
    tenant.wait_for("both users to be counted", lambda: users(tenant, fast) == 2)
    assert benchmarks(tenant, fast) == [entry]

    # What the command line decides from the same cluster names the evidence.
    capsys.readouterr()
    assert main(["explain", "newcomer", "-n", tenant.namespace, "-o", "json"]) == 0
    chosen = json.loads(capsys.readouterr().out)["chosen"]
    assert chosen["recipe"] == fast
    assert chosen["performance"]["kind"] == "observed"
    assert chosen["performance"]["tokensPerSecond"] == entry["tokensPerSecond"]


def test_the_newest_eight_results_are_kept_and_others_fields_left_alone(
    tenant: Tenant, fleet: EngineFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    recipe = tenant.corner(gpus=1)
    tenant.deploy("app")
    tenant.wait_ready("app")
    tenant.wait_for("the user to be counted", lambda: users(tenant, recipe) == 1)
    old = [entry_of(tenant, second) for second in range(8)]
    path = f"/apis/aim.engine.amd.com/v1alpha1/aimrecipes/{recipe}/status"
    tenant.plane.request("PATCH", path, {"status": {"benchmarks": old}})
    before = tenant.recipe(recipe)["status"]
    words = ("app", "-n", tenant.namespace, "--url", engine_of(tenant, fleet))
    code, _, err = bench(capsys, *words, *SAVED)
    assert code == 0, err
    after = tenant.recipe(recipe)["status"]
    assert after["benchmarks"][1:] == old[:7]
    assert after["benchmarks"][0]["tokensPerSecond"] != old[0]["tokensPerSecond"]
    kept = ("conditions", "usedBy", "fits", "matchingNodes", "observedGeneration")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_results_that_are_saved_at_the_same_time_are_all_kept(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    recipe = tenant.corner(gpus=1)
    entries = [Benchmark.model_validate({**entry_of(tenant, i), "source": f"team/app-{i}"}) for i in range(4)]

    async def together(client: KubeClient) -> None:
        await asyncio.gather(*(record(client, recipe, entry) for entry in entries))

    with_client(together)
    kept = {entry["source"] for entry in benchmarks(tenant, recipe)}
    assert kept == {entry.source for entry in entries}


def entry_of(tenant: Tenant, second: int) -> Json:
    return {
        "tokensPerSecond": 1, "workload": {"concurrency": 1}, "requests": 10, "seconds": 10, "source": "elsewhere/app",
        "at": f"2026-01-01T00:00:0{second}Z", "recipeHash": "old", "gpuModel": "MI300X", "engineVersion": "0.1.0",
    }  # fmt: skip


def test_only_who_may_write_recipes_statuses_saves(
    tenant: Tenant, fleet: EngineFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tenant.corner(gpus=1)
    tenant.deploy("app")
    tenant.wait_ready("app")
    user = f"user-{tenant.namespace}"
    roles: list[Any] = list(yaml.safe_load_all((ROOT / "deploy/manifests/user-roles.yaml").read_text()))
    tenant.plane.apply(*roles)
    tenant.plane.kubectl(
        "create", "rolebinding", "user", "-n", tenant.namespace, "--clusterrole=aim-engine-view", f"--user={user}"
    )  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig_for_user(user, ["system:authenticated"])))
    words = ("app", "-n", tenant.namespace, "--url", engine_of(tenant, fleet))
    tenant.wait_for(
        "the role to be known", lambda: may(tenant, user, "get", "aimdeployments", "-n", tenant.namespace)
    )

    code, out, _ = bench(capsys, *words, *QUICK)
    assert (code, f"recipe {recipe}" in out) == (0, True), "measuring needs no rights beyond reading"
    code, out, err = bench(capsys, *words, *SAVED)
    assert (code, out) == (1, ""), "refused before anything is measured"
    assert "you may not patch aimrecipes/status" in err
    assert benchmarks(tenant, recipe) == []
    assert main(["status", "app", "-n", tenant.namespace]) == 0, "nor does looking"
    shown = capsys.readouterr()
    assert f"Recipe:              {recipe}" in shown.out
    assert main(["status", "-n", tenant.namespace]) == 0
    shown = capsys.readouterr()
    assert ("app" in shown.out, "the GPUs of the cluster are not shown" in shown.err) == (True, True)
    assert main(["status"]) == 1
    assert "name your namespace with -n" in capsys.readouterr().err

    binding = f"bench-{tenant.namespace}"
    tenant.plane.kubectl(
        "create", "clusterrolebinding", binding, "--clusterrole=aim-engine-benchmarks", f"--user={user}"
    )
    try:
        tenant.wait_for(
            "the right to be known", lambda: may(tenant, user, "patch", "aimrecipes", "--subresource=status")
        )
        code, _, err = bench(capsys, *words, *SAVED)
        assert code == 0, err
        assert len(benchmarks(tenant, recipe)) == 1
    finally:
        tenant.plane.kubectl("delete", "clusterrolebinding", binding)


def may(tenant: Tenant, user: str, *words: str) -> bool:
    told = tenant.plane.kubectl("auth", "can-i", *words, f"--as={user}", check=False)
    return told.stdout.strip() == "yes"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"overrides": {"engineArgs": {"max-num-seqs": 64}}}, "spec.overrides change the recipe"),
        ({"workload": {"maxBatchSize": 16}}, "spec.workload change the recipe"),
        ({"replicas": 2}, "only one replica can be measured"),
        ({"recipe": {"configMap": "mine"}}, "recipe configmap/mine is no AIMRecipe"),
    ],
)
def test_what_is_not_the_recipe_as_it_stands_is_not_saved(
    tenant: Tenant,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spec: Json,
    told: str,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    recipe = tenant.corner(gpus=1)
    mine = {"recipe_id": "mine", "huggingface_id": tenant.model, "hardware": "MI300X", "gpu_count": 1, "precision": "bf16"}  # fmt: skip
    tenant.create("ConfigMap", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"recipe.yaml": yaml.safe_dump(mine)}})  # fmt: skip
    tenant.deploy("app", **spec)
    tenant.wait_ready("app")
    tenant.wait(
        "all replicas to answer", lambda obj: obj["status"]["readyReplicas"] == spec.get("replicas", 1)
    )
    code, out, err = bench(capsys, "app", "-n", tenant.namespace, *SAVED)
    assert (code, out) == (1, "")
    assert told in err
    assert benchmarks(tenant, recipe) == []


def test_where_the_service_is_not_reachable_the_way_to_it_is_told(
    tenant: Tenant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    tenant.corner(gpus=1)
    code, _, err = bench(capsys, "app", "-n", tenant.namespace, *QUICK)
    assert (code, f"'app' does not exist in namespace '{tenant.namespace}'" in err) == (4, True)
    tenant.deploy("app", model="example/unknown")
    tenant.wait("a verdict", lambda obj: obj.get("status", {}).get("conditions"))
    code, _, err = bench(capsys, "app", "-n", tenant.namespace, *QUICK)
    assert (code, "has no replica that answers" in err) == (1, True)

    tenant.deploy("other")
    tenant.wait_ready("other")
    code, _, err = bench(capsys, "other", "-n", tenant.namespace, *QUICK)
    assert code == 1
    assert f"kubectl port-forward -n {tenant.namespace} service/other-service 8000:8000" in err
    assert f"aim-engine bench other -n {tenant.namespace} --url http://127.0.0.1:8000/v1" in err


def test_the_examples_of_the_help_run(
    tenant: Tenant, fleet: EngineFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the engine's own address in place of a port-forward, and for less time."""
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    recipe = tenant.corner(gpus=1)
    tenant.deploy("app")
    tenant.wait_ready("app")
    url = engine_of(tenant, fleet)
    stand_ins = {"qwen": "app", "team-a": tenant.namespace, "http://127.0.0.1:8000/v1": url}
    shown = examples("bench")
    assert len(shown) >= 3
    for line in shown:
        _, *words = placed(line, stand_ins).words
        there = () if "--url" in words else ("--url", url)
        code, out, err = bench(
            capsys, *words, *there, *LOAD, "--duration", "11" if "--save" in words else "1"
        )
        assert (code, bool(out)) == (0, True), f"{line}: {err}"
    assert len(benchmarks(tenant, recipe)) == 1
