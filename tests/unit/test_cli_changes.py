"""What a file or folder would apply: each deployment has its answer, twins are refused, what waits is shown as it will be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.selection import list_schema
from unit.cli_world import Ended, Json, Terminal, config_map, deployment, node, pod, recipe, snapshot
from unit.json_schema import problems
from unit.operator_world import running
from unit.selection_world import QWEN

CUSTOM = "recipe_id: mine\nhuggingface_id: Qwen/Qwen3-32B\nhardware: MI300X\ngpu_count: 2\nprecision: bf16\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A node with half of its GPUs taken."""
    return snapshot(tmp_path, node("gpu-1"), pod("other", "gpu-1", 4), recipe("small"), recipe("big", gpus=8))


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    folder = tmp_path / "apps"
    folder.mkdir()
    return folder


def write(path: Path, *objects: tuple[str, Json]) -> Path:
    path.write_text(yaml.safe_dump_all([{"kind": kind, **obj} for kind, obj in objects]))
    return path


def plain(name: str, namespace: Any = None, **spec: Any) -> tuple[str, Json]:
    """A deployment as people write it."""
    kind, obj = deployment(name, **spec)
    return kind, {**obj, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}}


BIG = {"recipe": {"name": "big"}}


def test_a_folder_is_always_a_list_with_an_entry_for_each_deployment_and_each_wrong_file(
    run: Terminal, cluster: Path, apps: Path
) -> None:
    write(apps / "a.yaml", plain("good", "team-a"))
    ended = run("explain", "-f", apps, "--cluster", cluster, "-o", "json")
    assert (ended.code, [each["name"] for each in ended.json]) == (0, ["good"])
    write(apps / "b.yaml", plain("wrong", replicas="two"))
    (apps / "c.yaml").write_text("a: [")
    write(apps / "d.json", plain("hopeless", model={"id": "acme/x"}), ("AIMRecipe", recipe("bad", gpus=0)[1]))
    write(apps / "e.yaml", plain("waits", **BIG))
    ended = run("explain", "-f", apps, "--cluster", cluster, "-n", "team-b", "-o", "json")
    assert ended.code == 4
    assert list(problems(list_schema(), ended.json)) == []
    told = [
        (Path(each["file"]).name[:6], each.get("namespace"), each.get("name"), each.get("outcome"))
        for each in ended.json
    ]
    assert told == [
        ("a.yaml", "team-a", "good", "Selected"), ("b.yaml", "team-b", "wrong", None), ("c.yaml", None, None, None),
        ("d.json", "team-b", "hopeless", "NoRecipe"), ("d.json", None, None, None), ("e.yaml", "team-b", "waits", "Waiting"),
    ]  # fmt: skip
    assert "spec.replicas 'two'" in ended.json[1]["error"]
    assert "line 2: not YAML" in ended.json[2]["error"]
    assert "hardware.gpuCount '0'" in ended.json[4]["error"]
    assert all(each["error"] in ended.err for each in ended.json if "error" in each)
    table = run("explain", "-f", apps, "--cluster", cluster)
    assert table.out.count("Invalid") == 3
    (apps / "b.yaml").unlink()
    (apps / "c.yaml").unlink()
    write(apps / "d.json", plain("hopeless", model={"id": "acme/x"}))
    assert run("explain", "-f", apps, "--cluster", cluster).code == 3


def test_a_single_file_is_one_document_and_a_file_of_several_is_a_list(
    run: Terminal, cluster: Path, tmp_path: Path
) -> None:
    one = write(tmp_path / "one.yaml", plain("a"))
    assert run("explain", "-f", one, "--cluster", cluster, "-o", "json").json["name"] == "a"
    two = write(tmp_path / "two.yaml", plain("a"), plain("b", replicas=-1))
    ended = run("explain", "-f", two, "--cluster", cluster, "-o", "json")
    assert (ended.code, [set(each) >= {"outcome"} for each in ended.json]) == (4, [True, False])
    wrong = write(tmp_path / "wrong.yaml", plain("a", replicas=-1))
    ended = run("explain", "-f", wrong, "--cluster", cluster, "-o", "json")
    assert (ended.code, ended.out) == (4, "")


def test_a_list_of_objects_is_a_file_of_several(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    items = [obj for _, obj in (plain("a"), plain("b"))]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert [each["name"] for each in run("explain", "-f", path, "--cluster", cluster, "-o", "json").json] == [
        "a",
        "b",
    ]
    for kind in ("List", "AIMDeploymentList"):
        path.write_text(json.dumps({"kind": kind, "items": 7}))
        ended = run("explain", "-f", path, "--cluster", cluster)
        assert (ended.code, "items '7' is not a list" in ended.err) == (4, True)
    ended = run("recipes", "validate", path)
    assert (ended.code, "items '7' is not a list" in ended.out) == (4, True)
    path.write_text(json.dumps({"kind": "List", "items": []}))
    assert "there are no recipes" in run("recipes", "validate", path).err


def twins(ended: Ended, *places: str) -> None:
    told = ended.err + ended.out
    assert ended.code == 4
    assert "is there already, at" in told
    assert all(place in told for place in places), told


def test_what_is_there_twice_is_refused_with_both_places(
    run: Terminal, cluster: Path, apps: Path, tmp_path: Path
) -> None:
    write(apps / "a.yaml", plain("chat"))
    write(apps / "b.yaml", plain("chat", "team-a"))
    twins(
        run("explain", "-f", apps, "--cluster", cluster, "-n", "team-a"),
        "b.yaml: AIMDeployment team-a/chat",
        "a.yaml;",
    )
    assert run("explain", "-f", apps, "--cluster", cluster, "-n", "team-b").code == 0
    both = write(tmp_path / "both.yaml", plain("chat"), plain("chat", "default"))
    for command in ("explain", "render", "diff"):
        twins(run(command, "-f", both, "--cluster", cluster), "document 2", "document 1")
    own = tmp_path / "recipes"
    own.mkdir()
    for name in ("x", "y"):
        write(own / f"{name}.yaml", ("AIMRecipe", recipe("same")[1]))
    twins(run("select", QWEN, "--cluster", cluster, "--recipes", own), "x.yaml", "y.yaml")
    twins(run("recipes", "list", "--recipes", own), "x.yaml", "y.yaml")
    listed = tmp_path / "list.json"
    items = [{"kind": kind, **obj} for kind, obj in (plain("a"), plain("a", "default"))]
    listed.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    twins(run("select", QWEN, "--cluster", listed), "items[1]", "items[0]")
    nodes = [{"kind": "Node", **node("n")[1]}, {"kind": "Node", **node("n")[1]}]
    nodes[1]["metadata"] = {**nodes[1]["metadata"], "namespace": "x"}
    listed.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
    twins(run("select", QWEN, "--nodes", listed), "items[1]", "items[0]")


def test_objects_of_others_may_share_a_name(run: Terminal, cluster: Path, apps: Path) -> None:
    for name in ("a", "b"):
        foreign = {"apiVersion": "example.com/v1", "kind": "Service", "metadata": {"name": "s"}}
        write(apps / f"{name}.yaml", plain(name), ("Secret", {"metadata": {"name": "s"}, "data": {}}))
        (apps / f"{name}-foreign.json").write_text(json.dumps(foreign))
    assert run("explain", "-f", apps, "--cluster", cluster).code == 0


@pytest.mark.parametrize("command", ["explain", "render", "diff"])
def test_recipes_and_configmaps_of_the_same_file_take_part(
    run: Terminal, cluster: Path, tmp_path: Path, command: str
) -> None:
    own = ("ConfigMap", config_map("mine", CUSTOM)[1])
    for wish, others in ((BIG | {"recipe": {"name": "new"}}, ("AIMRecipe", recipe("new", gpus=2)[1])), ({"recipe": {"configMap": "mine"}}, own)):  # fmt: skip
        path = write(tmp_path / "app.yaml", plain("app", "team-a", **wish), others)
        ended = run(command, "-f", path, "--cluster", cluster)
        assert ended.code == 0, ended.err
        assert "2xMI300X" in ended.out or "--tensor-parallel-size" in ended.out


def test_a_recipe_of_a_change_does_not_become_another_one(
    run: Terminal, cluster: Path, tmp_path: Path
) -> None:
    moved = recipe("small", gpu="MI325X")[1]
    path = write(tmp_path / "app.yaml", plain("app"), ("AIMRecipe", moved))
    ended = run("explain", "-f", path, "--cluster", cluster)
    assert ended.code == 4
    assert "create a new AIMRecipe instead" in ended.err


def test_what_waits_is_rendered_as_it_will_be_and_said_to_wait(
    run: Terminal, cluster: Path, tmp_path: Path
) -> None:
    app = write(tmp_path / "app.yaml", plain("app", "team-a", **BIG))
    explained = run("explain", "-f", app, "--cluster", cluster, "-o", "json")
    rendered = run("render", "-f", app, "--cluster", cluster)
    changed = run("diff", "-f", app, "--cluster", cluster)
    assert explained.json["outcome"] == "Waiting"
    assert explained.code == rendered.code == changed.code == 0
    items = {each["kind"]: each for each in yaml.safe_load(rendered.out)["items"]}
    (container,) = items["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["amd.com/gpu"] == "8"
    assert "team-a/app: waiting for big: needs 8 free MI300X GPUs" in rendered.err
    assert "until then nothing is created" in rendered.err
    assert "would change when GPUs are free" in changed.err
    free = snapshot(tmp_path, node("gpu-1"), recipe("small"), recipe("big", gpus=8))
    assert run("render", "-f", app, "--cluster", free).out == rendered.out, "nothing else will be"


def test_what_can_never_serve_is_3_for_all_three(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    app = write(tmp_path / "app.yaml", plain("app", recipe={"gpuCount": 64}))
    for command in ("explain", "render", "diff"):
        assert run(command, "-f", app, "--cluster", cluster).code == 3


def test_items_of_a_raw_list_need_no_version(run: Terminal, tmp_path: Path) -> None:
    """As `kubectl get --raw` prints them."""
    path = tmp_path / "raw.json"
    items = [
        {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
        for _, obj in (node("n"), node("m"))
    ]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "NodeList", "items": items}))
    assert run("select", QWEN, "--nodes", path, "-o", "json").json["inventory"]["nodes"] == 2
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [{**deployment("chat")[1], "kind": "AIMDeployment"}],
            }
        )
    )
    told = json.loads(path.read_text())
    del told["items"][0]["apiVersion"]
    path.write_text(json.dumps(told))
    ended = run("status", "--cluster", path, "-o", "json")
    assert ([row["name"] for row in ended.json["deployments"]], ended.err) == (["chat"], "")


def test_recipes_that_cannot_be_used_are_told_and_the_others_serve(run: Terminal, tmp_path: Path) -> None:
    future = {**recipe("future")[1], "apiVersion": "aim.engine.amd.com/v9"}
    path = snapshot(
        tmp_path, node("gpu-1"), recipe("small"), recipe("broken", precision="fp5"), ("AIMRecipe", future), recipe("do.ts"),
        ("Service", {"apiVersion": "serving.knative.dev/v1", "metadata": {"name": "s"}}),
    )  # fmt: skip
    ended = run("select", QWEN, "--cluster", path, "-o", "json")
    assert (ended.code, ended.json["chosen"]["recipe"]) == (0, "small")
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert "items[3]: AIMRecipe broken is passed over: spec.precision 'fp5'" in ended.err
    assert "AIMRecipe future is passed over: apiVersion 'aim.engine.amd.com/v9' is not" in ended.err
    assert "AIMRecipe do.ts is passed over: metadata.name must be a DNS label" in ended.err
    listed = run("recipes", "list", "--cluster", path, "-o", "json")
    assert ([row["name"] for row in listed.json], len(listed.err.splitlines())) == (["small"], 3)
    for obj in (future, recipe("broken", precision="fp5")[1], recipe("do.ts")[1]):
        file = write(tmp_path / "r.yaml", ("AIMRecipe", obj))
        assert run("recipes", "validate", file).code == 4
        assert run("select", QWEN, "--cluster", path, "--recipes", file).code == 4


@pytest.mark.parametrize("name", ["../x", "Team A", "", "a" * 64, "-a", "a\nb"])
def test_a_namespace_that_cannot_be_is_refused(
    run: Terminal, cluster: Path, tmp_path: Path, name: str
) -> None:
    app = write(tmp_path / "app.yaml", plain("app"))
    for words in (
        ("select", QWEN),
        ("explain", "app"),
        ("explain", "-f", app),
        ("render", "-f", app),
        ("diff", "-f", app),
    ):
        ended = run(*words, "--cluster", cluster, f"--namespace={name}")
        assert (ended.code, "must be a DNS label" in ended.err) == (4, True)


def test_what_was_exported_from_a_cluster_is_taken(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    """`kubectl get -o yaml` has more in it than people write."""
    added: Json = {
        "uid": "u", "resourceVersion": "1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"},
        "managedFields": [{"manager": "kubectl"}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }  # fmt: skip
    objects = []
    for kind, obj in (plain("app", "team-a"), ("AIMRecipe", recipe("mine")[1])):
        objects.append(
            (kind, {**obj, "metadata": {**obj["metadata"], **added}, "status": {"conditions": []}})
        )
    path = write(tmp_path / "app.yaml", *objects)
    assert run("explain", "-f", path, "--cluster", cluster).code == 0
    assert run("recipes", "validate", write(tmp_path / "r.yaml", objects[1])).code == 0


def test_our_own_objects_are_read_again(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(run("recipes", "show", "small", "--cluster", cluster).out)
    assert run("recipes", "validate", shown).code == 0
    copy = shutil.copy(cluster, tmp_path / "copy.yaml")
    assert run("recipes", "list", "--cluster", copy).out == run("recipes", "list", "--cluster", cluster).out


def test_a_file_changes_of_a_deployment_that_runs_only_what_it_changes(run: Terminal, tmp_path: Path) -> None:
    """It stays who it is, with its GPUs and its recipe, though a better one is free by now."""
    one, full, small, big = (
        node("gpu-1"),
        pod("other", "gpu-1", 4),
        recipe("small"),
        recipe("big", gpus=8, maturity="optimized"),
    )
    cluster = snapshot(tmp_path, one, small, big, *running(one, full, small, big))
    same = write(tmp_path / "same.yaml", plain("chat", "team-a"))
    told = run("explain", "-f", same, "--cluster", cluster, "-o", "json").json
    assert (told["chosen"]["recipe"], told["change"], told["recommendation"]["recipe"]) == (
        "small",
        None,
        "big",
    )
    assert told["inForce"]["nodes"] == ["gpu-1"]
    assert run("diff", "-f", same, "--cluster", cluster).out == ""
    port = write(tmp_path / "port.yaml", plain("chat", "team-a", service={"port": 80}))
    told = run("explain", "-f", port, "--cluster", cluster, "-o", "json").json
    assert (told["chosen"]["recipe"], told["change"]) == ("small", "Rendering")
    assert "-    port: 8000\n+    port: 80\n" in run("diff", "-f", port, "--cluster", cluster).out
    table = run("explain", "chat", "-n", "team-a", "--cluster", cluster).out
    assert "\n(its own GPUs are counted as free)\n" in table
    assert (
        "counted as free"
        not in run("explain", "-f", write(tmp_path / "new.yaml", plain("new")), "--cluster", cluster).out
    )
    assert "In force: small (1xMI300X, bf16), Tertiary, revision 1 on gpu-1\n" in table
    assert "Recommended: big (8xMI300X, bf16)" in table
    assert "  gain: " in table
    assert "  cost: a restart of 1 replica" in table
    moving = snapshot(
        tmp_path, one, small, big, *running(one, full, small, big, recipe={"updatePolicy": "Automatic"})
    )
    assert "; the next pass moves it\n" in run("explain", "chat", "-n", "team-a", "--cluster", moving).out


@pytest.mark.parametrize(
    ("spec", "replicas", "budget", "told"),
    [
        ({}, 1, False, ""),
        ({"replicas": 1}, 1, False, ""),
        ({"replicas": 3}, 3, True, ""),
        ({"replicas": 9}, 4, True, "team-a/app: 4 of 9 replicas run until GPUs are freed: 4 of 9 replicas fit now"),
        ({"replicas": 0}, 0, False, ""),
        ({"replicas": 3, "suspend": True}, 0, False, ""),
        ({"replicas": 9, "recipe": {"whenNoCapacity": "CreatePending"}}, 9, True, ""),
        ({"replicas": 2, **BIG}, 2, True, "team-a/app: waiting for big"),
    ],
    ids=str,
)  # fmt: skip
def test_as_many_replicas_are_rendered_as_the_operator_would_run(
    run: Terminal, cluster: Path, tmp_path: Path, spec: Json, replicas: int, budget: bool, told: str
) -> None:
    app = write(tmp_path / "app.yaml", plain("app", "team-a", **spec))
    ended = run("render", "-f", app, "--cluster", cluster)
    items = {each["kind"]: each["spec"] for each in yaml.safe_load(ended.out)["items"]}
    assert items["Deployment"]["replicas"] == replicas
    assert ("PodDisruptionBudget" in items) is budget
    assert ended.err.startswith(told) if told else ended.err == ""
    assert f"+  replicas: {replicas}\n" in run("diff", "-f", app, "--cluster", cluster).out


@pytest.mark.parametrize(
    ("before", "after", "lines", "told"),
    [
        ({}, {"replicas": 3}, ["-  replicas: 1", "+  replicas: 3"], "replicas 1 -> 3; pods that run are left alone"),
        ({"replicas": 3}, {}, ["-  replicas: 3", "+  replicas: 1"], "replicas 3 -> 1; pods that run are left alone"),
        ({"replicas": 2}, {"replicas": 4}, ["-  replicas: 2", "+  replicas: 4"], "replicas 2 -> 4"),
        ({}, {"replicas": 0}, ["-  replicas: 1", "+  replicas: 0"], "replicas 1 -> 0"),
        ({"replicas": 2}, {"replicas": 2, "suspend": True}, ["-  replicas: 2", "+  replicas: 0"], "replicas 2 -> 0"),
        ({}, {"replicas": 9}, ["-  replicas: 1", "+  replicas: 4"], "4 of 9 replicas run until GPUs are freed"),
        ({"replicas": 2}, {"replicas": 2}, [], "would not change"),
        ({}, {"workload": {"maxBatchSize": 7}}, [], "pods are replaced by Surge"),
        ({}, {"service": {"port": 80}}, [], "would change; pods that run are left alone"),
    ],
    ids=str,
)  # fmt: skip
def test_another_number_of_replicas_is_a_change(
    run: Terminal, tmp_path: Path, before: Json, after: Json, lines: list[str], told: str
) -> None:
    there = (node("gpu-1"), pod("other", "gpu-1", 4), recipe("small"))
    cluster = snapshot(tmp_path, *there, *running(*there, **before))
    ended = run(
        "diff", "-f", write(tmp_path / "app.yaml", plain("chat", "team-a", **after)), "--cluster", cluster
    )
    assert told in ended.err
    assert [line for line in ended.out.splitlines() if "replicas:" in line and line[0] in "+-"] == lines
    several = [spec.get("replicas", 1) >= 2 and not spec.get("suspend") for spec in (before, after)]
    assert ("PodDisruptionBudget/chat" in ended.out) is (several[0] is not several[1])
