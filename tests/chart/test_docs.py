"""What the pages show is right: YAML is read by what it is for, commands are known, and what they name is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from aim_engine.api.configmap import read_recipe
from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.cli import COMMANDS
from aim_engine.cli.completion import parser_of
from aim_engine.reconcile.config import OperatorConfig
from chart.documented import NAMESPACE
from chart.helm import Json, helm
from chart.pages import LANGUAGES, WRITTEN, Block, blocks, commands, words
from chart.schema import SCHEMA
from testbed.product import ROOT

BLOCKS = [block for page in WRITTEN for block in blocks(page)]
CLUSTER_KINDS = {"Namespace", "NetworkPolicy", "PriorityClass", "ResourceQuota"}
"""Kinds of Kubernetes; the API server judges them in test_docs_commands.py."""
PROGRAMS = {
    "helm", "kubectl", "aim-engine", "make", "cd", "ls", "docker", "curl", "pip",
    "scripts/deploy-with-recipe-support.sh", "scripts/backup.sh", "scripts/restore.sh",
}  # fmt: skip


def of(language: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language == language]


def values(content: Json) -> None:
    """Values of the chart."""
    helm("template", "aim-engine", "./helm", "-n", NAMESPACE, "--values", "-", stdin=json.dumps(content))


def fragment(content: Json) -> None:
    """A part of the spec of an AIMDeployment."""
    AIMDeploymentSpec.strict_load({"model": {"id": "Qwen/Qwen3-32B"}, **content["spec"]})


def recipe(text: str) -> None:
    """A recipe as a ConfigMap holds it."""
    found = read_recipe(text, name="recipe", namespace="default")
    if isinstance(found, Faults):
        raise ValueError(found)


KINDS: Mapping[str, Callable[[Json], object]] = {
    "AIMDeployment": AIMDeployment.from_object,
    "AIMRecipe": lambda obj: AIMRecipeSpec.strict_load(obj["spec"]),
    "ConfigMap": lambda obj: recipe(obj["data"]["recipe.yaml"]),
    "Application": lambda obj: values(obj["spec"]["source"]["helm"]["valuesObject"]),
    "HelmRelease": lambda obj: values(obj["spec"]["values"]),
}


def check(content: Json) -> None:
    """Read a document as what it is; one that is nothing we know of is a mistake of the page."""
    if "kind" in content:
        if content["kind"] not in CLUSTER_KINDS:
            KINDS[content["kind"]](content)
    elif set(content) <= set(SCHEMA["properties"]):
        values(content)
    elif set(content) == {"spec"}:
        fragment(content)
    elif set(content) <= {field.alias for field in OperatorConfig.model_fields.values()} | set(
        OperatorConfig.model_fields
    ):
        OperatorConfig.strict_load(content)
    else:
        recipe(yaml.safe_dump(content))


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_what_it_is_shown_for(block: Block) -> None:
    for content in yaml.safe_load_all(block.text):
        check(content)


@pytest.mark.parametrize("wrong", ["aim_engine: {gpu_cuont: 4}", "spec: {replicsa: 2}", "hub: {enabeld: true}", "modelID: 7"])  # fmt: skip
def test_yaml_that_is_wrong_would_be_found(wrong: str) -> None:
    with pytest.raises((ValueError, AssertionError)):
        check(yaml.safe_load(wrong))


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= set(LANGUAGES)
    for page in WRITTEN:
        assert page.read_text().count("```") == 2 * len(blocks(page)), f"{page}: a block is not closed"


@pytest.mark.parametrize("block", of("sh"))
def test_commands_are_of_programs_that_users_have(block: Block) -> None:
    for command in commands(block):
        program, *rest = words(command)
        assert program in PROGRAMS, command
        if program.startswith("scripts/"):
            assert (ROOT / "deploy" / program).exists()
        if program == "aim-engine":
            assert rest[0] in COMMANDS, command
            parser_of(rest[0]).parse_args(rest[1:])


def renders(command: str) -> list[str]:
    """Arguments of `helm template` that check the values of an installation or upgrade."""
    verb, *rest = words(command)[1:]
    if verb not in ("install", "upgrade", "template") or "values.yaml" in rest:
        return []
    return [
        word
        for word in rest
        if word not in ("--reuse-values", "--reset-then-reuse-values") and not word.startswith("--dry-run")
    ]


CHART_COMMANDS = sorted(
    {
        command
        for block in BLOCKS
        for command in commands(block)
        if words(command)[0] == "helm" and renders(command)
    }
)


@pytest.mark.parametrize("command", CHART_COMMANDS)
def test_values_of_a_helm_command_are_taken(command: str) -> None:
    given = renders(command)
    helm("template", *given, *([] if "-n" in given or "--namespace" in given else ["--namespace", NAMESPACE]))
