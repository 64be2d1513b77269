"""All deployments at a glance: is everything served, does it deliver what its recipe promises, which GPUs are left."""

from __future__ import annotations

from aim_engine.telemetry.alerts import source
from aim_engine.telemetry.dashboards.board import Board, Row, chosen, link_to
from aim_engine.telemetry.dashboards.overrides import SELECTION_RESULTS
from aim_engine.telemetry.dashboards.panels import (
    Column,
    Panel,
    Target,
    coloured,
    donut,
    stat,
    table,
    timeseries,
)
from aim_engine.telemetry.dashboards.series import (
    ALL,
    DEPLOYMENT,
    condition,
    demanded,
    each,
    of_expected,
    per_minute,
)
from aim_engine.telemetry.dashboards.style import (
    ACTIONS,
    ALERT,
    BLUE,
    FILLING,
    GREEN,
    GREY,
    NEUTRAL,
    NONE_IS_GOOD,
    NONE_IS_VITAL,
    ORANGE,
    PER_MINUTE,
    PURPLE,
    RATIO,
    RED,
    SECONDS,
    SEVERITY,
    SHARE_OF_EXPECTED,
    SOME_IS_GOOD,
    STATUS,
    TEAL,
    TIER,
    TOKENS,
    YELLOW,
    mapped,
)

UID = "aim-fleet"
TITLE = "AIM Engine Fleet"
_OPEN_DEPLOYMENT = (
    "Open this deployment",
    link_to("aim-deployment", namespace="${__data.fields.Namespace}", aimdeployment="${__data.fields.Deployment}"),
)  # fmt: skip
_OPEN_RECIPE = ("Compare its recipes", link_to("aim-recipes", model="${__data.fields.Model}"))
_OF_SERIES = (
    "Open ${__field.labels.aimdeployment}",
    link_to("aim-deployment", namespace="${__field.labels.namespace}", aimdeployment="${__field.labels.aimdeployment}"),
)  # fmt: skip


def board() -> Board:
    """The fleet."""
    return Board(
        uid=UID,
        title=TITLE,
        about="Every model served by AIM Engine: what is chosen, what is ready, what it delivers against what its recipe promises, and which GPUs are left.",
        variables=[
            chosen("namespace", "Namespace", "label_values(aim_deployment_info, namespace)"),
        ],
        rows=[
            Row(title="", panels=[*_summary(), _alerts()]),
            Row(title="Deployments", panels=[_deployments(), _readiness(), _unserved()]),
            Row(title="Recipe selection", panels=[_results(), _totals(), _tiers(), _conditions()]),
            Row(title="GPUs", panels=[_gpus(), _gpus_over_time()]),
            Row(title="Delivered", panels=[_throughput(), _first_token()]),
        ],
    )


def _summary() -> list[Panel]:
    used = 'sum(max by (gpu_type) (aim_gpu_used{by="aim"}))'
    return [
        stat(
            "Deployments", "AIMDeployments that exist.",
            Target(expr=f"count({each('aim_deployment_info', ALL)}) or vector(0)"), steps=NEUTRAL, size=(3, 4),
        ),
        stat(
            "Ready", "Deployments that answer requests.",
            Target(expr=condition("Ready", "true", ALL)), steps=SOME_IS_GOOD, size=(3, 4),
        ),
        stat(
            "Not served", "Deployments without a recipe in use: none exists, none fits, or its GPUs are not free.",
            Target(expr=condition("RecipeSelected", "false", ALL)), steps=NONE_IS_VITAL, size=(3, 4),
        ),
        stat(
            "Below target", "Deployments that deliver less than their targets or their recipe's expectation while there is demand.",
            Target(expr=condition("PerformanceOnTarget", "false", ALL)), steps=NONE_IS_GOOD, size=(3, 4),
        ),
        stat(
            "Generated tokens", "Tokens generated a second by all engines together, as the operator measures them.",
            Target(expr=f"sum({each('aim_performance_tokens_per_second', ALL)})"), unit=TOKENS, decimals=1, graph=True, size=(3, 4),
        ),
        stat(
            "Requests waiting", "Requests in the queues of all engines.",
            Target(expr=f"sum({each('aim_performance_requests_waiting', ALL)})"), steps=((None, GREEN), (10, ORANGE), (100, RED)),
            decimals=0, graph=True, size=(3, 4),
        ),
        stat(
            "GPUs used by AIM", "Share of all allocatable GPUs that AIMDeployments hold.",
            Target(expr=f"{used} / sum(max by (gpu_type) (aim_gpu_allocatable))"), unit=RATIO, decimals=0, graph=True, size=(3, 4),
        ),
        stat(
            "GPUs free", "GPUs that no pod holds and a deployment could be given.",
            Target(expr="sum(max by (gpu_type) (aim_gpu_free))"), steps=((None, ORANGE), (1, GREEN)), graph=True, size=(3, 4),
        ),
    ]  # fmt: skip


def _alerts() -> Panel:
    labels = "alertname, severity, alertstate, namespace, aimdeployment"
    runbook = f"{source()['runbooks']}/${{__data.fields.Alert}}.md"
    return table(
        "Alerts",
        "Alerts of AIM Engine that fire, or will unless what they tell of ends. A click on one opens its runbook.",
        {"found": f'max by ({labels}) (ALERTS{{alertname=~"AIMEngine.+",namespace=~"$namespace|"}})'},
        [
            Column(field="alertname", title="Alert", width=330, link=("Open the runbook", runbook)),
            Column(field="alertstate", title="State", width=100, cell="color-text", mappings=(ALERT,)),
            Column(field="severity", title="Severity", width=100, cell="color-text", mappings=(SEVERITY,)),
            Column(field="namespace", title="Namespace", width=160),
            Column(field="aimdeployment", title="Deployment", link=_OPEN_DEPLOYMENT),
        ],
        sort="State",
        descending=False,
        empty="No alert is pending or fires",
        size=(24, 6),
    )


def _deployments() -> Panel:
    measured = each("aim_performance_tokens_per_second", ALL)
    expected = each("aim_deployment_expected_tokens_per_second", ALL)
    labels = f"{DEPLOYMENT}, model, aimrecipe, gpus, tier"
    info = f'label_join(aim_deployment_info{{{ALL}}}, "gpus", "x", "gpu_count", "gpu_type")'
    ready = each(
        "aim_deployment_status_condition", f'condition="Ready",{ALL}', f"{DEPLOYMENT}, status, reason"
    )
    return table(
        "Deployments, recipes and what they deliver",
        "One row for each deployment: the recipe it uses, what that recipe promises for the replicas that are ready, what is measured, and the ratio. "
        "The ratio is there only while requests wait: without, a low one says no more than that there is no demand. A click on a deployment opens it.",
        {
            "info": f"max by ({labels}) ({info})",
            "ready": ready,
            "replicas": each("aim_deployment_status_replicas_ready", ALL),
            "expected": f"{expected} > 0",
            "measured": measured,
            "ratio": demanded(of_expected(ALL), ALL),
            "ttft": each("aim_performance_time_to_first_token_seconds", f'quantile="0.95",{ALL}'),
            "waiting": each("aim_performance_requests_waiting", ALL),
            "kv": each("aim_performance_kv_cache_usage_ratio", ALL),
        },
        [
            Column(field="namespace", title="Namespace", width=105),
            Column(field="aimdeployment", title="Deployment", width=165, link=_OPEN_DEPLOYMENT),
            Column(field="model", title="Model", width=235, link=_OPEN_RECIPE),
            Column(field="aimrecipe", title="Recipe", width=265),
            Column(field="gpus", title="GPUs", width=95, mappings=(mapped({"x": ("–", GREY)}),)),
            Column(field="tier", title="Tier", width=95, cell="color-text", mappings=(TIER,)),
            Column(field="status", title="Ready", width=65, cell="color-text", mappings=(STATUS,)),
            Column(field="reason", title="Reason", width=165),
            Column(field="replicas", title="Replicas", unit="none", width=82),
            Column(field="expected", title="Expected", unit=TOKENS, width=100, decimals=1),
            Column(field="measured", title="Measured", unit=TOKENS, width=100, decimals=1),
            Column(field="ratio", title="Ratio", unit=RATIO, width=125, decimals=0, cell="gauge", thresholds=SHARE_OF_EXPECTED, limits=(0, 1.2)),
            Column(field="ttft", title="TTFT p95", unit=SECONDS, width=90),
            Column(field="waiting", title="Waiting", unit="none", width=78, decimals=0),
            Column(field="kv", title="KV cache", unit=RATIO, width=88, decimals=0, cell="color-text", thresholds=FILLING),
        ],
        sort="Measured",
        size=(24, 9),
    )  # fmt: skip


def _readiness() -> Panel:
    state = each("aim_deployment_status_condition", f'condition="Ready",{ALL}', f"{DEPLOYMENT}, reason")
    return timeseries(
        "Deployments by state",
        "How many deployments are in which state, by the reason of their Ready condition.",
        Target(expr=f"count by (reason) ({state})", legend="{{reason}}"),
        stacked=True,
        overrides=[coloured("^Serving$", GREEN), coloured("^Starting$", BLUE), coloured("^InsufficientCapacity$", ORANGE),
                   coloured("^(RecipeNotFound|RecipeInvalid|NoEligibleRecipe)$", RED), coloured("^(Suspended|ScaledToZero)$", GREY)],
        calcs=("lastNotNull",),
        size=(9, 8),
    )  # fmt: skip


def _conditions() -> Panel:
    def of(status: str) -> str:
        where = f'status="{status}",{ALL}'
        return f"count by (condition) ({each('aim_deployment_status_condition', where, f'{DEPLOYMENT}, condition')})"

    return table(
        "Deployments by condition",
        "How many deployments have each condition True, False or Unknown. PerformanceOnTarget is Unknown while a model is idle: a low number without demand is no fault.",
        {"true": of("true"), "false": of("false"), "unknown": of("unknown")},
        [
            Column(field="condition", title="Condition"),
            Column(field="true", title="True", unit="none", width=70, cell="color-text", thresholds=((None, GREEN),)),
            Column(field="false", title="False", unit="none", width=70, cell="color-text", thresholds=((None, GREY), (1, RED))),
            Column(field="unknown", title="Unknown", unit="none", width=90, cell="color-text", thresholds=((None, GREY),)),
        ],
        size=(7, 8),
    )  # fmt: skip


def _results() -> Panel:
    return timeseries(
        "Selections a minute by result",
        "Decisions that changed something: the best recipe, a fallback, waiting for GPUs, no recipe, or an error of the operator.",
        Target(expr=f"{per_minute('aim_recipe_selection_total', 'result')} > 0", legend="{{result}}"),
        unit=PER_MINUTE,
        stacked=True,
        bars=True,
        overrides=SELECTION_RESULTS,
        calcs=("mean", "max"),
        size=(7, 8),
    )


def _totals() -> Panel:
    return donut(
        "Selections in this time range",
        "The same decisions, counted over the time range of the dashboard.",
        Target(expr="sum by (result) (increase(aim_recipe_selection_total[$__range]))", legend="{{result}}"),
        unit="none",
        decimals=0,
        overrides=SELECTION_RESULTS,
        size=(5, 8),
    )


def _tiers() -> Panel:
    info = each("aim_deployment_info", f'tier!="",{ALL}', f"{DEPLOYMENT}, tier")
    return donut(
        "Deployments by tier",
        "How near the recipes in use are to the best ones: Primary is the best; Secondary another precision or GPU count; Tertiary the fewest GPUs that hold the model; Default a generic configuration.",
        Target(expr=f"count by (tier) ({info})", legend="{{tier}}"),
        overrides=[coloured("^Primary$", GREEN), coloured("^Secondary$", YELLOW), coloured("^Tertiary$", ORANGE), coloured("^Default$", PURPLE)],
        unit="none", size=(5, 8),
    )  # fmt: skip


def _unserved() -> Panel:
    where = f'condition=~"RecipeSelected|PrerequisitesMet|Available",status="false",{ALL}'
    found = each("aim_deployment_status_condition", where, f"{DEPLOYMENT}, reason")
    action = f'label_replace({found}, "action", "$1", "reason", "(.*)")'
    return table(
        "Why deployments are not served",
        "Deployments with a condition that keeps them from serving, its reason, and what to do about it. `kubectl describe aimdeployment` has the numbers of the case.",
        {"found": action},
        [
            Column(field="namespace", title="Namespace", width=100),
            Column(field="aimdeployment", title="Deployment", width=150, link=_OPEN_DEPLOYMENT),
            Column(field="reason", title="Reason", width=170, cell="color-text", thresholds=((None, ORANGE),)),
            Column(field="action", title="What to do", cell="auto", mappings=(ACTIONS,)),
        ],
        empty="Everything is served",
        size=(15, 8),
    )  # fmt: skip


def _gpus() -> Panel:
    free, all_of = "max by (gpu_type) (aim_gpu_free)", "max by (gpu_type) (aim_gpu_allocatable)"
    return table(
        "GPUs by model",
        "GPUs of the cluster's nodes: what may be allocated, what AIMDeployments and other pods hold, and what is free.",
        {
            "allocatable": all_of,
            "aim": 'max by (gpu_type) (aim_gpu_used{by="aim"})',
            "other": 'max by (gpu_type) (aim_gpu_used{by="other"})',
            "free": free,
            "share": f"1 - {free} / ({all_of} > 0)",
        },
        [
            Column(field="gpu_type", title="GPU"),
            Column(field="allocatable", title="Allocatable", unit="none"),
            Column(field="aim", title="Used by AIM", unit="none"),
            Column(field="other", title="Used by others", unit="none"),
            Column(field="free", title="Free", unit="none", cell="color-text", thresholds=((None, ORANGE), (1, GREEN))),
            Column(field="share", title="In use", unit=RATIO, decimals=0, width=180, cell="gauge", thresholds=FILLING, limits=(0, 1)),
        ],
        size=(12, 7),
    )  # fmt: skip


def _gpus_over_time() -> Panel:
    return timeseries(
        "GPUs over time",
        "GPUs of all models together: held by AIMDeployments, held by other pods, free.",
        Target(expr='sum(max by (gpu_type) (aim_gpu_used{by="aim"}))', legend="AIM"),
        Target(expr='sum(max by (gpu_type) (aim_gpu_used{by="other"}))', legend="Others"),
        Target(expr="sum(max by (gpu_type) (aim_gpu_free))", legend="Free"),
        stacked=True,
        overrides=[coloured("^AIM$", TEAL), coloured("^Others$", GREY), coloured("^Free$", GREEN)],
        size=(12, 7),
    )


def _throughput() -> Panel:
    return timeseries(
        "Generated tokens by deployment",
        "Tokens generated a second, summed over the replicas of each deployment. A click on a curve opens its deployment.",
        Target(expr=each("aim_performance_tokens_per_second", ALL), legend="{{namespace}}/{{aimdeployment}}"),
        unit=TOKENS,
        stacked=True,
        link=_OF_SERIES,
        size=(12, 9),
    )


def _first_token() -> Panel:
    return timeseries(
        "Time to first token by deployment (p95)",
        "95 of 100 requests get their first token within this time.",
        Target(
            expr=each("aim_performance_time_to_first_token_seconds", f'quantile="0.95",{ALL}'),
            legend="{{namespace}}/{{aimdeployment}}",
        ),
        unit=SECONDS,
        link=_OF_SERIES,
        size=(12, 9),
    )
