"""Gauges of AIMDeployments, AIMRecipes and GPUs: the names that dashboards and alerts may rely on."""

from __future__ import annotations

from aim_engine.telemetry.store import Family

_OBJECT = ("namespace", "aimdeployment")
_CHOICE = ("model", "aimrecipe", "gpu_type", "gpu_count", "precision", "backend")

DEPLOYMENT_INFO = Family(
    "aim_deployment_info", "What an AIMDeployment serves and with what; empty labels where no recipe is chosen.",
    (*_OBJECT, *_CHOICE, "tier"),
)  # fmt: skip
DEPLOYMENT_CONDITION = Family(
    "aim_deployment_status_condition",
    "1 for the present status (true, false, unknown) and reason of each condition; other statuses have no series.",
    (*_OBJECT, "condition", "status", "reason"), "one a condition, up to 5",
)  # fmt: skip
SPEC_REPLICAS = Family("aim_deployment_spec_replicas", "Replicas asked for; 0 while suspended.", _OBJECT)
READY_REPLICAS = Family("aim_deployment_status_replicas_ready", "Replicas that answer.", _OBJECT)
GPUS_REQUESTED = Family(
    "aim_deployment_gpus_requested", "GPUs of all replicas asked for.", (*_OBJECT, "gpu_type"), "1 with a recipe"
)  # fmt: skip
GENERATION = Family(
    "aim_deployment_metadata_generation", "Generation of the object, which counts the changes of its spec.", _OBJECT
)  # fmt: skip
OBSERVED_GENERATION = Family(
    "aim_deployment_status_observed_generation",
    "Generation that the status speaks of; behind the object's while a change is not worked on yet.",
    _OBJECT,
)
CREATED = Family(
    "aim_deployment_created_timestamp_seconds", "When the object was created, in seconds since the epoch.", _OBJECT
)  # fmt: skip
READY_SINCE = Family(
    "aim_deployment_ready_timestamp_seconds", "When it became Ready, in seconds since the epoch; only while it is.",
    _OBJECT, "1 while Ready",
)  # fmt: skip
RECIPE_OUTDATED = Family(
    "aim_deployment_recipe_outdated", "1 where the recipe was edited or removed after it was chosen, else 0.",
    _OBJECT, "1 with a recipe",
)  # fmt: skip
EXPECTED_TOKENS = Family(
    "aim_deployment_expected_tokens_per_second",
    "Generated tokens per second that the recipe promises, times the ready replicas: its best figure published for the engine line in use, "
    "else the one its author declares.",
    _OBJECT, "1 with such a figure",
)  # fmt: skip
TARGET_TOKENS = Family(
    "aim_deployment_target_tokens_per_second",
    "spec.targets.minTokensPerSecond: generated tokens per second of one replica, at least.",
    _OBJECT, "1 with a target",
)  # fmt: skip
TARGET_TTFT = Family(
    "aim_deployment_target_time_to_first_token_seconds", "spec.targets.maxTimeToFirstTokenMilliseconds, in seconds.",
    _OBJECT, "1 with a target",
)  # fmt: skip
TTFT_OBJECTIVE = Family(
    "aim_deployment_ttft_objective_info",
    "The bucket bound of the engine's histogram of times to the first token that the target falls into, for joins on `le`.",
    (*_OBJECT, "threshold"), "1 with a target, where the engine's bounds are known",
)  # fmt: skip
MAX_MODEL_LEN = Family(
    "aim_deployment_max_model_len", "Longest context in tokens that the engine is started with.",
    _OBJECT, "1 where it is set",
)  # fmt: skip
RECOMMENDATION = Family(
    "aim_deployment_recommendation_info",
    "1 for the better recipe of status.recommendation; `gain_kind` says what is better about it.",
    (*_OBJECT, "aimrecipe", "gain_kind"), "1 with a recommendation",
)  # fmt: skip
RECOMMENDATION_GAIN = Family(
    "aim_deployment_recommendation_gain_ratio",
    "Predicted performance of the recommended recipe over that of the one in use (1.25: a quarter better).",
    _OBJECT, "1 where both are known",
)  # fmt: skip
DEPLOYMENTS = (
    DEPLOYMENT_INFO, DEPLOYMENT_CONDITION, SPEC_REPLICAS, READY_REPLICAS, GPUS_REQUESTED, GENERATION, OBSERVED_GENERATION,
    CREATED, READY_SINCE, RECIPE_OUTDATED, EXPECTED_TOKENS, TARGET_TOKENS, TARGET_TTFT, TTFT_OBJECTIVE, MAX_MODEL_LEN,
    RECOMMENDATION, RECOMMENDATION_GAIN,
)  # fmt: skip

TOKENS_PER_SECOND = Family(
    "aim_performance_tokens_per_second", "Generated tokens per second, all replicas together.", _OBJECT
)  # fmt: skip
MEASURED_REPLICAS = Family(
    "aim_performance_replicas", "Replicas whose metrics were read and count in; those that could not be read do not.", _OBJECT
)  # fmt: skip
PROMPT_TOKENS_PER_SECOND = Family(
    "aim_performance_prompt_tokens_per_second", "Prompt tokens per second, all replicas together.", _OBJECT
)  # fmt: skip
REQUESTS_PER_SECOND = Family(
    "aim_performance_requests_per_second", "Finished requests per second, all replicas together.", _OBJECT
)  # fmt: skip
REQUESTS_RUNNING = Family("aim_performance_requests_running", "Requests in the engines' batches.", _OBJECT)
REQUESTS_WAITING = Family("aim_performance_requests_waiting", "Requests in the engines' queues.", _OBJECT)
KV_CACHE_USAGE = Family(
    "aim_performance_kv_cache_usage_ratio", "Share of the KV cache in use, 0 to 1, of the replica with the most.", _OBJECT
)  # fmt: skip
TIME_TO_FIRST_TOKEN = Family(
    "aim_performance_time_to_first_token_seconds", "Time to the first token, by quantile (0.5, 0.95).",
    (*_OBJECT, "quantile"), "2",
)  # fmt: skip
INTER_TOKEN_LATENCY = Family(
    "aim_performance_inter_token_latency_seconds", "Time between tokens, by quantile (0.5, 0.95).",
    (*_OBJECT, "quantile"), "2",
)  # fmt: skip
PREEMPTIONS_PER_SECOND = Family(
    "aim_performance_preemptions_per_second", "Requests preempted per second, all replicas together.", _OBJECT
)  # fmt: skip
ERROR_RATIO = Family("aim_performance_error_ratio", "Share of finished requests that ended in an error, 0 to 1.", _OBJECT)  # fmt: skip
PREFIX_CACHE_HITS = Family(
    "aim_performance_prefix_cache_hit_ratio", "Share of prompt tokens found in the prefix cache, 0 to 1.", _OBJECT
)  # fmt: skip
LAST_SAMPLE = Family(
    "aim_performance_last_sample_timestamp_seconds", "When an engine was last read, in seconds since the epoch.", _OBJECT
)  # fmt: skip
BASELINE_TOKENS = Family(
    "aim_performance_baseline_tokens_per_second",
    "Generated tokens per second of one replica in the first stable window on this recipe.",
    _OBJECT, "1 with a baseline",
)  # fmt: skip
BASELINE_RATIO = Family(
    "aim_performance_baseline_ratio",
    "Tokens per second now over the baseline, or over its share where fewer requests run than then; only while the load is like then.",
    _OBJECT, "1 with a baseline and a like load",
)  # fmt: skip
PERFORMANCE = (
    TOKENS_PER_SECOND, MEASURED_REPLICAS, PROMPT_TOKENS_PER_SECOND, REQUESTS_PER_SECOND, REQUESTS_RUNNING, REQUESTS_WAITING, KV_CACHE_USAGE,
    TIME_TO_FIRST_TOKEN, INTER_TOKEN_LATENCY, PREEMPTIONS_PER_SECOND, ERROR_RATIO, PREFIX_CACHE_HITS, LAST_SAMPLE,
    BASELINE_TOKENS, BASELINE_RATIO,
)  # fmt: skip

RECIPE_INFO = Family(
    "aim_recipe_info", "A recipe; `namespace` is empty for an AIMRecipe, `source` is catalogue or custom (a ConfigMap).",
    ("namespace", "aimrecipe", "model", "gpu_type", "gpu_count", "precision", "backend", "maturity", "source"),
)  # fmt: skip
RECIPE_CONDITION = Family(
    "aim_recipe_status_condition", "1 for the present status (true, false, unknown) of each condition of an AIMRecipe.",
    ("aimrecipe", "condition", "status"), "one a condition, up to 2",
)  # fmt: skip
RECIPE_TOKENS = Family(
    "aim_recipe_expected_tokens_per_second", "Generated tokens per second of the recipe's first performance figure.",
    ("namespace", "aimrecipe", "gpu_count"), "1 with a figure",
)  # fmt: skip
RECIPE_TTFT = Family(
    "aim_recipe_expected_time_to_first_token_seconds", "Time to the first token of the recipe's first figure that has one.",
    ("namespace", "aimrecipe", "gpu_count"), "1 with a figure",
)  # fmt: skip
RECIPE_OBSERVED = Family(
    "aim_recipe_observed_tokens_per_second", "Generated tokens per second measured here under load, over all deployments.",
    ("aimrecipe",), "1 where measured",
)  # fmt: skip
RECIPE_FITS = Family(
    "aim_recipe_fits", "Replicas of the recipe that would fit on the GPUs that are free now.", ("aimrecipe",)
)  # fmt: skip
RECIPE_USED_BY = Family("aim_recipe_used_by", "AIMDeployments that use the recipe.", ("aimrecipe",))
RECIPES = (
    RECIPE_INFO, RECIPE_CONDITION, RECIPE_TOKENS, RECIPE_TTFT, RECIPE_OBSERVED, RECIPE_FITS, RECIPE_USED_BY,
)  # fmt: skip

GPU_ALLOCATABLE = Family(
    "aim_gpu_allocatable", "GPUs that nodes offer; a partition of a GPU counts as one.", ("gpu_type",), "one a GPU model"
)  # fmt: skip
GPU_USED = Family(
    "aim_gpu_used", "GPUs that pods on nodes hold: those of AIMDeployments (aim), and all others.",
    ("gpu_type", "by"), "two a GPU model",
)  # fmt: skip
GPU_FREE = Family(
    "aim_gpu_free", "GPUs that are neither held by pods nor promised to pods to come, on nodes that take pods.",
    ("gpu_type",), "one a GPU model",
)  # fmt: skip
GPUS = (GPU_ALLOCATABLE, GPU_USED, GPU_FREE)

FAMILIES = (*DEPLOYMENTS, *PERFORMANCE, *RECIPES, *GPUS)
