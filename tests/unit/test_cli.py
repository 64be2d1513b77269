"""The command line against a small cluster in a file: answers, exit codes, formats, help, completion."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.cli import COMMANDS
from aim_engine.selection import schema
from unit.cli_examples import examples, placed
from unit.cli_world import Terminal, config_map, deployment, node, pod, recipe, snapshot
from unit.json_schema import problems
from unit.selection_world import QWEN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Commands in the repository, of which the examples speak."""
    monkeypatch.chdir(ROOT)
    return run


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Two nodes, half of the first one taken, three recipes and one deployment."""
    return snapshot(
        tmp_path,
        node("gpu-1"),
        node("gpu-2", gpu="MI325X"),
        pod("other", "gpu-1", 4),
        recipe("small"),
        recipe("large", gpus=8, maturity="optimized"),
        recipe("newer", gpu="MI325X", maturity="preview"),
        deployment("chat"),
    )


def manifest(folder: Path, name: str = "app", **spec: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(deployment(name, **spec)[1]))
    return path


def test_select_shows_choice_candidates_and_inventory(run: Terminal, cluster: Path) -> None:
    ended = run("select", QWEN, "--cluster", cluster, "-o", "json")
    assert ended.code == 0
    chosen = ended.json["chosen"]
    assert (chosen["recipe"], chosen["gpuCount"], chosen["node"]) == ("small", 1, "gpu-1")
    assert {each["recipe"]: each["verdict"] for each in ended.json["candidates"]} == {
        "small": "chosen", "large": "eligible", "newer": "eligible",
    }  # fmt: skip
    assert ended.json["inventory"]["gpus"] == [
        {"gpuModel": "MI300X", "partition": None, "nodes": 1, "allocatable": 8, "unhealthy": 0, "free": 4},
        {"gpuModel": "MI325X", "partition": None, "nodes": 1, "allocatable": 8, "unhealthy": 0, "free": 8},
    ]


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    "words", [("select", QWEN), ("select", "acme/unheard-of"), ("explain", "chat", "-n", "team-a")]
)
def test_documents_follow_the_published_schema(
    run: Terminal, cluster: Path, form: str, words: tuple[str, ...]
) -> None:
    ended = run(*words, "--cluster", cluster, "-o", form)
    assert list(problems(schema(), yaml.safe_load(ended.out))) == []


def test_wishes_of_select_are_wishes_of_a_deployment(run: Terminal, cluster: Path) -> None:
    ended = run("select", QWEN, "--cluster", cluster, "--gpu", "MI325X", "-o", "json")
    assert ended.json["chosen"]["recipe"] == "newer"
    refused = run("select", QWEN, "--cluster", cluster, "--gpu-count", "0")
    assert refused.code == 4
    assert "gpuCount" in refused.err


def test_explain_of_a_running_deployment_does_not_count_its_own_pods(run: Terminal, tmp_path: Path) -> None:
    cluster = snapshot(
        tmp_path, node("gpu-1"), recipe("large", gpus=8), pod("chat-0", "gpu-1", 8, owner="chat"), deployment("chat")
    )  # fmt: skip
    assert (
        run("explain", "chat", "-n", "team-a", "--cluster", cluster, "-o", "json").json["chosen"]["recipe"]
        == "large"
    )
    other = run("select", QWEN, "--cluster", cluster, "-o", "json")
    assert (other.code, other.json["outcome"]) == (0, "Waiting")


@pytest.mark.parametrize(
    ("reason", "generation", "repeated"),
    [("InsufficientCapacity", 1, True), ("InsufficientCapacity", 0, False), ("RecipeNotFound", 1, False)],
)
def test_explain_repeats_why_the_operator_makes_a_deployment_wait(
    run: Terminal, tmp_path: Path, reason: str, generation: int, repeated: bool
) -> None:
    """A snapshot does not tell for whom a node is kept; the status does."""
    kind, chat = deployment("chat")
    said = "6 more free on gpu-1 are kept for team-b/giant, which waits longer"
    told = {
        "type": "RecipeSelected", "status": "False", "reason": reason, "message": said, "observedGeneration": generation,
    }  # fmt: skip
    chat["status"] = {"conditions": [told]}
    cluster = snapshot(tmp_path, node("gpu-1"), recipe("one"), (kind, chat))
    words = ("explain", "chat", "-n", "team-a", "--cluster", cluster)
    document = run(*words, "-o", "json").json
    assert document["outcome"] == "Selected"
    assert document.get("operatorSays") == (said if repeated else None)
    assert (f"The operator says: {said}" in run(*words).out) is repeated


def test_explain_of_a_folder_reports_each_file_and_counts_what_the_former_ones_take(
    run: Terminal, cluster: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "apps"
    folder.mkdir()
    wish = {"gpuModel": "MI300X"}
    for name in ("a", "b", "c", "d", "e"):
        manifest(folder, name, recipe=wish)
    ended = run("explain", "-f", folder, "--cluster", cluster, "-o", "json")
    assert [each["outcome"] for each in ended.json] == ["Selected"] * 4 + ["Waiting"]
    assert [Path(each["file"]).name for each in ended.json] == [f"{name}.yaml" for name in "abcde"]
    assert ended.code == 0


def test_a_folder_fails_when_one_file_cannot_be_served(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    folder = tmp_path / "apps"
    folder.mkdir()
    manifest(folder, "good")
    manifest(folder, "hopeless", model={"id": "acme/unheard-of"})
    ended = run("explain", "-f", folder, "--cluster", cluster)
    assert ended.code == 3
    assert re.search(r"good.yaml +team-a/good +Selected", ended.out)
    assert re.search(r"hopeless.yaml +team-a/hopeless +NoRecipe", ended.out)
    manifest(folder, "wrong", recipe={"gpuCount": "many"})
    ended = run("explain", "-f", folder, "--cluster", cluster)
    assert ended.code == 4
    assert "wrong.yaml: spec.recipe.gpuCount 'many'" in ended.err


def test_recipes_of_the_same_change_take_part(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    folder = tmp_path / "apps"
    folder.mkdir()
    manifest(folder, "app", recipe={"configMap": "mine"})
    text = (
        "recipe_id: mine\nhuggingface_id: Qwen/Qwen3-32B\nhardware: MI300X\ngpu_count: 2\nprecision: bf16\n"
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"kind": "ConfigMap", **config_map("mine", text)[1]}))
    ended = run("explain", "-f", folder, "--cluster", cluster, "-o", "json")
    assert [each["chosen"]["recipe"] for each in ended.json] == ["configmap/mine"]


def test_a_configmap_that_is_no_recipe_is_told_with_its_line(run: Terminal, tmp_path: Path) -> None:
    cluster = snapshot(
        tmp_path, node("gpu-1"), recipe("small"), config_map("mine", "recipe_id: [", labelled=False),
        deployment("chat", recipe={"configMap": "mine"}),
    )  # fmt: skip
    ended = run("explain", "chat", "-n", "team-a", "--cluster", cluster)
    assert ended.code == 3
    assert "ConfigMap 'mine' cannot be read: line" in ended.out
    assert "correct the lines named of ConfigMap mine" in ended.out
    assert "create" not in ended.out


def test_render_gives_the_objects_and_diff_what_would_change(
    run: Terminal, cluster: Path, tmp_path: Path
) -> None:
    app = manifest(tmp_path, "app")
    rendered = yaml.safe_load(run("render", "-f", app, "--cluster", cluster).out)
    assert {each["kind"] for each in rendered["items"]} >= {"Deployment", "Service"}
    changed = run("diff", "-f", app, "--cluster", cluster)
    assert changed.code == 0
    assert "+++ Deployment/app then" in changed.out
    assert "team-a/app would change" in changed.err


def test_render_of_what_cannot_be_served_says_so(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    ended = run("render", "-f", manifest(tmp_path, model={"id": "acme/unheard-of"}), "--cluster", cluster)
    assert ended.code == 3
    assert "nothing is rendered: no recipe exists for model 'acme/unheard-of'" in ended.err


@pytest.mark.parametrize(
    ("nodes", "wishes", "outcome", "words"),
    [
        ("free", (), "Selected", {"small": "chosen", "large": "eligible", "newer": "rejected"}),
        ("full", (), "Waiting", {"small": "eligible", "large": "eligible", "newer": "rejected"}),
        ("cordoned", (), "Waiting", {"small": "eligible", "large": "eligible", "newer": "rejected"}),
        ("unhealthy", (), "Selected", {"small": "chosen", "large": "eligible", "newer": "rejected"}),
        ("half as large", (), "Selected", {"small": "chosen", "large": "rejected", "newer": "rejected"}),
        ("half as large", ("--gpu-count", "8"), "NoRecipe", {"small": "rejected", "large": "rejected", "newer": "rejected"}),
        ("free", ("--input-tokens", "999999"), "NoRecipe", {"small": "rejected", "large": "rejected", "newer": "rejected"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_verdict_says_eligible_only_of_what_could_serve_here(
    run: Terminal, tmp_path: Path, nodes: str, wishes: tuple[str, ...], outcome: str, words: dict[str, str]
) -> None:
    there = {
        "free": [node("gpu-1")], "full": [node("gpu-1"), pod("other", "gpu-1", 8)], "cordoned": [node("gpu-1", unschedulable=True)],
        "unhealthy": [node("gpu-1", unhealthy=5)], "half as large": [node("gpu-1", gpus=4)],
    }[nodes]  # fmt: skip
    recipes = (recipe("small"), recipe("large", gpus=8), recipe("newer", gpu="MI355X"))
    ended = run("select", QWEN, "--cluster", snapshot(tmp_path, *there, *recipes), *wishes, "-o", "json")
    assert ended.json["outcome"] == outcome
    told = {each["recipe"]: each["verdict"] for each in ended.json["candidates"]}
    assert {name: word for name, word in told.items() if not name.startswith("generated/")} == words


def test_replicas_that_do_not_fit_are_told_with_what_they_wait_for(run: Terminal, tmp_path: Path) -> None:
    cluster = snapshot(tmp_path, node("gpu-1"), pod("other", "gpu-1", 4), recipe("small"))
    words = ("select", QWEN, "--cluster", cluster, "--replicas")
    document = run(*words, "6", "-o", "json").json
    chosen = document["chosen"]
    assert (chosen["recipe"], chosen["replicasThatFit"]) == ("small", 4)
    assert chosen["waitsFor"].startswith("4 of 6 replicas fit now")
    assert document["remedy"] == "free or add 2 GPUs"
    table = run(*words, "6").out
    assert "What would help: free or add 2 GPUs\nFurther replicas wait: 4 of 6 replicas fit now" in table
    enough = run(*words, "4", "-o", "json").json
    assert (enough["chosen"]["replicasThatFit"], enough["chosen"]["waitsFor"], enough["remedy"]) == (
        4,
        None,
        None,
    )


def test_partitions_are_shown_wherever_gpus_are(run: Terminal, tmp_path: Path) -> None:
    there = snapshot(
        tmp_path, node("cpx-1", gpus=64, partition="cpx_nps4"), node("gpu-1"),
        recipe("slices", hardware={"gpuModel": "MI300X", "gpuCount": 8, "partition": "cpx_nps4"}),
        recipe("whole", hardware={"gpuModel": "MI300X", "gpuCount": 8, "partition": "spx_nps1"}, maturity="preview"),
    )  # fmt: skip
    table = run("select", QWEN, "--cluster", there).out
    assert re.match(r"Selected: slices \(8xMI300X/cpx_nps4, bf16\): .* tok/s per partition", table)
    assert re.search(r"^slices +Primary +8xMI300X/cpx_nps4 ", table, re.MULTILINE)
    rows = run("status", "--cluster", there).out
    assert re.search(r"^MI300X +- +1 +8 +0 +8$", rows, re.MULTILINE)
    assert re.search(r"^MI300X +cpx_nps4 +1 +64 +0 +64$", rows, re.MULTILINE)
    listed = run("recipes", "list", "--cluster", there)
    assert [line.split()[2] for line in listed.out.splitlines()[1:]] == ["MI300X/cpx_nps4", "MI300X"]
    one = run("fit", "--model", QWEN, "--gpu", "MI300X", "--partition", "CPX_NPS4", "--count", "8")
    assert one.out.startswith("Qwen/Qwen3-32B in bf16 on 8xMI300X/cpx_nps4\n")
    only = run("fit", "--model", QWEN, "--gpu", "MI300X", "--partition", "spx_nps1", "--count", "8")
    assert only.out.startswith("Qwen/Qwen3-32B in bf16 on 8xMI300X\n")


def test_nodes_alone_are_enough_and_the_shipped_recipes_are_used(run: Terminal, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text(json.dumps({"apiVersion": "v1", "kind": "NodeList", "items": [node("gpu-1")[1]]}))
    ended = run("select", QWEN, "--nodes", nodes, "-o", "json")
    assert ended.json["chosen"]["recipe"].startswith("qwen3-32b-mi300x-")
    own = tmp_path / "recipes"
    own.mkdir()
    (own / "mine.yaml").write_text(yaml.safe_dump(recipe("mine")[1]))
    ended = run("select", QWEN, "--nodes", nodes, "--recipes", own, "-o", "json")
    assert [each["recipe"] for each in ended.json["candidates"]] == ["mine"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--count", "1"), 0, "verdict"),
        (("fit", "--model", QWEN), 0, "MI355X"),
        (("fit", "--model", "meta-llama/Llama-3.1-405B-Instruct", "--gpu", "MI210", "--count", "4"), 3, "DoesNotFit"),
        (("fit", "--model", "qwen/qwen3-32b"), 0, "did you mean Qwen/Qwen3-32B? else ask the Hub with --hub"),
        (("fit", "--model", "acme/unheard-of", "--gpu", "MI300X"), 0, "Unknown"),
        (("fit", "--model", "acme/unheard-of", "--gpu", "MI300X", "--count", "16"), 3, "a node has at most 8 MI300X"),
        (("fit", "--model", "Qwen 3"), 4, "--model 'Qwen 3' is no id of a model"),
        (("fit", "--model", "../etc"), 4, "--model '../etc' is no id of a model"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--count", "0"), 2, "--count: '0' is not a whole number of at least 1"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--count", "two"), 2, "--count: 'two' is not a whole number"),
        (("fit", "--model", QWEN, "--context", "0"), 2, "--context: '0' is not a whole number of at least 1"),
        (("fit", "--model", QWEN, "--count", "4"), 2, "--count 4 is of one GPU model: name it with --gpu"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--count", "16"), 3, "16 GPUs of one replica; a node has at most 8 MI300X"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--flag", "max-modle-len=8192"), 4, "did you mean max-model-len?"),
        (("fit", "--model", QWEN, "--flag", "max-modle-len=8192"), 4, "--flag max-modle-len '8192': max-modle-len is not a flag"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--flag", "kv-cache-dtype=fp9"), 4, "'fp9' is not a value of kv-cache-dtype"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--count", "8", "--flag", "pipeline-parallel-size=3"), 4,
         "pipeline 3 x data 1 do not divide 8 GPUs; choose sizes whose product divides 8, or change --count"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--flag", "max-num-batched-tokens=8", "--flag", "max-num-seqs=16"), 4,
         "max-num-batched-tokens 8 is less than max-num-seqs 16"),
        (("fit", "--model", QWEN, "--gpu", "MI210", "--flag", "kv-cache-dtype=fp8"), 3, "remove kv-cache-dtype"),
        (("fit", "--model", QWEN, "--partition", "cpx_nps4"), 0, "MI210 has no partition mode cpx_nps4"),
        (("fit", "--model", QWEN, "--partition", "none"), 4, "--partition 'none' is no mode of any GPU; they have cpx, dpx"),
        (("fit", "--model", QWEN, "--gpu", "MI210", "--partition", "cpx_nps4"), 3, "MI210 has no partition mode cpx_nps4"),
        (("fit", "--model", QWEN, "--gpu", "mi300x", "--precision", "FP8"), 0, "Qwen/Qwen3-32B in fp8 on 1xMI300X"),
        (("fit", "--model", "meta-llama/Llama-3.1-405B-Instruct", "--gpu", "MI300X", "--count", "2"), 3, "-211.27 GiB"),
        (("fit", "--model", QWEN, "--gpu", "MI300X"), 0, "32,762,123,264"),
        (("fit", "--model", QWEN, "--gpu", "MI300X", "--context", "99999"), 3, "none"),
        (("fit", "--model", QWEN, "--gpu", "H100"), 4, "'H100' is not one of MI210"),
        (("fit", "--model", QWEN, "--precision", "fp5"), 4, "'fp5' is not one of bf16"),
        (("recipes", "list", "--model", QWEN), 0, "qwen3-32b-mi300x-1x-bf16"),
        (("recipes", "list", "--model", QWEN, "--gpu", "mi300x", "--precision", "BF16"), 0, "qwen3-32b-mi300x-1x-bf16"),
        (("recipes", "list", "--gpu", "H100"), 4, "--gpu 'H100' is not one of MI210"),
        (("recipes", "list", "--precision", "fp5"), 4, "--precision 'fp5' is not one of bf16"),
        (("recipes", "list", "--model", "qwen/qwen3-32b"), 0, "no recipe is for all that is asked; did you mean Qwen/Qwen3-32B?"),
        (("recipes", "show", "qwen3-32b-mi300x-1x-bf16"), 0, "modelID: Qwen/Qwen3-32B"),
        (("recipes", "show", "qwen3-32b-mi300x-1x-bf61"), 4, "did you mean qwen3-32b-mi300x-1x-bf16"),
        (("recipes", "validate", "recipes/llama-2"), 0, "1 recipe, 0 with problems"),
        (("explain", "gone", "--cluster", "CLUSTER"), 4, "'gone' does not exist in namespace 'default'"),
        (("explain",), 2, "name an AIMDeployment, or give a file with -f"),
        (("explain", "a", "-f", "b"), 2, "name an AIMDeployment, or give a file with -f"),
        (("select", QWEN, "--cluster", "a", "--nodes", "b"), 2, "exclude each other"),
        (("select", QWEN, "--cluster", "CLUSTER", "--batch-size", "7", "-o", "yaml"), 0, "max-num-seqs: 7"),
        (("select", QWEN, "--cluster", "CLUSTER", "--batch-size", "0"), 4, "spec.workload.maxBatchSize '0'"),
        (("select", QWEN, "--cluster", "/nowhere.yaml"), 4, "/nowhere.yaml: No such file"),
        (("select", "Qwen 3", "--cluster", "CLUSTER"), 4, "spec.model.id 'Qwen 3'"),
        (("select", "Qw\u0435n/Qwen3-32B", "--cluster", "CLUSTER"), 4, "spec.model.id 'Qw\u0435n/Qwen3-32B'"),
        (("select", "QWEN/qwen3-32b", "--cluster", "CLUSTER"), 3, "did you mean Qwen/Qwen3-32B?"),
        (("select", "qwen3-32b", "--cluster", "CLUSTER"), 3, "did you mean Qwen/Qwen3-32B?"),
        (("select", "../etc", "--cluster", "CLUSTER"), 4, "spec.model.id '../etc'"),
        (("select", QWEN), 1, "no cluster is configured"),
        (("status", "--cluster", "CLUSTER"), 0, "chat"),
        (("doctor",), 1, "no cluster is configured"),
        (("snapshot",), 1, "no cluster is configured"),
        (("render", "gone", "--cluster", "CLUSTER"), 4, "'gone' does not exist in namespace 'default'"),
        (("diff", "gone", "--cluster", "CLUSTER"), 4, "'gone' does not exist in namespace 'default'"),
        (("diff",), 2, "name an AIMDeployment, or give a file with -f"),
        (("render", "-f", "recipes", "--cluster", "CLUSTER"), 4, "recipes: Is a directory"),
        (("explain", "-f", "-", "--cluster", "-"), 2, "only one file can be standard input (-)"),
        (("select", QWEN, "--cluster", "CLUSTER", "-n", "A b"), 4, "--namespace 'A b' must be"),
        (("select", QWEN, "--cluster", "CLUSTER", "--gpu", "MI999"), 4, "spec.recipe.gpuModel 'MI999'"),
        (("select", QWEN, "--cluster", "CLUSTER", "--gpu-count", "many"), 2, "invalid int value: 'many'"),
        (("select", QWEN, "--cluster", "CLUSTER", "--gpu-count", "16"), 3, "NoRecipe"),
        (("select", QWEN, "--cluster", "CLUSTER", "-o", "xml"), 2, "invalid choice: 'xml'"),
        (("select", QWEN, "--cluster", "CLUSTER", "--recipes", "README.md"), 4, "README.md"),
        (("select", QWEN, "--cluster", "CLUSTER", "--config", "/nowhere.yaml"), 4, "/nowhere.yaml: No such file"),
        (("status", "--nodes", "CLUSTER", "--config", "/nowhere.yaml"), 4, "/nowhere.yaml: No such file"),
        (("recipes",), 2, "ACTION"),
        (("recipes", "show"), 2, "NAME"),
        (("recipes", "show", "gone", "--cluster", "CLUSTER"), 4, "recipe 'gone' does not exist"),
        (("recipes", "validate", "/nowhere"), 4, "/nowhere: No such file"),
        (("recipes", "import", "aim-build", "/nowhere"), 4, "/nowhere: no YAML files of"),
        (("recipes", "import", "elsewhere", "."), 2, "invalid choice: 'elsewhere'"),
        (("completion", "tcsh"), 2, "invalid choice: 'tcsh'"),
        (("completion", "bash"), 0, "complete"),
        (("--version",), 0, "0."),
        (("nonsense",), 2, "invalid choice"),
        ((), 2, "COMMAND"),
    ],
)  # fmt: skip
def test_answers_and_exit_codes(
    run: Terminal, cluster: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    ended = run(*(str(cluster) if word == "CLUSTER" else word for word in words))
    assert told in ended.out + ended.err
    assert ended.code == code
    assert "Traceback" not in ended.err


def test_a_recipe_with_a_fault_is_told_with_file_field_value_and_remedy(
    run: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(recipe("bad", gpus=1, precision="fp8", gpu="MI210")[1]))
    ended = run("recipes", "validate", tmp_path)
    assert ended.code == 4
    told = "bad.yaml: precision 'fp8': the weights of Qwen/Qwen3-32B are bf16; set precision to bf16\n"
    assert told in ended.out


@pytest.mark.parametrize(
    ("model", "precision", "checkpoint", "note"),
    [
        ("meta-llama/Llama-3.1-405B-Instruct", None, "meta-llama/Llama-3.1-405B-Instruct", None),
        ("meta-llama/Llama-3.1-405B-Instruct", "fp8", "amd/Llama-3.1-405B-Instruct-FP8-KV", None),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "bf16", "meta-llama/Llama-3.1-405B-Instruct", None),
        ("meta-llama/Llama-3.1-405B-Instruct", "int4", None, "no checkpoint of meta-llama/Llama-3.1-405B-Instruct in int4 is known"),
        ("meta-llama/Llama-2-70b-chat-hf", "fp8", None, "--flag quantization=fp8 makes it while loading meta-llama/Llama-2-70b-chat-hf"),
        ("meta-llama/Llama-2-70b-chat-hf", "bf16", "meta-llama/Llama-2-70b-chat-hf", "is fp16 and converted while it is loaded"),
        ("deepseek-ai/DeepSeek-R1", "mxfp4", None, "its size is taken as parameters x width"),
    ],
)  # fmt: skip
def test_fit_sizes_weights_of_the_precision_asked_for(
    run: Terminal, model: str, precision: str | None, checkpoint: str | None, note: str | None
) -> None:
    words = ("fit", "--model", model, "--gpu", "MI355X", "--count", "8", "-o", "json")
    document = run(*words, *(("--precision", precision) if precision else ())).json
    assert document["checkpoint"] == checkpoint
    assert document["precision"] == (precision or "bf16")
    assert (note or "") in (document["note"] or "")
    steps = {step["name"]: step["value"] for step in document["steps"]}
    bits = {"bf16": 16, "fp8": 8, "int4": 4.2, "mxfp4": 4.5}[document["precision"]]
    assert steps["weights"] * 8 / steps["parameters"] == pytest.approx(bits, rel=0.05)


def test_online_quantisation_is_the_precision_that_is_told(run: Terminal) -> None:
    words = (
        "fit",
        "--model",
        "meta-llama/Llama-2-70b-chat-hf",
        "--gpu",
        "MI300X",
        "--count",
        "1",
        "-o",
        "json",
    )
    document = run(*words, "--flag", "quantization=fp8").json
    assert (document["precision"], document["checkpoint"]) == ("fp8", "meta-llama/Llama-2-70b-chat-hf")
    steps = {step["name"]: step["how"] for step in document["steps"]}
    assert steps["weight format"] == "quantised while loading meta-llama/Llama-2-70b-chat-hf"


def test_fit_names_changes_that_help_in_words_and_by_field(run: Terminal) -> None:
    document = run(
        "fit",
        "--model",
        "meta-llama/Llama-3.1-405B-Instruct",
        "--gpu",
        "MI300X",
        "--count",
        "4",
        "-o",
        "json",
    ).json
    assert document["verdict"] == "DoesNotFit"
    assert document["remedy"] == "use 8 x MI300X, or use amd/Llama-3.1-405B-Instruct-FP8-KV (fp8)"
    more, smaller = document["remedies"]
    assert (more["gpuCount"], more["precision"]) == (8, "bf16")
    assert (smaller["gpuCount"], smaller["precision"]) == (4, "fp8")
    for each in document["remedies"]:
        words = ("--model", each["checkpoint"], "--gpu", "MI300X", "--count", str(each["gpuCount"]))
        assert run("fit", *words, "-o", "json").json["verdict"] == "Fits", each


def test_the_fewest_partitions_are_told_of_each_gpu_that_has_the_mode(run: Terminal) -> None:
    rows = {
        row["gpuModel"]: row
        for row in run("fit", "--model", "Qwen/Qwen3-8B", "--partition", "cpx_nps4", "-o", "json").json
    }
    assert (rows["MI300X"]["gpuCount"], rows["MI325X"]["gpuCount"], rows["MI210"]["gpuCount"]) == (2, 1, None)
    assert rows["MI210"]["verdict"] == "DoesNotFit"
    one = run(
        "fit", "--model", "Qwen/Qwen3-8B", "--gpu", "MI300X", "--partition", "cpx_nps4", "-o", "json"
    ).json
    assert (one["gpuCount"], one["message"]) == (2, rows["MI300X"]["message"])


def test_status_shows_deployments_of_one_namespace_or_all(run: Terminal, tmp_path: Path) -> None:
    kind, obj = deployment("chat")
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "answers"}
    recipe_in_use = {"name": "small", "gpus": "1xMI300X", "precision": "bf16", "tier": "Primary"}
    obj["status"] = {"conditions": [ready], "recipe": recipe_in_use, "ready": "1/1", "modelID": QWEN}
    cluster = snapshot(tmp_path, node("gpu-1"), recipe("small"), (kind, obj), deployment("b", "team-b"))
    rows = run("status", "--cluster", cluster, "-o", "json").json["deployments"]
    assert [(row["namespace"], row["name"], row["ready"]) for row in rows] == [
        ("team-a", "chat", "True"), ("team-b", "b", None),
    ]  # fmt: skip
    assert "team-a" not in run("status", "--cluster", cluster, "-n", "team-b").out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(command: str) -> None:
    assert examples(command)


OFFLINE = ("select", "explain", "render", "diff", "fit", "recipes", "status", "completion")
"""Commands whose examples run without a cluster; all run beside one in tests/e2e/test_cli.py."""


@pytest.mark.parametrize("command", OFFLINE)
def test_the_examples_of_the_help_run(run: Terminal, cluster: Path, tmp_path: Path, command: str) -> None:
    """With the files they speak of: where an example reads the live cluster, a snapshot stands for it."""
    apps = tmp_path / "apps"
    apps.mkdir()
    app = manifest(apps, "app")
    scripts = (
        "/etc/bash_completion.d/aim-engine",
        "${fpath[1]}/_aim-engine",
        "~/.config/fish/completions/aim-engine.fish",
    )
    stand_ins = {
        "snapshot.yaml": cluster, "nodes.yaml": cluster, "apps/": apps, "app.yaml": app, "my-recipes/": ROOT / "recipes" / "qwen3",
        "my-recipes": tmp_path / "imported", "../aim-build": ROOT / "recipes", "qwen": "chat",
        **{name: tmp_path / str(i) for i, name in enumerate(scripts)},
    }  # fmt: skip
    for line in examples(command):
        example = placed(line, stand_ins)
        live = command in ("select", "explain", "render", "diff", "status") and not {
            "--cluster",
            "--nodes",
        } & set(example.words)
        ended = run(*example.words, *(("--cluster", cluster) if live else ()))
        assert ended.code in (0, 3, 4 if "import" in example.words else 0), f"{line}: {ended}"
        assert ended.out or "import" in example.words, line


def test_the_commands_of_the_guide_for_pipelines_run(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "gitops.md").read_text()
    commands = re.findall(r"(?:^|`)(aim-engine (?:explain|diff) [^`\n]+)", guide, re.MULTILINE)
    assert len(commands) >= 2
    apps = tmp_path / "apps"
    apps.mkdir()
    manifest(apps, "chat")
    (tmp_path / "snapshot.yaml").write_text(cluster.read_text())
    for command in commands:
        placed = [
            str(tmp_path / word) if (tmp_path / word).exists() else word for word in shlex.split(command)[1:]
        ]
        assert run(*placed).code == 0, command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_its_flags(run: Terminal, shell: str) -> None:
    script = run("completion", shell).out
    assert all(re.search(rf"\b{name}\b", script) for name in COMMANDS)
    assert "cluster" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_bash_completes_commands_and_flags(run: Terminal) -> None:
    script = run("completion", "bash").out
    ask = (
        f'{script}\nCOMP_WORDS=(aim-engine {{}}); COMP_CWORD={{}}; _aim_engine; echo "${{{{COMPREPLY[@]}}}}"'
    )
    for typed, place, wanted in (
        ("ex", 1, "explain"),
        ("fit --pre", 2, "--precision"),
        ("recipes va", 2, "validate"),
    ):
        text = ask.replace("{}", typed, 1).replace("{}", str(place), 1).replace("{{", "{").replace("}}", "}")
        done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [wanted]


def test_colour_is_only_for_terminals(run: Terminal, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("select", QWEN, "--cluster", cluster)
    assert "\x1b" not in run(*words).out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mchosen\x1b[0m" in run(*words).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(*words).out


def test_a_closed_pipe_ends_quietly(cluster: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m aim_engine recipes list | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "NAME" in done.stdout
    assert "Traceback" not in done.stderr
    assert cluster.exists()
