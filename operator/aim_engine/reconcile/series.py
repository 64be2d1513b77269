"""Series of AIMDeployments, AIMRecipes and GPUs, from the caches into the store that /metrics is served from.

Nobody tells of a change: the caches replace what changes and never alter it, so at a scrape one look at the identity of each object
finds those to be written anew. An operator that nobody scrapes does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar

from pydantic_core import from_json

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Backend
from aim_engine.api.performance import PerformanceStatus
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines import engine, version_of
from aim_engine.inventory import GPUTotals, Inventory, Tracker
from aim_engine.reconcile.cache import Cache, Key, StoredDeployment, StoredRecipe
from aim_engine.reconcile.measuring import Measured
from aim_engine.reconcile.performance import expectation
from aim_engine.reconcile.revision import Record
from aim_engine.reconcile.turns import in_turns
from aim_engine.selection import Candidate
from aim_engine.telemetry import families as f
from aim_engine.telemetry.store import Sample, SeriesStore, number
from aim_engine.telemetry.window import Window

_CONTEXT_FLAGS = ("--max-model-len", "--context-length")
_NO_SPEC = AIMDeploymentSpec()
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the series of a deployment take from the record of its decision."""

    tokens_per_second: int | None = None
    """What PerformanceOnTarget compares a replica with: a figure of another engine line promises nothing."""
    max_model_len: int | None = None


@dataclass(slots=True)
class ObjectSeries:
    """Keeps `store` in step with the caches; `refresh` before each scrape."""

    store: SeriesStore
    cache: Cache
    tracker: Tracker
    measured: Mapping[Key, Measured] = field(default_factory=dict)
    _seen: dict[str, dict[Hashable, tuple[object, ...]]] = field(default_factory=dict)
    """Section -> key -> the values that what is shown was made of."""
    _facts: dict[Key, tuple[Record, RecordFacts]] = field(default_factory=dict)
    _inventory: Inventory | None = None

    async def refresh(self) -> SeriesStore:
        """Write what changed since the last scrape and drop what is gone, in slices."""
        cache = self.cache
        await self._section(
            "deployments", cache.deployments, self._deployment_basis, self._deployment_samples
        )
        for key in self._facts.keys() - cache.deployments.keys():
            del self._facts[key]
        measured = {key: each for key, each in self.measured.items() if each.performance is not None}
        await self._section(
            "performance",
            measured,
            lambda key: (key, measured[key].window, measured[key].performance),
            performance_samples,
        )
        await self._section("recipes", cache.recipes, lambda name: (cache.recipes[name],), recipe_samples)
        await self._section(
            "custom recipes",
            cache.config_recipes,
            lambda key: (key[0], *cache.config_recipes[key]),
            _custom_samples,
        )
        inventory = self.tracker.inventory()
        if inventory is not self._inventory:
            self.store.put("gpus", "all", _gpus(self.tracker.totals()))
            self._inventory = inventory
        return self.store

    async def _section(
        self, section: str, objects: Mapping[K, object], basis_of: Callable[[K], tuple[Any, ...]],
        samples_of: Callable[..., Iterable[Sample]],
    ) -> None:  # fmt: skip
        """Bring one kind of objects up to date. `basis_of` answers the values, compared by identity, that `samples_of` is given."""
        seen = self._seen.setdefault(section, {})
        async for key in in_turns(list(objects)):
            if key not in objects:
                continue  # gone while others had their turn
            basis = basis_of(key)
            if not _same(seen.get(key), basis):
                self.store.put(section, key, samples_of(*basis))
                seen[key] = basis
        for gone in [key for key in seen if key not in objects]:
            del seen[gone]
            self.store.drop(section, gone)

    def _deployment_basis(self, key: Key) -> tuple[StoredDeployment, Record | None]:
        stored = self.cache.deployments[key]
        return stored, self.cache.newest_revision(stored.uid)

    def _deployment_samples(self, stored: StoredDeployment, record: Record | None) -> Iterable[Sample]:
        return deployment_samples(stored, self._record_facts((stored.namespace, stored.name), record))

    def _record_facts(self, key: Key, record: Record | None) -> RecordFacts:
        """Decoded once a record."""
        if record is None:
            return RecordFacts()
        known = self._facts.get(key)
        if known is None or known[0] is not record:
            known = self._facts[key] = (record, record_facts(record))
        return known[1]


def _same(old: tuple[object, ...] | None, new: tuple[object, ...]) -> bool:
    return old is not None and len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


def record_facts(record: Record) -> RecordFacts:
    """What a record promises and how it starts the engine; nothing of what cannot be read."""
    try:
        data = from_json(record.body)
        recipe = AIMRecipeSpec.model_validate(data["recipe"]["spec"])
        promised = expectation(recipe, version_of(recipe))
        return RecordFacts(None if promised is None else promised[0], _context(data["manifests"]))
    except (KeyError, TypeError, AttributeError, ValueError):
        return RecordFacts()


def _context(manifests: Iterable[Mapping[str, Any]]) -> int | None:
    """The longest context on the engine's command line, or in the arguments that AMD's containers take by environment."""
    (workload,) = (each for each in manifests if each["kind"] == "Deployment")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    args = container.get("args") or []
    for flag, value in pairwise(args):
        if flag in _CONTEXT_FLAGS:
            return int(value)
    by_environment = next(
        (each.get("value") for each in container.get("env") or [] if each["name"] == "AIM_ENGINE_ARGS"), None
    )
    named = from_json(by_environment).get("max-model-len") if by_environment else None
    return None if named is None else int(named)


def deployment_samples(stored: StoredDeployment, facts: RecordFacts) -> Iterator[Sample]:
    """All series of one AIMDeployment but its measured performance."""
    key = (stored.namespace, stored.name)
    status = stored.status
    recipe: Mapping[str, Any] = status.get("recipe") or {}
    spec = stored.typed.spec if stored.typed else _NO_SPEC
    wanted = 0 if spec.suspend else spec.replicas
    ready = status.get("readyReplicas", 0)
    gpu_model = recipe.get("gpuModel", "")
    model = recipe.get("modelID") or spec.model.id or ""
    choice = (
        model, recipe.get("name", ""), gpu_model, str(recipe.get("gpuCount", "")), recipe.get("precision", ""),
        recipe.get("backend", ""), recipe.get("tier", ""),
    )  # fmt: skip
    yield f.DEPLOYMENT_INFO, (*key, *choice), 1
    yield f.SPEC_REPLICAS, key, wanted
    yield f.READY_REPLICAS, key, ready
    yield f.GENERATION, key, stored.generation
    yield f.OBSERVED_GENERATION, key, status.get("observedGeneration") or 0
    if created := _timestamp(stored.created):
        yield f.CREATED, key, created
    yield from _condition_samples(key, status.get("conditions") or [])
    if recipe:
        yield f.GPUS_REQUESTED, (*key, gpu_model), recipe.get("gpuCount", 0) * wanted
    if facts.tokens_per_second is not None and recipe:
        yield f.EXPECTED_TOKENS, key, facts.tokens_per_second * ready
    if facts.max_model_len is not None and recipe:
        yield f.MAX_MODEL_LEN, key, facts.max_model_len
    yield from _target_samples(key, spec, recipe.get("backend"))
    if recommended := status.get("recommendation"):
        yield f.RECOMMENDATION, (*key, recommended.get("recipe", ""), recommended.get("gainKind") or ""), 1
        if percent := recommended.get("gainPercent"):
            yield f.RECOMMENDATION_GAIN, key, 1 + percent / 100


def performance_samples(key: Key, window: Window | None, performance: PerformanceStatus) -> Iterator[Sample]:
    """What was measured of one AIMDeployment; only what is known of old while nothing fresh is read."""
    if performance.baseline is not None:
        yield f.BASELINE_TOKENS, key, performance.baseline.tokens_per_second
    if performance.at is not None and (last := _timestamp(performance.at)) is not None:
        yield f.LAST_SAMPLE, key, last
    if window is None:
        return
    if performance.baseline is not None and performance.baseline.percent is not None:
        yield f.BASELINE_RATIO, key, performance.baseline.percent / 100
    values = (
        (f.TOKENS_PER_SECOND, window.tokens_per_second),
        (f.MEASURED_REPLICAS, window.replicas),
        (f.PROMPT_TOKENS_PER_SECOND, window.prompt_tokens_per_second),
        (f.REQUESTS_PER_SECOND, window.requests_per_second),
        (f.REQUESTS_RUNNING, window.running),
        (f.REQUESTS_WAITING, window.waiting),
        (f.KV_CACHE_USAGE, window.kv_cache_usage),
        (f.PREEMPTIONS_PER_SECOND, window.preemptions_per_second),
        (f.ERROR_RATIO, window.error_ratio),
        (f.PREFIX_CACHE_HITS, window.prefix_hit_ratio),
    )
    for family, value in values:
        if value is not None:
            yield family, key, value
    for family, quantile, value in (
        (f.TIME_TO_FIRST_TOKEN, "0.5", window.first_token_p50),
        (f.TIME_TO_FIRST_TOKEN, "0.95", window.first_token_p95),
        (f.INTER_TOKEN_LATENCY, "0.5", window.inter_token_p50),
        (f.INTER_TOKEN_LATENCY, "0.95", window.inter_token_p95),
    ):
        if value is not None:
            yield family, (*key, quantile), value


def _condition_samples(key: Key, conditions: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for condition in conditions:
        kind, status, reason = condition["type"], condition["status"], condition["reason"]
        yield f.DEPLOYMENT_CONDITION, (*key, kind, status.lower(), reason), 1
        if kind == ConditionType.RECIPE_SELECTED and status == "True":
            yield f.RECIPE_OUTDATED, key, float(reason == ConditionReason.RECIPE_DRIFTED)
        if kind == ConditionType.READY and status == "True":
            since = _timestamp(condition.get("lastTransitionTime") or "")
            if since is not None:
                yield f.READY_SINCE, key, since


def _target_samples(key: Key, spec: AIMDeploymentSpec, backend: str | None) -> Iterator[Sample]:
    targets = spec.targets
    if targets.min_tokens_per_second is not None:
        yield f.TARGET_TOKENS, key, targets.min_tokens_per_second
    if targets.max_time_to_first_token_milliseconds is not None:
        seconds = targets.max_time_to_first_token_milliseconds / 1000
        yield f.TARGET_TTFT, key, seconds
        threshold = objective_bound(seconds, backend)
        if threshold is not None:
            yield f.TTFT_OBJECTIVE, (*key, number(threshold)), 1


def objective_bound(seconds: float, backend: str | None) -> float | None:
    """The least bucket bound of the engine's histogram that is not below a target; None where no such bound is known."""
    if backend not in tuple(Backend):
        return None
    return next((bound for bound in engine(Backend(backend)).FIRST_TOKEN_BOUNDS if bound >= seconds), None)


def recipe_samples(stored: StoredRecipe) -> Iterator[Sample]:
    """All series of one AIMRecipe; none where it cannot be read."""
    if stored.candidate is None:
        return
    status, name = stored.status, (stored.name,)
    yield from candidate_samples("", stored.candidate)
    observed = stored.candidate.observed
    if observed is not None and observed.tokens_per_second is not None:
        yield f.RECIPE_OBSERVED, name, observed.tokens_per_second
    yield f.RECIPE_FITS, name, status.get("fits") or 0
    yield f.RECIPE_USED_BY, name, status.get("usedBy") or 0
    for condition in status.get("conditions") or []:
        yield f.RECIPE_CONDITION, (stored.name, condition["type"], condition["status"].lower()), 1


def candidate_samples(namespace: str, candidate: Candidate) -> Iterator[Sample]:
    """What a recipe is and promises; `namespace` is empty for an AIMRecipe."""
    spec = candidate.spec
    count = str(spec.hardware.gpu_count)
    yield (
        f.RECIPE_INFO,
        (
            namespace, candidate.name, spec.model_id, spec.hardware.gpu_model, count, spec.precision.value, spec.backend.value,
            spec.maturity.value, candidate.source.value,
        ),
        1,
    )  # fmt: skip
    rate, first_token = expected(spec)
    if rate is not None:
        yield f.RECIPE_TOKENS, (namespace, candidate.name, count), rate
    if first_token is not None:
        yield f.RECIPE_TTFT, (namespace, candidate.name, count), first_token


def expected(spec: AIMRecipeSpec) -> tuple[float | None, float | None]:
    """(generated tokens per second, seconds to the first token) of the first performance figure that has each."""
    rate = next((p.tokens_per_second for p in spec.performance if p.tokens_per_second), None)
    first = next(
        (p.time_to_first_token_milliseconds for p in spec.performance if p.time_to_first_token_milliseconds),
        None,
    )
    return rate, None if first is None else first / 1000


def _custom_samples(namespace: str, *candidates: Candidate) -> Iterator[Sample]:
    for candidate in candidates:
        yield from candidate_samples(namespace, candidate)


def _gpus(totals: Mapping[str, GPUTotals]) -> Iterator[Sample]:
    for model, total in sorted(totals.items()):
        yield f.GPU_ALLOCATABLE, (model,), total.allocatable
        yield f.GPU_USED, (model, "aim"), total.ours
        yield f.GPU_USED, (model, "other"), total.others
        yield f.GPU_FREE, (model,), total.free


def _timestamp(text: str) -> float | None:
    """Seconds since the epoch of a time as Kubernetes writes it; None for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
