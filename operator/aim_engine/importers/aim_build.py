"""AIM profiles (amd-enterprise-ai/aim-build): one file is one configuration for one metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aim_engine.api.configmap import read_profile
from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.enums import Objective, Precision
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.imports import Origin
from aim_engine.catalog.models import Checkpoint, checkpoint
from aim_engine.importers.recipe import build
from aim_engine.importers.results import Configuration, Imported, Rejected, SourceFile
from aim_engine.importers.translate import translate

_SIXTEEN_BIT = {"float16": Precision.FP16, "half": Precision.FP16, "bfloat16": Precision.BF16}


def import_profiles(files: Sequence[SourceFile], origin: Origin) -> list[Imported | Rejected]:
    """The recipes of all profiles; those of one configuration that differ in the metric alone are one recipe."""
    read = [_read(file) for file in sorted(files, key=lambda file: file.path)]
    refused = [each for each in read if isinstance(each, Rejected)]
    translated = [translate(each) for each in read if isinstance(each, Configuration)]
    return [*(build(each, origin) for each in _merged(translated)), *refused]


def _read(file: SourceFile) -> Configuration | Rejected:
    if isinstance(file.content, ReadError):
        return Rejected((file.path,), file.content)
    if "aim_id" not in file.content.data and "model_id" not in file.content.data:
        message = "the profile names no model, so it is no recipe"
        return Rejected((file.path,), ReadError("model_id", "", message, "name the model in model_id"))
    spec = read_profile(file.content)
    if isinstance(spec, ReadError):
        return Rejected((file.path,), spec)
    precision, notes = _precision(spec)
    metadata = file.content.data.get("metadata")
    if isinstance(metadata, dict) and metadata.get("manual_selection_only") is True:
        notes = (*notes, "AMD's runtime takes this profile only when it is named")
    return Configuration(
        sources=(file.path,),
        model_id=spec.model_id,
        source=spec.source,
        gpu_model=spec.hardware.gpu_model,
        gpu_count=spec.hardware.gpu_count,
        precision=precision,
        engine_args=dict(spec.engine_args),
        env=dict(spec.env),
        objective=spec.objective,
        maturity=spec.maturity,
        notes=notes,
    )


def _precision(spec: AIMRecipeSpec) -> tuple[Precision, tuple[str, ...]]:
    """What the flags and the checkpoint make of it; AIM calls every run that is neither FP8 nor FP4 `fp16`."""
    stored = checkpoint(spec.source or spec.model_id)
    real = _real_precision(spec, stored)
    if real is spec.precision:
        return real, ()
    return real, (f"AIM labels it {spec.precision}; the checkpoint and dtype make it {real}",)


def _real_precision(spec: AIMRecipeSpec, stored: Checkpoint | None) -> Precision:
    if stored is None:
        return spec.precision
    if stored.precision not in _SIXTEEN_BIT.values():
        return stored.precision
    return _SIXTEEN_BIT.get(str(spec.engine_args.get("dtype", "auto")), stored.precision)


def _merged(found: list[Configuration]) -> list[Configuration]:
    """Configurations with equal settings as one; the throughput profile speaks for both."""
    groups: dict[object, list[Configuration]] = {}
    for each in found:
        groups.setdefault(_settings(each), []).append(each)
    return [_one(group) for group in groups.values()]


def _settings(found: Configuration) -> object:
    where = (found.model_id, found.source, found.gpu_model, found.gpu_count, found.precision)
    return (where, repr(sorted(found.engine_args.items())), repr(sorted(found.env.items())))


def _one(group: list[Configuration]) -> Configuration:
    ordered = sorted(group, key=lambda each: each.objective is not Objective.THROUGHPUT)
    first, others = ordered[0], ordered[1:]
    notes = [
        f"the {other.objective} profile has the same settings"
        + (f", as {other.maturity}" if other.maturity is not first.maturity else "")
        for other in others
    ]
    sources = tuple(path for each in ordered for path in each.sources)
    return replace(first, sources=sources, notes=(*first.notes, *notes))
