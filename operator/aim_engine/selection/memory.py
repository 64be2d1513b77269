"""The memory answer for a recipe: what it really loads, on its own GPUs, and what would help where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.api.recipe import AIMRecipeSpec, Hardware
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_vram_bytes
from aim_engine.catalog.plan import EnginePlan
from aim_engine.selection.types import Facts
from aim_engine.selection.weights import loaded_model, stored_weights
from aim_engine.sizing import Fit, fit, hopeless, remedies, told


@dataclass(frozen=True, slots=True)
class Help:
    """What would make a recipe fit. Every remedy was tried; where there is none, the note says so."""

    remedy: str | None
    note: str = ""
    """To be added to the message."""


def device_bytes(hardware: Hardware) -> int:
    """Memory of one GPU, or partition of one, of a recipe; 0 of a GPU that is not in the catalogue."""
    gpu = gpu_catalog().get(hardware.gpu_model)
    return (partition_vram_bytes(gpu, hardware.partition) or gpu.vram_bytes) if gpu else 0


def sized(
    facts: Facts, spec: AIMRecipeSpec, gpu: GPU, plan: EnginePlan, required_context: int | None = None
) -> Fit:
    """Whether the recipe fits under a plan."""
    return fit(
        loaded_model(facts, spec), stored_weights(facts, spec), gpu, spec.hardware.partition, spec.precision, plan,
        required_context=required_context,
    )  # fmt: skip


def helping(
    facts: Facts, spec: AIMRecipeSpec, gpu: GPU, plan: EnginePlan, required_context: int | None = None
) -> Help:
    """The nearest changes that make the recipe fit, or that let its rules pass where its model is not known."""
    model, partition = loaded_model(facts, spec), spec.hardware.partition
    found = remedies(
        model, stored_weights(facts, spec), gpu, partition, spec.precision, plan, required_context=required_context
    )  # fmt: skip
    if found:
        return Help(told(found))
    if model is None:
        return Help(f"use a recipe for a GPU model that runs {spec.precision}")
    device = gpu.model if partition is None else f"{gpu.model} in {partition}"
    return Help(None, f"; {hopeless(device)}")
