"""Recipes side by side: which one delivers most per GPU, and does it keep what it promises."""

from __future__ import annotations

from aim_engine.telemetry.dashboards.board import Board, Row, chosen, link_to
from aim_engine.telemetry.dashboards.panels import (
    Column,
    Panel,
    Target,
    bar_gauge,
    line,
    stat,
    table,
    timeseries,
)
from aim_engine.telemetry.dashboards.series import DEPLOYMENT, by_recipe, demanded, each, quantile
from aim_engine.telemetry.dashboards.style import (
    GOOD,
    GREY,
    NEUTRAL,
    NONE_IS_GOOD,
    ORANGE,
    RATIO,
    SECONDS,
    SHARE_OF_EXPECTED,
    STATUS,
    TOKENS,
)

UID = "aim-recipes"
_RECIPES = 'model=~"$model",gpu_type=~"$gpu_type",aimrecipe=~"$aimrecipe"'
_USES = f'aimrecipe!="",{_RECIPES}'
_P95 = 'quantile="0.95"'
_ENGINES = 'aimrecipe!=""'
_INFO = "aimrecipe, model, gpu_type, gpu_count, precision, backend"
_OPEN_DEPLOYMENT = (
    "Open this deployment",
    link_to("aim-deployment", namespace="${__data.fields.Namespace}", aimdeployment="${__data.fields.Deployment}"),
)  # fmt: skip
_KNOWN = f"max by (aimrecipe) (aim_recipe_info{{{_RECIPES}}})"


def board() -> Board:
    """The comparison."""
    return Board(
        uid=UID,
        title="AIM Engine Recipe Comparison",
        about="Recipes for the same model and their measured throughput, latency and tokens a second per GPU, against what they promise.",
        variables=[
            chosen("model", "Model", "label_values(aim_recipe_info, model)"),
            chosen("gpu_type", "GPU", 'label_values(aim_recipe_info{model=~"$model"}, gpu_type)'),
            chosen(
                "aimrecipe",
                "Recipe",
                'label_values(aim_recipe_info{model=~"$model",gpu_type=~"$gpu_type"}, aimrecipe)',
            ),
        ],
        rows=[
            Row(title="", panels=_summary()),
            Row(title="Recipes", panels=[_recipes()]),
            Row(title="Throughput", panels=[_tokens(), _per_gpu(), _of_expected(), _users()]),
            Row(
                title="Latency",
                panels=[
                    _latency("Time to first token", "time_to_first_token_seconds"),
                    _latency("Time between tokens", "inter_token_latency_seconds"),
                ],
            ),
            Row(title="Under what load", panels=[_concurrency(), _cache()]),
        ],
    )


def _deployed(metric: str, where: str = "") -> str:
    return by_recipe(metric, where, _USES)


def _gpus_ready() -> str:
    """GPUs of ready replicas by recipe: ready replicas times the recipe's GPU count, which is a label and so counted."""
    replicas = each("aim_deployment_status_replicas_ready")
    requested = each("aim_deployment_gpus_requested")
    wanted = each("aim_deployment_spec_replicas")
    info = each("aim_deployment_info", _USES, f"{DEPLOYMENT}, aimrecipe")
    return (
        f"({replicas} * {requested} / ({wanted} > 0) > 0) * on ({DEPLOYMENT}) group_left (aimrecipe) {info}"
    )


def _tokens_per_gpu() -> str:
    return f"sum by (aimrecipe) ({_deployed('aim_performance_tokens_per_second')}) / sum by (aimrecipe) ({_gpus_ready()})"


def _summary() -> list[Panel]:
    used = f"group by (aimrecipe) (aim_deployment_info{{{_USES}}})"
    expected = _deployed("aim_deployment_expected_tokens_per_second")
    measured = _deployed("aim_performance_tokens_per_second")
    return [
        stat(
            "Recipes", "Recipes of the catalogue for this choice of model and GPU.",
            Target(expr=f"count({_KNOWN})"), steps=NEUTRAL, size=(4, 4),
        ),
        stat("In use", "Recipes that deployments use.", Target(expr=f"count({used}) or vector(0)"), steps=GOOD, size=(4, 4)),
        stat(
            "Cannot be chosen", "Recipes that contradict their engine, GPU or model; the recipe's Valid condition says how.",
            Target(expr='count(max by (aimrecipe) (aim_recipe_status_condition{condition="Valid",status="false",aimrecipe=~"$aimrecipe"})) or vector(0)'),
            steps=NONE_IS_GOOD, size=(4, 4),
        ),
        stat(
            "Most tokens per GPU", "The recipe in use that generates most tokens a second per GPU now.",
            Target(expr=f"topk(1, {_tokens_per_gpu()})", legend="{{aimrecipe}}"), unit=TOKENS, decimals=1, steps=GOOD, text="value_and_name", size=(8, 4),
        ),
        stat(
            "Delivered of expected", "Measured throughput of the deployments of these recipes in which requests wait, as a share of what the recipes promise. Empty without demand.",
            Target(expr=f"sum({demanded(measured)}) / sum({demanded(expected)})"), unit=RATIO, decimals=0, steps=SHARE_OF_EXPECTED, size=(4, 4),
        ),
    ]  # fmt: skip


def _recipes() -> Panel:
    expected = "max by (aimrecipe) (aim_recipe_expected_tokens_per_second)"
    observed = "max by (aimrecipe) (aim_recipe_observed_tokens_per_second)"
    valid = (
        'max by (aimrecipe, status) (aim_recipe_status_condition{condition="Valid",aimrecipe=~"$aimrecipe"})'
    )
    known = f"* on (aimrecipe) {_KNOWN}"
    return table(
        "Recipes, promised and observed",
        "Every recipe for this choice. Promised: the first performance entry of the recipe, per replica. Observed: what its deployments were measured at under load, per replica. "
        "A recipe without evidence has neither. Fits now: replicas for which GPUs are free.",
        {
            "info": f"max by ({_INFO}) (aim_recipe_info{{{_RECIPES}}})",
            "valid": f"{valid} * on (aimrecipe) group_left {_KNOWN}",
            "used": f"count by (aimrecipe) ({each('aim_deployment_info', _USES, f'{DEPLOYMENT}, aimrecipe')})",
            "fits": f"max by (aimrecipe) (aim_recipe_fits) {known}",
            "expected": f"{expected} {known}",
            "observed": f"{observed} {known}",
            "ratio": f"{observed} / ({expected} > 0) {known}",
            "ttft": f"max by (aimrecipe) (aim_recipe_expected_time_to_first_token_seconds) {known}",
            "measured_ttft": f"max by (aimrecipe) ({_deployed('aim_performance_time_to_first_token_seconds', _P95)})",
        },
        [
            Column(field="aimrecipe", title="Recipe", width=330),
            Column(field="model", title="Model", width=260),
            Column(field="gpu_count", title="GPUs", width=60),
            Column(field="gpu_type", title="GPU", width=90),
            Column(field="precision", title="Precision", width=90),
            Column(field="backend", title="Engine", width=80),
            Column(field="status", title="Valid", width=70, cell="color-text", mappings=(STATUS,)),
            Column(field="used", title="Used by", unit="none", width=80),
            Column(field="fits", title="Fits now", unit="none", width=80),
            Column(field="expected", title="Promised", unit=TOKENS, decimals=1, width=120),
            Column(field="observed", title="Observed", unit=TOKENS, decimals=1, width=120),
            Column(field="ratio", title="Ratio", unit=RATIO, decimals=0, width=140, cell="gauge", thresholds=SHARE_OF_EXPECTED, limits=(0, 1.2)),
            Column(field="ttft", title="TTFT promised", unit=SECONDS, width=120),
            Column(field="measured_ttft", title="TTFT p95", unit=SECONDS, width=100),
        ],
        sort="Observed",
        size=(24, 9),
    )  # fmt: skip


def _tokens() -> Panel:
    return timeseries(
        "Tokens by recipe, with the expected line",
        "Tokens generated a second by all deployments of a recipe (solid), and what the recipe promises for the replicas that are ready (dashed).",
        Target(expr=f"sum by (aimrecipe) ({_deployed('aim_performance_tokens_per_second')})", legend="{{aimrecipe}}"),
        Target(expr=f"sum by (aimrecipe) ({_deployed('aim_deployment_expected_tokens_per_second')})", legend="expected: {{aimrecipe}}"),
        unit=TOKENS, overrides=[line("^expected", ORANGE)], size=(14, 9),
    )  # fmt: skip


def _per_gpu() -> Panel:
    return bar_gauge(
        "Tokens a second per GPU",
        "Measured throughput of each recipe divided by the GPUs of its ready replicas: what one GPU earns with it.",
        Target(expr=f"sort_desc({_tokens_per_gpu()})", legend="{{aimrecipe}}"),
        unit=TOKENS,
        size=(10, 9),
    )


def _of_expected() -> Panel:
    measured = f"sum by (aimrecipe) ({_deployed('aim_performance_tokens_per_second')})"
    expected = f"sum by (aimrecipe) ({_deployed('aim_deployment_expected_tokens_per_second')})"
    return timeseries(
        "Delivered share of the expected throughput",
        "1 is what the recipe promises. Below the dashed line of 80 % while requests wait, the recipe does not keep its promise here.",
        Target(expr=f"{measured} / ({expected} > 0)", legend="{{aimrecipe}}"),
        unit=RATIO, steps=((None, GREY), (0.8, ORANGE)), size=(14, 8),
    )  # fmt: skip


def _users() -> Panel:
    info = each("aim_deployment_info", _USES, f"{DEPLOYMENT}, aimrecipe, gpu_count, gpu_type")
    return table(
        "Who uses them",
        "Deployments of these recipes with their present throughput. A click on a deployment opens it.",
        {"info": info, "tokens": f"{each('aim_performance_tokens_per_second')} * on ({DEPLOYMENT}) {each('aim_deployment_info', _USES)}"},
        [
            Column(field="namespace", title="Namespace", width=120),
            Column(field="aimdeployment", title="Deployment", link=_OPEN_DEPLOYMENT),
            Column(field="aimrecipe", title="Recipe"),
            Column(field="gpu_count", title="GPUs", width=60),
            Column(field="gpu_type", title="GPU", width=80),
            Column(field="tokens", title="Tokens", unit=TOKENS, decimals=1, width=110),
        ],
        sort="Tokens",
        empty="No deployment uses them",
        size=(10, 8),
    )  # fmt: skip


def _latency(title: str, name: str) -> Panel:
    # An engine's label has a dot where the name of a ConfigMap's recipe has a slash.
    labelled = (
        f'label_replace(aim_recipe_info{{{_RECIPES}}}, "aimrecipe", "$1.$2", "aimrecipe", "(configmap)/(.+)")'
    )
    shown = f"and on (aimrecipe) group by (aimrecipe) ({labelled})"
    return timeseries(
        f"{title} by recipe",
        f"{title}, median and 95th percentile over all engines of a recipe, from the engines' own histograms.",
        Target(expr=f"{quantile(0.5, name, _ENGINES, 'aimrecipe')} {shown}", legend="p50 {{aimrecipe}}"),
        Target(expr=f"{quantile(0.95, name, _ENGINES, 'aimrecipe')} {shown}", legend="p95 {{aimrecipe}}"),
        unit=SECONDS,
        size=(12, 8),
    )


def _concurrency() -> Panel:
    running = _deployed("aim_performance_requests_running")
    ready = _deployed("aim_deployment_status_replicas_ready")
    return timeseries(
        "Requests in the batch per replica",
        "Throughput of two recipes compares only at a like load: this is the mean number of requests that a replica worked on at once.",
        Target(expr=f"sum by (aimrecipe) ({running}) / (sum by (aimrecipe) ({ready}) > 0)", legend="{{aimrecipe}}"),
        unit="short", size=(12, 8),
    )  # fmt: skip


def _cache() -> Panel:
    return timeseries(
        "KV cache in use",
        "Highest use of the KV cache among the replicas of a recipe. Above 95 % requests are preempted.",
        Target(expr=f"max by (aimrecipe) ({_deployed('aim_performance_kv_cache_usage_ratio')})", legend="{{aimrecipe}}"),
        unit=RATIO, top=1, steps=((None, GREY), (0.95, ORANGE)), size=(12, 8),
    )  # fmt: skip
