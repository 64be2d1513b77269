"""`aim-engine bench --save`: the result becomes observed performance of the AIMRecipe, with the rights of the user."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aim_engine.api.conditions import ConditionType
from aim_engine.api.meta import GROUP
from aim_engine.api.performance import Benchmark, Percentiles, Workload
from aim_engine.api.recipe import AIMRecipeStatus
from aim_engine.benchmark import Ending, Run
from aim_engine.benchmark.summary import BUSY
from aim_engine.cli.bench_deployment import Subject, look
from aim_engine.cli.live import with_client
from aim_engine.cli.output import CommandError
from aim_engine.engines import version_of
from aim_engine.inventory.quantities import items, mapping
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import LEAST_CONCURRENCY
from aim_engine.reconcile.measuring import IDENTITY_FIELDS

KEPT = 8
"""Benchmarks that a recipe keeps."""
LEAST_REQUESTS = 10
LEAST_SECONDS = 10
MOST_FAILED = 0.05
_ATTEMPTS = 5
_MANAGER = "aim-engine-bench"
_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


def check(subject: Subject) -> None:
    """Raises CommandError where a result could not be saved, before anything is measured."""
    problem = unsuitable(subject)
    if problem is not None:
        raise CommandError(f"--save is not possible: {problem}; measure without it")
    if not with_client(lambda client: _may_save(client, str(subject.recipe))):
        raise CommandError(_forbidden(str(subject.recipe)))


def unsuitable(subject: Subject) -> str | None:
    """Why what the deployment does says nothing about an AIMRecipe as it stands; None where it does."""
    chosen, status, told = (
        mapping(subject.stored.status.get("recipe")),
        subject.stored.status,
        subject.spec.essence(),
    )
    changed = [f"spec.{name}" for name in IDENTITY_FIELDS if told.get(name)]
    problems = (
        (subject.recipe is None, "no recipe is in use"),
        ("/" in (subject.recipe or ""), f"recipe {subject.recipe} is no AIMRecipe, whose status keeps results"),
        (subject.catalogued is None, f"AIMRecipe {subject.recipe} does not exist any more"),
        (bool(changed), f"{' and '.join(changed)} change the recipe, so that the result would not be the recipe's own"),
        (
            subject.catalogued is not None and (subject.catalogued.candidate is None or subject.catalogued.candidate.hash != chosen.get("hash")),
            f"AIMRecipe {subject.recipe} was changed since the deployment took it",
        ),
        (
            status.get("observedGeneration") != subject.stored.generation or not _is_ready(status),
            "the deployment is not Ready, or its last change is still being rolled out",
        ),
        (
            (status.get("replicas"), status.get("readyReplicas")) != (1, 1),
            f"it has {status.get('readyReplicas')} of {status.get('replicas')} replicas, and a client cannot tell which of them answered: only "
            "one replica can be measured",
        ),
    )  # fmt: skip
    return next((text for holds, text in problems if holds), None)


def unconvincing(measured: Run) -> str | None:
    """Why a run is no evidence; None where it is."""
    total = measured.answered + measured.failed
    if measured.ending is Ending.GAVE_UP or measured.failed > MOST_FAILED * total:
        return f"{measured.failed} of {total} requests failed, at most {MOST_FAILED:.0%} may"
    if measured.answered < LEAST_REQUESTS:
        return (
            f"{measured.answered} requests were answered, at least {LEAST_REQUESTS} must be; measure longer"
        )
    if measured.seconds < LEAST_SECONDS:
        return f"{measured.seconds:.1f} s were measured, at least {LEAST_SECONDS} s must be; measure longer"
    if not measured.counted or not measured.prompt_tokens:
        return "the server does not count tokens"
    if measured.client_share >= BUSY:
        return (
            f"the load generator used {measured.client_share:.0%} of a core, so that it may have been the limit and not the server; "
            "measure from a faster machine, or with a lower --concurrency"
        )
    return None


def save(subject: Subject, result: Mapping[str, Any], measured: Run) -> str:
    """Record a run; what to tell the user. Raises CommandError where it is no evidence, or may not be written."""
    after = look(subject.namespace, subject.name)
    problem = unconvincing(measured) or unsuitable(after)
    if problem is None and _identity(subject) != _identity(after):
        problem = "the deployment was changed while it was measured"
    if problem is not None:
        raise CommandError(f"not saved: {problem}")
    entry = benchmark(subject, result, measured, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    with_client(lambda client: record(client, str(subject.recipe), entry))
    return f"saved as observed performance of AIMRecipe {subject.recipe}, in its status.benchmarks"


def small_load(concurrency: int) -> str | None:
    """A warning where so small a load does not show what the recipe can do; None where it may."""
    if concurrency >= LEAST_CONCURRENCY:
        return None
    return (
        f"warning: --concurrency {concurrency} does not show what the recipe can do: a saved result is kept, and selection does not rank by "
        f"it. Save with --concurrency {LEAST_CONCURRENCY} or more, as many as it serves"
    )


def benchmark(subject: Subject, result: Mapping[str, Any], measured: Run, at: str) -> Benchmark:
    """The record of a run of one replica of an AIMRecipe as it stands."""
    candidate = subject.catalogued.candidate if subject.catalogued else None
    assert candidate is not None  # noqa: S101
    tokens = result["tokens"]
    return Benchmark(
        tokens_per_second=round(result["outputTokensPerSecond"]),
        time_to_first_token_milliseconds=_percentiles(result["timeToFirstTokenMilliseconds"]),
        inter_token_latency_milliseconds=_percentiles(result["interTokenLatencyMilliseconds"]),
        workload=Workload(
            input_tokens=max(1, round(tokens["meanInput"])),
            output_tokens=max(1, round(tokens["meanOutput"])),
            concurrency=result["load"]["concurrency"],
        ),
        requests=measured.answered,
        seconds=round(measured.seconds),
        source=f"{subject.namespace}/{subject.name}",
        at=at,
        recipe_hash=candidate.hash,
        gpu_model=candidate.spec.hardware.gpu_model,
        engine_version=version_of(candidate.spec),
    )


def _percentiles(times: Mapping[str, float] | None) -> Percentiles | None:
    return None if times is None else Percentiles(p50=round(times["p50"]), p95=round(times["p95"]))


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = items(status.get("conditions"))
    return any(
        each.get("type") == ConditionType.READY.value and each.get("status") == "True" for each in conditions
    )


def _identity(subject: Subject) -> tuple[object, ...]:
    chosen = mapping(subject.stored.status.get("recipe"))
    return subject.stored.uid, subject.stored.generation, chosen.get("hash"), chosen.get("revision")


async def _may_save(client: KubeClient, recipe: str) -> bool:
    asked = {
        "group": GROUP,
        "resource": "aimrecipes",
        "subresource": "status",
        "verb": "patch",
        "name": recipe,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = await client.create(_REVIEWS, None, review)
    return bool(mapping(answer.get("status")).get("allowed"))


async def record(client: KubeClient, recipe: str, entry: Benchmark) -> None:
    """Put a result before those that are there; once more when somebody else wrote the status meanwhile."""
    for attempt in range(_ATTEMPTS):
        obj = await client.get(resources.RECIPES, None, recipe)
        known = AIMRecipeStatus.model_validate(obj.get("status") or {}).benchmarks
        wire = AIMRecipeStatus(benchmarks=[entry, *known][:KEPT]).wire()["benchmarks"]
        patch = {
            "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]},
            "status": {"benchmarks": wire},
        }
        try:
            await client.request(
                "PATCH", resources.RECIPES.path(None, recipe, "status"), patch,
                params={"fieldManager": _MANAGER}, content_type="application/merge-patch+json",
            )  # fmt: skip
            return
        except ApiError as error:
            if error.code == 403:
                raise CommandError(f"not saved: {_forbidden(recipe)}") from None
            if error.code != 409 or attempt == _ATTEMPTS - 1:
                raise


def _forbidden(recipe: str) -> str:
    return (
        f"you may not patch aimrecipes/status of {recipe}; an administrator saves results, or binds the ClusterRole for it "
        "(named *-benchmarks) to you"
    )
