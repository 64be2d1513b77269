"""Recipes of the vLLM project (vllm-project/recipes): one file is one model, its variants, and the GPUs it was verified on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.enums import Maturity, Objective, Precision
from aim_engine.api.wording import shown
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.catalog.gpus import GPU, gpu_by_product_name, gpu_catalog
from aim_engine.catalog.imports import Origin, import_rules
from aim_engine.catalog.models import checkpoint
from aim_engine.importers.recipe import build, not_sizable, renamed
from aim_engine.importers.results import Configuration, Imported, Rejected, SourceFile
from aim_engine.importers.tokens import from_tokens
from aim_engine.importers.translate import translate
from aim_engine.importers.vllm_file import ModelFile, Override, Variant

_VERIFIED = "verified"
_SPECIFIED_TP = "tensor-parallel-size"
_SIXTEEN_BIT = frozenset({Precision.BF16, Precision.FP16})


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One variant on one GPU model."""

    file: ModelFile
    path: str
    name: str
    variant: Variant
    gpu: GPU
    key: str
    """The GPU as the file spells it: mi300x."""

    @property
    def place(self) -> str:
        """Where in the source the configuration stands."""
        return f"{self.path}#{self.name}@{self.key}"

    @property
    def label(self) -> str:
        """What a refusal is about: a sibling stands at the same place as the GPU it follows."""
        sibling = self.gpu.model in import_rules().siblings
        return f"{self.place} for {self.gpu.model}" if sibling else self.place


def import_models(files: Sequence[SourceFile], origin: Origin) -> list[Imported | Rejected]:
    """The recipes of all files, one per variant and verified GPU model; GPUs of other makers are passed over."""
    results: list[Imported | Rejected] = []
    for file in sorted(files, key=lambda file: file.path):
        read = _read(file)
        results.extend([read] if isinstance(read, Rejected) else _import_file(file.path, read, origin))
    return _first_of_each(results)


def _read(file: SourceFile) -> ModelFile | Rejected:
    if isinstance(file.content, ReadError):
        return Rejected((file.path,), file.content)
    try:
        found = ModelFile.model_validate(file.content.data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = tuple(first["loc"])
        told = file.content.error(path, first["input"], first["msg"], "correct it in the source")
        return Rejected((file.path,), told)
    if "omni" in found.meta.tasks:
        message = "is served by vLLM-Omni, which is another engine"
        return Rejected((file.path,), ReadError("meta.tasks", "omni", message, "serve it by hand"))
    if _release(found.model.min_vllm_version) > _release(PINNED_VLLM):
        message = f"is newer than the pinned vLLM {PINNED_VLLM}"
        field, remedy = "model.min_vllm_version", "import it for a newer engine"
        return Rejected((file.path,), ReadError(field, found.model.min_vllm_version, message, remedy))
    return found


def _import_file(path: str, file: ModelFile, origin: Origin) -> Iterator[Imported | Rejected]:
    gpus = list(_verified(file))
    if not gpus:
        message = "no AMD Instinct GPU is marked as verified"
        yield Rejected((path,), ReadError("meta.hardware", "", message, "wait for the source to verify one"))
    for name, variant in file.variants.items():
        if variant.precision not in set(Precision):
            message = f"is none of {', '.join(Precision)}, which AMD GPUs serve"
            field = f"variants.{name}.precision"
            remedy = "use another variant of the model"
            yield Rejected((f"{path}#{name}",), ReadError(field, variant.precision, message, remedy))
            continue
        for key, gpu in gpus:
            yield _import_one(_Wanted(file, path, name, variant, gpu, key), origin)


def _import_one(wanted: _Wanted, origin: Origin) -> Imported | Rejected:
    """The configuration with the fewest GPUs that passes every check, where the source leaves the number open."""
    elsewhere = _not_offered(wanted)
    if elsewhere is not None:
        return Rejected((wanted.label,), elsewhere)
    tokens = from_tokens(_tokens(wanted))
    if isinstance(tokens, ReadError):
        return Rejected((wanted.label,), tokens)
    explicit = _explicit_count(wanted, tokens)
    if isinstance(explicit, ReadError):
        return Rejected((wanted.label,), explicit)
    unsized = not_sizable(_configuration(wanted, tokens, explicit or 1, written=True))
    if unsized is not None:
        return unsized
    counts = [explicit] if explicit is not None else list(_counts(wanted))
    result: Imported | Rejected | None = None
    for count in counts:
        found = _configuration(wanted, tokens, count, written=explicit is not None)
        result = build(translate(found), origin)
        if isinstance(result, Imported):
            return result
    if result is not None:
        return result
    minimum, node = wanted.variant.vram_minimum_gb, wanted.gpu.gpus_per_node
    message = f"is more than the {node} GPUs of a node of {wanted.gpu.model} have"
    field = f"variants.{wanted.name}.vram_minimum_gb"
    return Rejected((wanted.label,), ReadError(field, f"{minimum:g}", message, "use larger GPUs"))


def _configuration(
    wanted: _Wanted, tokens: Mapping[str, object], count: int, *, written: bool
) -> Configuration:
    file, variant = wanted.file, wanted.variant
    model_id, source = _identity(file, variant)
    precision, labelled = _precision(variant, source or model_id)
    sibling = import_rules().siblings.get(wanted.gpu.model)
    notes = [f"{sibling.why}" if sibling else f"verified on {wanted.gpu.model} by the source", *labelled]
    if not written:
        notes.append(
            f"the source leaves the number of GPUs open; {count} is the least that holds its minimum of "
            f"{variant.vram_minimum_gb:g} GB and passes our checks"
        )
    image = file.model.amd_image
    if image is not None:
        notes.append(f"the source ran it in {image}; vLLM {PINNED_VLLM} is newer")
    return Configuration(
        sources=(wanted.place,),
        model_id=model_id,
        source=source,
        gpu_model=wanted.gpu.model,
        gpu_count=count,
        precision=precision,
        engine_args={name: value for name, value in tokens.items() if name != _SPECIFIED_TP},
        env=_env(wanted),
        objective=Objective.THROUGHPUT,
        maturity=Maturity.GENERAL if written and sibling is None else Maturity.PREVIEW,
        notes=tuple(notes),
        about=(wanted.label,),
    )


def _precision(variant: Variant, source: str) -> tuple[Precision, tuple[str, ...]]:
    """What the checkpoint is, where we know it better than the source's label says."""
    labelled, stored = Precision(variant.precision), checkpoint(source)
    if stored is None or stored.precision is labelled or {stored.precision, labelled} <= _SIXTEEN_BIT:
        return labelled, ()
    return stored.precision, (f"the source labels it {labelled}; its experts are {stored.precision}",)


def _verified(file: ModelFile) -> Iterator[tuple[str, GPU]]:
    """AMD GPUs the source verified, and those that are the same chip under another name."""
    own = {}
    for key, state in file.meta.hardware.items():
        gpu = gpu_by_product_name(key)
        if gpu is not None and state == _VERIFIED:
            own[gpu.model] = key
    for model, gpu in gpu_catalog().items():
        sibling = import_rules().siblings.get(model)
        if model in own:
            yield own[model], gpu
        elif sibling is not None and sibling.of in own:
            yield own[sibling.of], gpu


def _not_offered(wanted: _Wanted) -> ReadError | None:
    """Why the source does not mean this variant for this GPU."""
    variant, field = wanted.variant, f"variants.{wanted.name}"
    remedy = "use another variant of the model on this GPU"
    if variant.supported_hardware is not None and wanted.key not in variant.supported_hardware:
        value, message = ", ".join(variant.supported_hardware), f"does not name {wanted.key}"
        return ReadError(f"{field}.supported_hardware", shown(value), message, remedy)
    brand = (variant.precision_hardware or {}).get("brand", "AMD")
    if brand == "AMD":
        return None
    return ReadError(f"{field}.precision_hardware.brand", shown(brand), "is another maker's", remedy)


def _layers(wanted: _Wanted) -> Iterator[Override]:
    """What the source says about this variant on this GPU, the more special later."""
    yield Override(extra_args=wanted.file.model.base_args, extra_env=wanted.file.model.base_env)
    for name in import_rules().features:
        feature = wanted.file.features.get(name)
        if feature is not None and name not in wanted.file.opt_in_features:
            yield Override(extra_args=feature.args)
    yield Override(extra_args=wanted.variant.extra_args, extra_env=wanted.variant.extra_env)
    for overrides in (wanted.file.hardware_overrides, wanted.variant.hardware_overrides):
        for key in ("amd", wanted.key):
            if key in overrides:
                yield overrides[key]


def _tokens(wanted: _Wanted) -> list[str]:
    return [str(token) for layer in _layers(wanted) for token in layer.extra_args]


def _env(wanted: _Wanted) -> dict[str, str]:
    return {name: str(value) for layer in _layers(wanted) for name, value in (layer.extra_env or {}).items()}


def _explicit_count(wanted: _Wanted, tokens: Mapping[str, object]) -> int | ReadError | None:
    """GPUs as the source writes them: in the flags, in the variant, or in the single-node strategy."""
    said = [tokens.get(_SPECIFIED_TP), _of(wanted.variant.tp, wanted.key)]
    strategy = wanted.file.strategy_overrides.get("single_node_tp")
    said.append(_of(strategy.tp, wanted.key) if strategy is not None else None)
    written = next((each for each in said if each is not None), None)
    if written is None:
        return None
    if isinstance(written, int) and not isinstance(written, bool) and written > 0:
        return written
    message = "is no number of GPUs"
    return ReadError(_SPECIFIED_TP, shown(written), message, "correct it in the source")


def _of(value: int | Mapping[str, int] | None, key: str) -> int | None:
    return value.get(key) if isinstance(value, Mapping) else value


def _counts(wanted: _Wanted) -> Iterator[int]:
    """Powers of two whose memory holds the minimum that the source names, within one node."""
    count = 1
    while count <= wanted.gpu.gpus_per_node:
        if count * wanted.gpu.vram_bytes >= wanted.variant.vram_minimum_gb * 10**9:
            yield count
        count *= 2


def _identity(file: ModelFile, variant: Variant) -> tuple[str, str | None]:
    """(model, checkpoint) of a variant: another precision of the file's model, or a model of its own."""
    main = _main(file)
    own = variant.model_id or file.model.model_id
    if own == main:
        return main, None
    stored = checkpoint(own)
    if stored is not None:
        return stored.model, own
    default = next(iter(file.variants.values()))
    if variant is default:
        return main, own
    same = {
        each.model_id
        for each in file.variants.values()
        if each.precision == default.precision and not _extends(each.model_id, main)
    }
    return (own, None) if own in same else (main, own)


def _main(file: ModelFile) -> str:
    """The model of a file; where the file names a quantised repository of it, the one among its variants that it is named after."""
    named = file.model.model_id
    plain = (each.model_id for each in file.variants.values() if each.model_id not in (None, named))
    return next((each for each in plain if each is not None and _extends(named, each)), named)


def _extends(own: str | None, main: str) -> bool:
    """A repository named after the model: Ministral-3-14B-Instruct-2512-FP8."""
    return own is None or own.rsplit("/", 1)[-1].lower().startswith(main.rsplit("/", 1)[-1].lower())


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _first_of_each(results: list[Imported | Rejected]) -> list[Imported | Rejected]:
    """Two variants may come to one name. With another checkpoint the second has it in its name, else it is the same again and told."""
    kept: list[Imported | Rejected] = []
    by_name: dict[str, Imported] = {}
    for found in results:
        if isinstance(found, Rejected):
            kept.append(found)
            continue
        first = by_name.get(found.recipe.metadata.name)
        differs = first is not None and first.recipe.spec.source != found.recipe.spec.source
        each = replace(found, recipe=renamed(found.recipe)) if differs else found
        name = each.recipe.metadata.name
        first = by_name.setdefault(name, each)
        if first is each:
            kept.append(each)
        else:
            message = f"is the recipe of {first.sources[0]}: same model, checkpoint, GPUs and precision"
            remedy = "write it by hand under another name if you need it"
            kept.append(Rejected(each.sources, ReadError("metadata.name", name, message, remedy)))
    return kept
