"""One deployment: rate, errors and duration of its requests, saturation, its GPUs, and how it became ready."""

from __future__ import annotations

from aim_engine.telemetry.dashboards.board import Board, Row, chosen, link_to, typed
from aim_engine.telemetry.dashboards.boards.gpus import gpu_panels
from aim_engine.telemetry.dashboards.overrides import PERCENTILES
from aim_engine.telemetry.dashboards.panels import (
    Panel,
    Target,
    coloured,
    heatmap,
    line,
    stat,
    timeline,
    timeseries,
)
from aim_engine.telemetry.dashboards.series import (
    ONE,
    RATE,
    demanded,
    each,
    either,
    of_expected,
    quantile,
)
from aim_engine.telemetry.dashboards.style import (
    ATTAINMENT,
    BLUE,
    ERRORS,
    FILLING,
    GOOD,
    GREEN,
    GREY,
    NEUTRAL,
    ORANGE,
    PURPLE,
    RATIO,
    RED,
    REQUESTS,
    SECONDS,
    SHARE_OF_EXPECTED,
    STATE,
    TEAL,
    TOKENS,
    YELLOW,
    Thresholds,
)

UID = "aim-deployment"
_STATE: Thresholds = ((None, RED), (1, GREY), (2, GREEN))
_LIMIT: Thresholds = ((None, GREEN), (0.95, ORANGE))
_PODS = (
    'label_values({__name__=~"vllm:num_requests_running|sglang:num_running_reqs",namespace="$namespace",aimdeployment="$aimdeployment"}, pod)'
)  # fmt: skip


def board() -> Board:
    """The deployment."""
    return Board(
        uid=UID,
        title="AIM Engine Deployment",
        about="One AIMDeployment: is it ready, what does it deliver against expectation and objective, what limits it, and what do its GPUs do.",
        variables=[
            chosen("namespace", "Namespace", "label_values(aim_deployment_info, namespace)", many=False),
            chosen(
                "aimdeployment", "Deployment", 'label_values(aim_deployment_info{namespace="$namespace"}, aimdeployment)', many=False,
            ),
            chosen("pod", "Pod", _PODS, listed=True),
            typed("exporter_prefix", "Exporter prefix", "Prefix before the names of AMD's device metrics exporter where one is configured, such as amd_."),
        ],
        rows=[
            Row(title="", panels=_summary()),
            Row(title="Requests: rate, errors, duration", panels=[_rate(), _errors(), _duration()]),
            Row(title="Tokens", panels=[_tokens(), _prompt_tokens()]),
            Row(title="Latency", panels=[_first_token(), _first_token_map(), _between_tokens(), _attainment(), _phases()]),
            Row(title="Saturation", panels=[_queue(), _kv_cache(), _preemptions(), _prefix_cache(), _lengths()]),
            Row(title="GPUs (AMD device metrics exporter)", panels=gpu_panels()),
            Row(title="Life", panels=[_conditions(), _replicas(), _time_to_ready()]),
        ],
    )  # fmt: skip


def _condition(kind: str, by: str = "reason") -> str:
    """2 for True, 1 for Unknown, 0 for False."""
    parts = (
        f'aim_deployment_status_condition{{status="{status}",condition=~"{kind}",{ONE}}} * {value}'
        for status, value in (("true", 2), ("unknown", 1), ("false", 0))
    )
    return f"max by ({by}) ({' or '.join(parts)})"


def _summary() -> list[Panel]:
    measured = each("aim_performance_tokens_per_second", ONE)
    recipe = ("Compare the model's recipes", link_to("aim-recipes", model="${__field.labels.model}"))
    return [
        stat(
            "State", "Reason of the Ready condition: green when it answers, red when not.",
            Target(expr=_condition("Ready"), legend="{{reason}}"), unit="none", steps=_STATE, text="name", filled=True, size=(4, 4),
        ),
        stat(
            "Recipe", "The recipe in use. A click compares it with the others for this model.",
            Target(expr=each("aim_deployment_info", ONE, "aimrecipe, model"), legend="{{aimrecipe}}"), unit="none", steps=NEUTRAL,
            text="name", link=recipe, size=(6, 4),
        ),
        stat(
            "GPUs", "GPUs of all replicas asked for.",
            Target(expr=each("aim_deployment_gpus_requested", ONE, "gpu_type"), legend="{{gpu_type}}"), unit="none", text="value_and_name", size=(3, 4),
        ),
        stat(
            "Replicas ready", "Replicas that answer, and those asked for.",
            Target(expr=each("aim_deployment_status_replicas_ready", ONE), legend="ready"),
            Target(expr=each("aim_deployment_spec_replicas", ONE), legend="wanted"), unit="none", text="value_and_name", size=(3, 4),
        ),
        stat(
            "Generated tokens", "Tokens generated a second over all replicas.",
            Target(expr=measured, legend="tokens"), unit=TOKENS, decimals=1, graph=True, steps=NEUTRAL, size=(4, 4),
        ),
        stat(
            "Of expected", "Measured throughput of a replica as a share of what the recipe promises, when requests waited the last time. Without them a low share would mean low demand.",
            Target(expr=demanded(of_expected(ONE), ONE), legend="ratio"), unit=RATIO, decimals=0, steps=SHARE_OF_EXPECTED, graph=True, size=(4, 4),
        ),
        stat(
            "TTFT p95", "95 of 100 requests get their first token within this time.",
            Target(expr=each("aim_performance_time_to_first_token_seconds", f'quantile="0.95",{ONE}'), legend="p95"), unit=SECONDS,
            graph=True, size=(4, 4),
        ),
        stat(
            "TTFT objective met", "Share of the requests of this time range that got their first token within the deployment's objective.",
            Target(expr=_attained("$__range"), legend="met"), unit=RATIO, decimals=1, steps=ATTAINMENT, size=(4, 4),
        ),
        stat(
            "KV cache", "Highest use of the KV cache among the replicas.",
            Target(expr=each("aim_performance_kv_cache_usage_ratio", ONE), legend="used"), unit=RATIO, decimals=0, steps=FILLING, graph=True, size=(4, 4),
        ),
        stat(
            "Waiting", "Requests in the queue of all replicas.",
            Target(expr=each("aim_performance_requests_waiting", ONE), legend="waiting"), unit="none", decimals=0,
            steps=((None, GREEN), (1, YELLOW), (50, RED)), graph=True, size=(4, 4),
        ),
        stat(
            "Error share", "Share of requests that ended with an error of the engine.",
            Target(expr=each("aim_performance_error_ratio", ONE), legend="errors"), unit=RATIO, decimals=2, steps=ERRORS, graph=True, size=(4, 4),
        ),
        stat(
            "Ready for",
            "Time since it became Ready the last time.",
            Target(expr=f"time() - {each('aim_deployment_ready_timestamp_seconds', ONE)}", legend="ready"),
            unit=SECONDS, decimals=0, steps=GOOD, size=(4, 4),
        ),
    ]  # fmt: skip


def _rate() -> Panel:
    return timeseries(
        "Finished requests",
        "Requests that ended, by how: stop and length are regular, abort is a client that went away, error is the engine's.",
        Target(expr=f"sum by (finished_reason) (rate(vllm:request_success_total{{{ONE}}}[{RATE}]))", legend="{{finished_reason}}"),
        Target(expr=f"sum(rate(sglang:e2e_request_latency_seconds_count{{{ONE}}}[{RATE}]))", legend="finished (SGLang)"),
        unit=REQUESTS, stacked=True, overrides=[coloured("^stop$", GREEN), coloured("^length$", BLUE), coloured("^abort$", GREY), coloured("^error$", RED), coloured("^repetition$", PURPLE)],
        size=(8, 8),
    )  # fmt: skip


def _errors() -> Panel:
    finished = f"sum(rate(vllm:request_success_total{{{ONE}}}[{RATE}]))"
    failed = f'sum(rate(vllm:request_success_total{{finished_reason="error",{ONE}}}[{RATE}]))'
    http = f"sum(rate(http_requests_total{{{ONE}}}[{RATE}]))"
    refused = f'sum(rate(http_requests_total{{status="5xx",{ONE}}}[{RATE}]))'
    return timeseries(
        "Errors",
        "Share of finished requests that ended with an error, and share of HTTP answers with a status of 500 or more.",
        Target(expr=f"{failed} / ({finished} > 0)", legend="engine errors"),
        Target(expr=f"{refused} / ({http} > 0)", legend="HTTP 5xx"),
        unit=RATIO, steps=((None, GREEN), (0.05, RED)), overrides=[coloured("^engine", RED), coloured("^HTTP", ORANGE)], size=(8, 8),
    )  # fmt: skip


def _quantiles(title: str, about: str, name: str, size: tuple[int, int], *extra: Target) -> Panel:
    return timeseries(
        title, about,
        *(Target(expr=quantile(share, name, ONE), legend=f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
        *extra, unit=SECONDS,
        overrides=[*PERCENTILES, line("^target$", PURPLE)], size=size,
    )  # fmt: skip


def _duration() -> Panel:
    return _quantiles(
        "Duration of requests",
        "From the arrival of a request to its last token.",
        "e2e_request_latency_seconds",
        (8, 8),
    )


def _tokens() -> Panel:
    ready = each("aim_deployment_status_replicas_ready", ONE)
    return timeseries(
        "Generated tokens, expected and target",
        "Tokens generated a second by each replica (stacked), what the recipe promises for the replicas that are ready, what the spec asks of them, and the baseline: what as many did in the first stable measurement of this recipe here.",
        Target(expr=f"sum by (pod) (rate({either('generation_tokens_total', ONE)}[{RATE}]))", legend="{{pod}}"),
        Target(expr=each("aim_deployment_expected_tokens_per_second", ONE), legend="expected"),
        Target(expr=f"{each('aim_performance_baseline_tokens_per_second', ONE)} * {ready}", legend="baseline"),
        Target(expr=f"{each('aim_deployment_target_tokens_per_second', ONE)} * {ready}", legend="target"),
        unit=TOKENS, stacked=True, overrides=[line("^expected$", ORANGE), line("^baseline$", PURPLE), line("^target$", RED)], size=(14, 9),
    )  # fmt: skip


def _prompt_tokens() -> Panel:
    return timeseries(
        "Prompt tokens",
        "Tokens of prompts a second, and those of them that the prefix cache supplied and the GPUs did not compute.",
        Target(expr=f"sum(rate({either('prompt_tokens_total', ONE)}[{RATE}]))", legend="prompt"),
        Target(expr=f"sum(rate(vllm:prefix_cache_hits_total{{{ONE}}}[{RATE}]))", legend="from the prefix cache"),
        unit=TOKENS, overrides=[coloured("^prompt$", BLUE), coloured("cache", TEAL)], size=(10, 9),
    )  # fmt: skip


def _first_token() -> Panel:
    return _quantiles(
        "Time to first token",
        "Quantiles over all replicas, and the target of the spec.",
        "time_to_first_token_seconds",
        (12, 8),
        Target(expr=each("aim_deployment_target_time_to_first_token_seconds", ONE), legend="target"),
    )


def _first_token_map() -> Panel:
    buckets = either("time_to_first_token_seconds_bucket", ONE)
    return heatmap(
        "Time to first token, all requests",
        "How many requests waited how long for their first token; two bands mean two kinds of requests, such as with and without cached prefix.",
        Target(expr=f"sum by (le) (increase({buckets}[{RATE}]))", legend="{{le}}"),
        unit=SECONDS,
        size=(12, 8),
    )


def _between_tokens() -> Panel:
    return _quantiles(
        "Time between tokens",
        "How evenly answers stream: time from one token of a request to the next.",
        "inter_token_latency_seconds",
        (8, 8),
    )


def _attained(window: str) -> str:
    """Share of requests within the objective, whose threshold is a bound of the engines' buckets."""
    buckets = f"sum by (namespace, aimdeployment, le) (rate({either('time_to_first_token_seconds_bucket', ONE)}[{window}]))"
    bound = each("aim_deployment_ttft_objective_info", ONE, "namespace, aimdeployment, threshold")
    objective = f'label_replace({bound}, "le", "$1", "threshold", "(.+)")'
    within = f"sum({buckets} * on (namespace, aimdeployment, le) group_left () {objective})"
    return f"{within} / (sum(rate({either('time_to_first_token_seconds_count', ONE)}[{window}])) > 0)"


def _attainment() -> Panel:
    return timeseries(
        "TTFT objective met over time",
        "Share of requests whose first token came within the objective. The error budget is the rest up to 1.",
        Target(expr=_attained(RATE), legend="within the objective"),
        unit=RATIO, top=1, steps=((None, RED), (0.95, GREEN)), overrides=[coloured("within", GREEN)], size=(8, 8),
    )  # fmt: skip


def _phases() -> Panel:
    def mean(name: str) -> str:
        series = f"vllm:request_{name}_time_seconds"
        return f"sum(rate({series}_sum{{{ONE}}}[{RATE}])) / (sum(rate({series}_count{{{ONE}}}[{RATE}])) > 0)"

    return timeseries(
        "Where the time goes",
        "Mean time of a request in each phase: waiting for a place in the batch, computing the prompt, generating the answer. Only vLLM tells.",
        Target(expr=mean("queue"), legend="queue"),
        Target(expr=mean("prefill"), legend="prefill"),
        Target(expr=mean("decode"), legend="decode"),
        unit=SECONDS, stacked=True, overrides=[coloured("queue", ORANGE), coloured("prefill", BLUE), coloured("decode", GREEN)], size=(8, 8),
    )  # fmt: skip


def _queue() -> Panel:
    def of_groups(name: str) -> str:
        """Schedulers of one group tell of the same requests, where all of them tell."""
        return f"max without (tp_rank, pp_rank, moe_ep_rank) ({name}{{{ONE}}})"

    return timeseries(
        "Requests running and waiting",
        "Requests in the batch and in the queue, all replicas together. A queue that stays means that the replicas are full.",
        Target(expr=f"sum(vllm:num_requests_running{{{ONE}}} or {of_groups('sglang:num_running_reqs')})", legend="running"),
        Target(expr=f"sum(vllm:num_requests_waiting{{{ONE}}} or {of_groups('sglang:num_queue_reqs')})", legend="waiting"),
        unit="short", overrides=[coloured("running", GREEN), coloured("waiting", ORANGE)], calcs=("mean", "max", "lastNotNull"), size=(8, 8),
    )  # fmt: skip


def _kv_cache() -> Panel:
    return timeseries(
        "KV cache by replica",
        "Share of the KV cache in use. Above 95 % the engine preempts requests.",
        Target(expr=f"max by (pod) (vllm:kv_cache_usage_perc{{{ONE}}} or sglang:token_usage{{{ONE}}})", legend="{{pod}}"),
        unit=RATIO, top=1, steps=_LIMIT, calcs=("mean", "max", "lastNotNull"), size=(8, 8),
    )  # fmt: skip


def _preemptions() -> Panel:
    return timeseries(
        "Preemptions by replica",
        "Requests thrown out of the batch for lack of KV cache, whose tokens are computed again. Any lasting rate costs throughput. Only vLLM tells.",
        Target(expr=f"sum by (pod) (rate(vllm:num_preemptions_total{{{ONE}}}[{RATE}]))", legend="{{pod}}"),
        unit="ops", size=(8, 8),
    )  # fmt: skip


def _prefix_cache() -> Panel:
    hits = f"sum(rate(vllm:prefix_cache_hits_total{{{ONE}}}[{RATE}]))"
    asked = f"sum(rate(vllm:prefix_cache_queries_total{{{ONE}}}[{RATE}]))"
    return timeseries(
        "Prefix cache hits",
        "Share of prompt tokens found in the prefix cache: what common prefixes, such as a system prompt, save.",
        Target(expr=f"{hits} / ({asked} > 0) or avg(sglang:cache_hit_rate{{{ONE}}})", legend="hit share"),
        unit=RATIO, top=1, overrides=[coloured("hit", TEAL)], size=(12, 8),
    )  # fmt: skip


def _lengths() -> Panel:
    def p95(name: str) -> str:
        return f"histogram_quantile(0.95, sum by (le) (rate(vllm:request_{name}_tokens_bucket{{{ONE}}}[{RATE}])))"

    return timeseries(
        "Lengths of requests (p95) and the context configured",
        "95 of 100 prompts and answers are no longer than this. Far below the configured context, KV cache is reserved for requests that nobody makes. Only vLLM tells.",
        Target(expr=p95("prompt"), legend="prompt"),
        Target(expr=p95("generation"), legend="answer"),
        Target(expr=each("aim_deployment_max_model_len", ONE), legend="context"),
        unit="short", overrides=[line("^context$", PURPLE)], size=(12, 8),
    )  # fmt: skip


def _conditions() -> Panel:
    return timeline(
        "Conditions over time",
        "The conditions of the AIMDeployment. Their reasons and messages are in `kubectl describe aimdeployment`.",
        Target(expr=_condition(".+", "condition"), legend="{{condition}}"),
        mappings=[STATE],
        size=(12, 8),
    )


def _replicas() -> Panel:
    return timeseries(
        "Replicas",
        "Replicas asked for, and those that answer.",
        Target(expr=each("aim_deployment_spec_replicas", ONE), legend="wanted"),
        Target(expr=each("aim_deployment_status_replicas_ready", ONE), legend="ready"),
        unit="none", overrides=[line("^wanted$", ORANGE), coloured("^ready$", GREEN)], calcs=("lastNotNull",), size=(6, 8),
    )  # fmt: skip


def _time_to_ready() -> Panel:
    def share(value: float) -> Target:
        buckets = "sum by (le, gpu_type, backend) (aim_deployment_time_to_ready_seconds_bucket)"
        return Target(
            expr=f"histogram_quantile({value:g}, {buckets})",
            legend=f"p{value * 100:g} {{{{gpu_type}}}} {{{{backend}}}}",
        )

    return timeseries(
        "Time to ready, whole cluster",
        "From creation to Ready of all deployments since the operator started, by GPU model and engine: image pull, download, load and warm-up together.",
        share(0.5),
        share(0.95),
        unit=SECONDS,
        calcs=("lastNotNull",),
        size=(6, 8),
    )
