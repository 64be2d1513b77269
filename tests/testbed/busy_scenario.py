"""What runs on the monitored cluster: recipes with invented figures for invented models, deployments, and their loads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from testbed.product import GROUP
from testbed.vllm_metrics import Load

Json = dict[str, Any]
NODES = ("mi300x-8", "mi325x-8", "mi350x-8", "mi355x-8", "mi210-4")
"""One for each big model: the scheduler spreads small ones over all nodes that fit."""
NAMESPACES = ("team-a", "team-b", "research")
SOURCE = "https://example.com/simulated"


def recipe(
    name: str, gpu: str, count: int, precision: str, rate: int, first_token_ms: int, context: int = 8192
) -> Json:
    """An AIMRecipe of the model that its name begins with."""
    model = name.partition(f"-{gpu.lower()}")[0]
    workload = {"inputTokens": 900, "outputTokens": 320, "concurrency": 48}
    evidence = {
        "kind": "third-party", "source": SOURCE, "engineVersion": "0.32.0", "date": "2026-11-01",
    }  # fmt: skip
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMRecipe", "metadata": {"name": name},
        "spec": {
            "modelID": f"example/{model}", "hardware": {"gpuModel": gpu, "gpuCount": count}, "precision": precision,
            "backend": "vllm", "engineVersion": "0.32.0", "engineArgs": {"max-model-len": context, "max-num-seqs": 64},
            "maturity": "optimized", "performance": [{
                "tokensPerSecond": rate, "timeToFirstTokenMilliseconds": first_token_ms, "workload": workload, "provenance": evidence,
            }],
        },
    }  # fmt: skip


RECIPES = (
    recipe("chat-32b-mi350x-1x-fp8", "MI350X", 1, "fp8", 2400, 220),
    recipe("chat-32b-mi350x-2x-bf16", "MI350X", 2, "bf16", 2900, 180),
    recipe("chat-70b-mi325x-4x-fp8", "MI325X", 4, "fp8", 4400, 260),
    recipe("chat-70b-mi325x-2x-fp8", "MI325X", 2, "fp8", 1500, 420),
    recipe("reasoner-671b-mi300x-8x-fp8", "MI300X", 8, "fp8", 5200, 600),
    recipe("coder-120b-mi355x-1x-mxfp4", "MI355X", 1, "mxfp4", 4100, 150, context=32768),
    recipe("giant-1t-mi355x-8x-mxfp4", "MI355X", 8, "mxfp4", 3000, 900),
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One AIMDeployment, and what each replica of it does at a busy share of 1."""

    namespace: str
    name: str
    model: str
    replicas: int = 1
    precision: str | None = None
    min_tokens: int | None = None
    max_first_token_ms: int | None = None
    rate: float = 0.0
    """Tokens a second that a replica makes when fully busy; 0 where none ever runs."""
    busy: float = 0.0
    """Mean share of that."""
    load: Load = Load()  # noqa: RUF009 - frozen

    def body(self) -> Json:
        """The AIMDeployment."""
        wishes = {"precision": self.precision} if self.precision else {}
        targets = {
            "minTokensPerSecond": self.min_tokens,
            "maxTimeToFirstTokenMilliseconds": self.max_first_token_ms,
        }
        return {
            "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "model": {"id": f"example/{self.model}"}, "replicas": self.replicas, "recipe": wishes,
                "targets": {name: value for name, value in targets.items() if value is not None},
            },
        }  # fmt: skip


_ORDINARY = Load(varied=True, tokens_per_request=320, prompt_tokens_per_request=900, prefix_cache_hit_ratio=0.45)  # fmt: skip
TENANTS = (
    Tenant("team-a", "chat", "chat-32b", replicas=2, min_tokens=1900, max_first_token_ms=500, rate=2300, busy=0.94, load=_ORDINARY),
    Tenant("team-a", "assistant", "chat-70b", min_tokens=900, max_first_token_ms=1000, rate=1500, busy=0.8, load=replace(_ORDINARY, prompt_tokens_per_request=1800)),
    Tenant("team-b", "reasoner", "reasoner-671b", min_tokens=4000, max_first_token_ms=2500, rate=5300, busy=0.97, load=replace(_ORDINARY, tokens_per_request=700, preemptions_per_second=0.4)),
    Tenant("team-b", "coder", "coder-120b", replicas=2, min_tokens=3000, rate=2400, busy=0.93, load=replace(_ORDINARY, error_ratio=0.012)),
    Tenant("research", "chat-eval", "chat-32b", replicas=2, precision="bf16", rate=2900, busy=0.007, load=replace(_ORDINARY, prefix_cache_hit_ratio=0.04)),
    Tenant("research", "giant", "giant-1t"),
    Tenant("research", "unheard-of", "nobody-knows"),
)  # fmt: skip
SERVED = tuple(tenant for tenant in TENANTS if tenant.rate)
FALLBACK = "assistant"
"""Gets its fallback, since STRANGER holds six GPUs while it is decided; a better recipe is advised when those are free."""
STRANGER: Json = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "training", "namespace": "research"},
    "spec": {
        "nodeSelector": {"amd.com/gpu.device-id": "74a5"},
        "containers": [{"name": "main", "image": "example/job:1", "resources": {"limits": {"amd.com/gpu": "6"}}}],
    },
}  # fmt: skip
REFUSED: Json = {
    "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment", "metadata": {"name": "refused", "namespace": "research"},
    "spec": {"model": {"id": "example/chat-32b"}, "overrides": {"engineArgs": {"host": "0.0.0.0"}}},
}  # fmt: skip
"""The operator owns that flag, so the validator refuses it."""

DOUBTFUL: Json = {
    "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment", "metadata": {"name": "doubtful", "namespace": "research"},
    "spec": {"model": {"id": "example/chat-32b", "tokenSecret": {"name": "not-there", "key": "token"}}, "recipe": {"name": "not-there"}},
}  # fmt: skip
"""What it names may come later, so the validator warns."""

TRIAL: Json = {
    "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment", "metadata": {"name": "trial", "namespace": "research"},
    "spec": {"model": {"id": "example/chat-32b"}, "replicas": 0},
}  # fmt: skip
"""Gets a recipe and runs nothing."""


def load_at(tenant: Tenant, replica: int, seconds: float) -> Load:
    """The load of one replica so long after the start: steady at first, then in waves like a working day."""
    phase = 2.1 * replica + len(tenant.name)
    wave = 0.14 * math.sin(seconds / 41 + phase) + 0.05 * math.sin(seconds / 13 + 2 * phase)
    busy = max(0.0, tenant.busy * (1 + wave * min(1.0, max(0.0, seconds - 20) / 20)))
    over = max(0.0, busy - 0.85)
    first_token = 0.12 + 0.25 * busy + 1.4 * over
    return replace(
        tenant.load,
        tokens_per_second=tenant.rate * min(1.0, busy),
        running=round(60 * min(1.0, busy)),
        waiting=round(60 * over),
        kv_cache_usage=min(0.99, 0.12 + 0.85 * busy),
        preemptions_per_second=tenant.load.preemptions_per_second * (1 + 4 * over),
        ttft=first_token,
        queue_time=min(first_token, 1.2 * over),
        inter_token_latency=0.011 + 0.013 * busy,
    )


def deployments_path(namespace: str) -> str:
    """URL path of a namespace's AIMDeployments."""
    return f"{GROUP}/namespaces/{namespace}/aimdeployments"
