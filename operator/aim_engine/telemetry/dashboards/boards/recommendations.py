"""What could be better, each row with the change that would help. An empty table is good news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aim_engine.telemetry.dashboards.board import Board, Row, chosen, link_to, typed
from aim_engine.telemetry.dashboards.panels import Column, Panel, Target, stat, table, timeseries
from aim_engine.telemetry.dashboards.series import (
    ALL,
    DEPLOYMENT,
    EXPORTER,
    RATE,
    constant_label,
    demanded,
    each,
    either,
    of_expected,
)
from aim_engine.telemetry.dashboards.style import (
    ADVICE,
    BLUE,
    GREY,
    NONE_IS_GOOD,
    ORANGE,
    RATIO,
    RED,
    SHARE_OF_EXPECTED,
    TOKENS,
    mapped,
)

UID = "aim-recommendations"
RANGE = "$__range"

CONTEXT_SHARE = 0.25
"""A context of which the longest requests use less than this is over-provisioned."""
IDLE_ACTIVITY = 30
"""Percent of GPU activity below which a GPU is under-used."""
IDLE_REQUESTS = 1
"""Mean requests in the batch per replica below which one replica fewer would do."""
PREEMPTION_RATE = 0.05
"""Preemptions a second from which they cost throughput."""
HIT_SHARE = 0.1
"""Prefix cache hits below this share are misses worth a look."""
SLOWER = 0.85
"""Share of a deployment's own baseline, at a like load, below which it has become slower."""
EXPECTED_SHARE = 0.8
"""Delivered share of the expected throughput below which a recipe does not keep its promise."""

_OPEN = (
    "Open this deployment",
    link_to("aim-deployment", namespace="${__data.fields.Namespace}", aimdeployment="${__data.fields.Deployment}"),
)  # fmt: skip
_GAIN_KIND = mapped(
    {
        "Throughput": ("more tokens per GPU", BLUE), "Latency": ("lower latency", BLUE), "Tier": ("no fallback any more", BLUE),
        "Other": ("see status.recommendation", BLUE),
    }
)  # fmt: skip
_NAMES = (
    Column(field="namespace", title="Namespace", width=100),
    Column(field="aimdeployment", title="Deployment", width=160, link=_OPEN),
)


def board() -> Board:
    """The advice."""
    return Board(
        uid=UID,
        title="AIM Engine Optimisation Recommendations",
        about="What could be better: recipes that would serve better, context nobody uses, GPUs without work, preemptions, cache misses. Each row says what to change.",
        variables=[
            chosen("namespace", "Namespace", "label_values(aim_deployment_info, namespace)"),
            typed(
                "exporter_prefix",
                "Exporter prefix",
                "Prefix before the names of AMD's device metrics exporter where one is configured, such as amd_.",
            ),
        ],
        rows=[
            Row(title="", panels=_summary()),
            Row(title="Recipes", panels=[_recipes(), _promises(), _slower()]),
            Row(title="GPU memory", panels=[_context(), _preemptions(), _preemptions_over_time()]),
            Row(title="GPUs with little work", panels=[_idle_replicas(), _idle_gpus()]),
            Row(title="Prefix cache", panels=[_misses(), _hits_over_time()]),
        ],
        since="now-6h",
    )


def _recommended() -> str:
    return each(
        "aim_deployment_recommendation_info", f'aimrecipe!="",{ALL}', f"{DEPLOYMENT}, aimrecipe, gain_kind"
    )


def _fulfilled() -> str:
    """Measured share of the expected throughput, where requests wait."""
    return demanded(f"({of_expected(ALL)} < {EXPECTED_SHARE})", ALL)


def _longest(name: str) -> str:
    return f"histogram_quantile(0.99, sum by ({DEPLOYMENT}, le) (rate(vllm:request_{name}_tokens_bucket{{{ALL}}}[{RANGE}])))"


def _used_context() -> str:
    """Share of the configured context that the longest prompts and answers of the time range need."""
    return f"({_longest('prompt')} + {_longest('generation')}) / ({each('aim_deployment_max_model_len', ALL)} > 0) < {CONTEXT_SHARE}"


def _running_per_replica() -> str:
    running = f"max by ({DEPLOYMENT}) (avg_over_time(aim_performance_requests_running{{{ALL}}}[{RANGE}]))"
    return f"({running} / ({each('aim_deployment_status_replicas_ready', ALL)} > 0))"


def _idle() -> str:
    replicas = each("aim_deployment_status_replicas_ready", ALL)
    return f"{_running_per_replica()} < {IDLE_REQUESTS} and on ({DEPLOYMENT}) ({replicas} > 1)"


def _activity() -> str:
    """Mean activity of the GPUs of each deployment over the time range, through its pods."""
    engines = f'{{__name__=~"vllm:num_requests_running|sglang:num_running_reqs",{ALL}}}'
    pods = f"group by (namespace, pod, aimdeployment) ({engines})"
    gpus = f'avg_over_time({EXPORTER}gpu_gfx_activity{{pod!="",{ALL}}}[{RANGE}])'
    return f"avg by ({DEPLOYMENT}) ({gpus} * on (namespace, pod) group_left (aimdeployment) {pods}) < {IDLE_ACTIVITY}"


def _preempting() -> str:
    return f"max by ({DEPLOYMENT}) (avg_over_time(aim_performance_preemptions_per_second{{{ALL}}}[{RANGE}])) > {PREEMPTION_RATE}"


def _missing() -> str:
    hits = f"max by ({DEPLOYMENT}) (avg_over_time(aim_performance_prefix_cache_hit_ratio{{{ALL}}}[{RANGE}]))"
    return f"{hits} < {HIT_SHARE}"


def _summary() -> list[Panel]:
    def count(title: str, about: str, found: str, *, good: bool = False) -> Panel:
        return stat(
            title,
            about,
            Target(expr=f"count({found}) or vector(0)"),
            unit="none",
            steps=ADVICE if good else NONE_IS_GOOD,
            size=(4, 4),
        )

    return [
        count("Better recipes", "Deployments for which another recipe would serve better now.", _recommended(), good=True),
        count("Below promise", f"Deployments that deliver less than {EXPECTED_SHARE:.0%} of what their recipe promises while requests wait.", _fulfilled()),
        count("Unused context", f"Deployments whose longest requests use less than {CONTEXT_SHARE:.0%} of the configured context.", _used_context(), good=True),
        count("Spare replicas", "Deployments with more than one replica and less than one request in the batch of each.", _idle(), good=True),
        count("Preempting", f"Deployments that preempt more than {PREEMPTION_RATE:g} requests a second.", _preempting()),
        count("Cache misses", f"Deployments that find less than {HIT_SHARE:.0%} of their prompt tokens in the prefix cache.", _missing(), good=True),
    ]  # fmt: skip


def _advice(
    title: str, about: str, change: str, queries: Mapping[str, str], columns: Sequence[Column], *, sort: str, descending: bool = True,
    size: tuple[int, int] = (24, 5),
) -> Panel:  # fmt: skip
    """A table of what the first query finds, with the suggested change as a label; the other queries tell more of it."""
    first, *others = queries
    told = {first: constant_label(queries[first], "change", change)}
    told |= {name: f"({queries[name]}) and on ({DEPLOYMENT}) ({queries[first]})" for name in others}
    return table(
        title,
        f"{about} Empty: nothing to suggest.",
        told,
        [*_NAMES, *columns, Column(field="change", title="Suggested change", cell="auto")],
        sort=sort,
        descending=descending,
        empty="Nothing to suggest",
        size=size,
    )


def _recipes() -> Panel:
    current = each("aim_deployment_info", ALL, f"{DEPLOYMENT}, aimrecipe")
    now = f'label_replace({current}, "current", "$1", "aimrecipe", "(.*)")'
    best = f'label_replace({_recommended()}, "recommended", "$1", "aimrecipe", "(.*)")'
    joined = f"max by ({DEPLOYMENT}, recommended, gain_kind) ({best})"
    return _advice(
        "A better recipe is available",
        "What the operator would choose today, from status.recommendation: it never moves a running model by itself unless told so.",
        "Name the recommended recipe in spec.recipe.name, or set spec.recipe.updatePolicy: Automatic",
        {
            "best": f"{joined} * on ({DEPLOYMENT}) group_left (current) max by ({DEPLOYMENT}, current) ({now})",
            "gain": f"{each('aim_deployment_recommendation_gain_ratio', ALL)} - 1",
        },
        [
            Column(field="current", title="Recipe", width=270),
            Column(field="recommended", title="Recommended", width=270),
            Column(field="gain_kind", title="Gain", width=190, mappings=(_GAIN_KIND,)),
            Column(field="gain", title="By", unit=RATIO, decimals=0, width=80, cell="color-text", thresholds=((None, BLUE),)),
        ],
        sort="By",
    )  # fmt: skip


def _promises() -> Panel:
    return _advice(
        "Delivering less than promised",
        f"Less than {EXPECTED_SHARE:.0%} of the recipe's throughput although requests wait.",
        "Compare with the recipe's workload and engine version; see the runbook of AIMEngineLowThroughput",
        {
            "share": _fulfilled(),
            "measured": each("aim_performance_tokens_per_second", ALL),
            "expected": each("aim_deployment_expected_tokens_per_second", ALL),
            "waiting": each("aim_performance_requests_waiting", ALL),
        },
        [
            Column(field="measured", title="Measured", unit=TOKENS, decimals=1, width=120),
            Column(field="expected", title="Expected", unit=TOKENS, decimals=1, width=120),
            Column(field="waiting", title="Waiting", unit="none", decimals=0, width=90),
            Column(field="share", title="Share", unit=RATIO, decimals=0, width=140, cell="gauge", thresholds=SHARE_OF_EXPECTED, limits=(0, 1)),
        ],
        sort="Share",
        descending=False,
    )  # fmt: skip


def _slower() -> Panel:
    ratio = f"{each('aim_performance_baseline_ratio', ALL)} < {SLOWER}"
    return _advice(
        "Slower than it was",
        f"Less than {SLOWER:.0%} of the deployment's own baseline at a like load, as after a change of the engine or the GPU driver.",
        "Compare engine and driver version in status.performance with those of the baseline; see the runbook of AIMEnginePerformanceRegressed",
        {
            "ratio": ratio,
            "now": each("aim_performance_tokens_per_second", ALL),
            "baseline": f"{each('aim_performance_baseline_tokens_per_second', ALL)} * {each('aim_deployment_status_replicas_ready', ALL)}",
        },
        [
            Column(field="now", title="Now", unit=TOKENS, decimals=1, width=120),
            Column(field="baseline", title="Baseline", unit=TOKENS, decimals=1, width=120),
            Column(field="ratio", title="Of baseline", unit=RATIO, decimals=0, width=140, cell="gauge", thresholds=((None, RED), (0.7, ORANGE)), limits=(0, 1)),
        ],
        sort="Of baseline",
        descending=False,
    )  # fmt: skip


def _context() -> Panel:
    return _advice(
        "Over-provisioned context",
        f"99 of 100 requests of this time range need less than {CONTEXT_SHARE:.0%} of the context configured. Only vLLM tells the lengths.",
        "Set spec.workload.maxInputTokens and maxOutputTokens near the longest request: the freed KV cache holds more requests at once",
        {
            "share": _used_context(),
            "context": each("aim_deployment_max_model_len", ALL),
            "prompt": _longest("prompt"),
            "answer": _longest("generation"),
        },
        [
            Column(field="context", title="Context", unit="short", width=100),
            Column(field="prompt", title="Prompt p99", unit="short", decimals=0, width=110),
            Column(field="answer", title="Answer p99", unit="short", decimals=0, width=110),
            Column(field="share", title="Used", unit=RATIO, decimals=0, width=140, cell="gauge", thresholds=((None, ORANGE), (CONTEXT_SHARE, BLUE)), limits=(0, 1)),
        ],
        sort="Context",
    )  # fmt: skip


def _idle_replicas() -> Panel:
    return _advice(
        "Replicas beyond the demand",
        "More than one replica, and on the average of this time range less than one request in the batch of each.",
        "Scale down: kubectl scale aimd NAME --replicas=N",
        {"running": _idle(), "replicas": each("aim_deployment_status_replicas_ready", ALL)},
        [
            Column(field="replicas", title="Replicas", unit="none", width=80),
            Column(field="running", title="Requests each", unit="none", decimals=2, width=120),
        ],
        sort="Replicas",
        size=(12, 6),
    )


def _idle_gpus() -> Panel:
    return _advice(
        "Under-used GPUs",
        f"Mean activity of a deployment's GPUs below {IDLE_ACTIVITY} % over this time range. Needs AMD's device metrics exporter.",
        "Use fewer GPUs: lower spec.replicas, or spec.recipe.gpuCount where the model fits",
        {"activity": _activity(), "gpus": each("aim_deployment_gpus_requested", ALL)},
        [
            Column(field="gpus", title="GPUs", unit="none", width=70),
            Column(field="activity", title="Activity", unit="percent", decimals=0, width=130, cell="gauge", thresholds=((None, ORANGE),), limits=(0, 100)),
        ],
        sort="GPUs",
        size=(12, 6),
    )  # fmt: skip


def _preemptions() -> Panel:
    return _advice(
        "Preempting deployments",
        "Requests thrown out of the batch for lack of KV cache; their tokens are computed again.",
        "Lower max-num-seqs, use kv-cache-dtype fp8, a recipe with more GPUs, or one more replica",
        {
            "rate": _preempting(),
            "kv": each("aim_performance_kv_cache_usage_ratio", ALL),
        },
        [
            Column(field="kv", title="KV cache", unit=RATIO, decimals=0, width=90, cell="color-text", thresholds=((None, GREY), (0.95, RED))),
            Column(field="rate", title="Preemptions", unit="ops", decimals=2, width=110, cell="color-text", thresholds=((None, ORANGE),)),
        ],
        sort="Preemptions",
        size=(15, 7),
    )  # fmt: skip


def _preemptions_over_time() -> Panel:
    return timeseries(
        "Preemptions",
        "Preempted requests a second by deployment.",
        Target(
            expr=each("aim_performance_preemptions_per_second", ALL),
            legend="{{namespace}}/{{aimdeployment}}",
        ),
        unit="ops",
        calcs=(),
        size=(9, 7),
    )


def _misses() -> Panel:
    asked = f"sum by ({DEPLOYMENT}) (rate({either('prompt_tokens_total', ALL)}[{RATE}]))"
    return _advice(
        "Prefix cache misses",
        f"Less than {HIT_SHARE:.0%} of prompt tokens found in the cache. Requests that share no prefix cannot hit: then there is nothing to do.",
        "Put the common part (system prompt, documents) first in each prompt, and send a session to the same replica",
        {"hits": _missing(), "asked": asked},
        [
            Column(field="asked", title="Prompt tokens", unit=TOKENS, decimals=1, width=120),
            Column(field="hits", title="Hits", unit=RATIO, decimals=0, width=120, cell="gauge", thresholds=((None, ORANGE),), limits=(0, 1)),
        ],
        sort="Prompt tokens",
        size=(15, 7),
    )  # fmt: skip


def _hits_over_time() -> Panel:
    return timeseries(
        "Prefix cache hits",
        "Share of prompt tokens found in the prefix cache by deployment.",
        Target(
            expr=each("aim_performance_prefix_cache_hit_ratio", ALL),
            legend="{{namespace}}/{{aimdeployment}}",
        ),
        unit=RATIO,
        top=1,
        calcs=(),
        size=(9, 7),
    )
