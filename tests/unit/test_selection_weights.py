"""What a recipe really loads is what is checked and sized, whatever the recipe says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint_catalog, model_facts
from aim_engine.selection import CatalogueFacts, recipe_fit, validity_problems
from aim_engine.selection.weights import loaded_model, stored_weights, weights_problems
from aim_engine.sizing import FitVerdict
from unit.selection_world import FACTS, LLAMA_405B, QWEN, UNHURRIED, UNKNOWN, NoFacts, recipe

LARGE = "amd/Llama-3.1-405B-Instruct-FP8-KV"
CHECKPOINTS = sorted(checkpoint_catalog().values(), key=lambda each: each.id)


class Learned(CatalogueFacts):
    """The catalogue, and what some repositories say of themselves."""

    def __init__(self, *described: ModelFacts) -> None:
        self._described = {each.id: each for each in described}

    def model(self, model_id: str) -> ModelFacts | None:
        return super().model(model_id) or self._described.get(model_id)

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        own = self._described.get(source_id)
        if own is None:
            return super().checkpoint(source_id)
        return Checkpoint(source_id, source_id, own.native_precision, "config.json")


def described(name: str, **changes: Any) -> ModelFacts:
    known = model_facts(QWEN)
    assert known is not None
    return replace(known, id=name, **changes)


def told(facts: Any = FACTS, **fields: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in weights_problems(recipe("r", **fields).spec, facts)]


def test_a_large_checkpoint_under_a_small_models_name_does_not_fit() -> None:
    made = recipe("r", source=LARGE, precision="fp8")
    assert told(source=LARGE, precision="fp8") == [
        f"source: holds weights of {LLAMA_405B}, and modelID is {QWEN}"
    ]
    answer = recipe_fit(made, FACTS)
    assert answer is not None
    assert answer.verdict is FitVerdict.DOES_NOT_FIT
    assert "weights need 381.9 GiB" in answer.message
    own = loaded_model(FACTS, made.spec)
    assert own is not None
    assert own.id == LLAMA_405B


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, None),
        ({"source": "Qwen/Qwen3-32B-FP8", "precision": "fp8"}, None),
        ({"model": "Qwen/Qwen3-32B-FP8", "precision": "fp8"}, None),
        ({"source": "acme/unheard-of", "precision": "int4"}, None),
        ({"model": UNKNOWN, "precision": "int4"}, None),
        ({"precision": "fp16"}, None),
        ({"precision": "fp8", "engineArgs": {"quantization": "fp8"}}, None),
        ({"precision": "fp8", "engineArgs": {"quantization": "ptpc_fp8"}}, "precision: the weights of Qwen/Qwen3-32B are bf16"),
        ({"precision": "int8", "engineArgs": {"quantization": "experts_int8"}}, None),
        ({"precision": "fp8", "backend": "aim"}, None),
        ({"precision": "fp8"}, "precision: the weights of Qwen/Qwen3-32B are bf16"),
        ({"precision": "int8"}, "precision: the weights of Qwen/Qwen3-32B are bf16"),
        ({"source": "Qwen/Qwen3-32B-FP8"}, "precision: the weights of Qwen/Qwen3-32B-FP8 are fp8"),
        ({"source": "Qwen/Qwen3-32B-FP8", "engineArgs": {"quantization": "fp8"}}, "precision: the weights of Qwen/Qwen3-32B-FP8 are fp8"),
        ({"engineArgs": {"quantization": "fp8"}}, "precision: quantization fp8 turns the weights of Qwen/Qwen3-32B into fp8"),
        ({"source": "Qwen/Qwen3-8B"}, "source: holds weights of Qwen/Qwen3-8B, and modelID is Qwen/Qwen3-32B"),
        ({"model": UNKNOWN, "source": QWEN}, None),
    ],
    ids=str,
)  # fmt: skip
def test_the_precision_is_that_of_the_weights(fields: dict[str, Any], problem: str | None) -> None:
    assert told(**fields) == ([] if problem is None else [problem])


def test_a_repository_that_describes_itself_is_of_the_model_whose_shape_it_has() -> None:
    alike, other = described("acme/qwen3-32b-tuned"), described("acme/other", layers=80)
    facts = Learned(alike, other)
    assert told(facts, source=alike.id) == []
    assert told(facts, source=other.id) == [f"source: holds weights of acme/other, and modelID is {QWEN}"]
    spec = recipe("r", source=alike.id).spec
    assert loaded_model(facts, spec) == alike


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert told(NoFacts(), source=LARGE) == []
    spec = recipe("r", source=LARGE).spec
    assert loaded_model(NoFacts(), spec) is None
    assert stored_weights(NoFacts(), spec) is None


def test_an_image_that_chooses_its_weights_is_sized_by_the_precision_it_is_told() -> None:
    whole = recipe_fit(recipe("r", backend="aim"), FACTS)
    half = recipe_fit(recipe("r", backend="aim", precision="fp8"), FACTS)
    assert whole is not None
    assert half is not None
    assert whole.memory is not None
    assert half.memory is not None
    assert half.memory.weights_bytes_per_gpu < 0.55 * whole.memory.weights_bytes_per_gpu


@UNHURRIED
@given(
    st.sampled_from(CHECKPOINTS), st.sampled_from(CHECKPOINTS), st.sampled_from(list(Precision)),
    st.sampled_from([Backend.VLLM, Backend("sglang")]), st.booleans(),
)  # fmt: skip
def test_a_valid_recipe_is_sized_with_the_weights_it_names(
    named: Checkpoint, source: Checkpoint, precision: Precision, backend: Backend, online: bool
) -> None:
    args = {"quantization": "fp8"} if online else {}
    made = recipe(
        "r", model=named.model, source=source.id, precision=precision, backend=backend, count=8, engineArgs=args
    )  # fmt: skip
    if validity_problems(made, FACTS):
        return
    own = loaded_model(FACTS, made.spec)
    assert own is not None
    assert own.id == source.model == named.model
    assert stored_weights(FACTS, made.spec) == source
    sixteen = {Precision.BF16, Precision.FP16}
    assert (
        source.precision is precision
        or {source.precision, precision} <= sixteen
        or (online and source.precision in sixteen and precision is Precision.FP8)
    )
