"""The operator itself and its gate: does it keep up, what does it ask of the API server, is its certificate good."""

from __future__ import annotations

from aim_engine.telemetry.dashboards.board import Board, Row
from aim_engine.telemetry.dashboards.overrides import PERCENTILES, SELECTION_RESULTS
from aim_engine.telemetry.dashboards.panels import (
    Column,
    Panel,
    Target,
    coloured,
    line,
    stat,
    table,
    timeseries,
)
from aim_engine.telemetry.dashboards.series import RATE, per_minute
from aim_engine.telemetry.dashboards.style import (
    BLUE,
    ERRORS,
    GREEN,
    NEUTRAL,
    NONE_IS_GOOD,
    ORANGE,
    PER_MINUTE,
    RATIO,
    RED,
    REQUESTS,
    SECONDS,
    YELLOW,
    Thresholds,
)

UID = "aim-operator"
_OURS = "aim_operator_build_info or aim_webhook_certificate_expiry_timestamp_seconds"
_LEADER: Thresholds = ((None, RED), (1, GREEN), (2, RED))
_EXPIRY: Thresholds = ((None, RED), (7 * 86400, ORANGE), (14 * 86400, GREEN))
_AGE: Thresholds = ((None, GREEN), (900, RED))


def board() -> Board:
    """The operator."""
    return Board(
        uid=UID,
        title="AIM Engine Operator",
        about="The operator and its validator: passes over objects, queue, requests to the API server, scrapes of engines, admission reviews, certificate.",
        variables=[],
        rows=[
            Row(title="", panels=_summary()),
            Row(title="Reconciling", panels=[_passes(), _pass_time(), _pass_errors()]),
            Row(title="Queue and selection", panels=[_queue(), _selections(), _selection_time()]),
            Row(title="API server", panels=[_requests(), _request_errors(), _request_time()]),
            Row(title="Engines and Hub", panels=[_scrape_errors(), _hub()]),
            Row(title="Admission", panels=[_reviews(), _review_time(), _warnings(), _certificate()]),
            Row(title="Processes", panels=[_replicas(), _memory(), _cpu()]),
        ],
    )


def _quantiles(histogram: str, by: str = "") -> list[Target]:
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    return [
        Target(
            expr=f"histogram_quantile({share:g}, sum by ({labels}) (rate({histogram}_bucket[{RATE}])))",
            legend=f"p{share * 100:g}{legend}",
        )
        for share in (0.5, 0.95, 0.99)
    ]


def _summary() -> list[Panel]:
    failed = f'sum(rate(aim_operator_reconcile_total{{result="error"}}[{RATE}]))'
    passes = f"sum(rate(aim_operator_reconcile_total[{RATE}]))"
    return [
        stat(
            "Active replicas", "Replicas that reconcile. Exactly one should; the others stand by.",
            Target(expr="sum(aim_operator_active)"), unit="none", steps=_LEADER, filled=True, size=(3, 4),
        ),
        stat(
            "Version", "Version of the operator that runs.",
            Target(expr="max by (version) (aim_operator_build_info)", legend="{{version}}"), unit="none", steps=NEUTRAL, text="name", size=(3, 4),
        ),
        stat(
            "Queued", "Deployments that wait for a pass.",
            Target(expr="sum(aim_operator_queue_depth)"), unit="none", decimals=0, steps=((None, GREEN), (100, ORANGE), (1000, RED)), graph=True, size=(3, 4),
        ),
        stat(
            "Waiting for GPUs", "Deployments that would use GPUs if more were free: waiting, short of replicas, or on a fallback.",
            Target(expr="max(aim_operator_waiting_deployments)"), unit="none", decimals=0, steps=NONE_IS_GOOD, graph=True, size=(3, 4),
        ),
        stat(
            "Failed passes", "Share of passes that ended with an error.",
            Target(expr=f"{failed} / ({passes} > 0) or vector(0)"), unit=RATIO, decimals=1, steps=ERRORS, graph=True, size=(3, 4),
        ),
        stat(
            "Last success", "Time since the last pass that succeeded. Long without work; long with a queue is a fault.",
            Target(expr="time() - max(aim_operator_last_successful_reconcile_timestamp_seconds)"), unit=SECONDS, decimals=0, steps=_AGE, size=(3, 4),
        ),
        stat(
            "Refused objects", "Objects that the validator refused in this time range.",
            Target(expr='sum(increase(aim_webhook_reviews_total{result="refused"}[$__range])) or vector(0)'), unit="none", decimals=0, steps=NEUTRAL, size=(3, 4),
        ),
        stat(
            "Certificate expires in", "Time until the validator's certificate ends. It is renewed long before.",
            Target(expr="min(aim_webhook_certificate_expiry_timestamp_seconds > 0) - time()"), unit=SECONDS, decimals=0, steps=_EXPIRY, size=(3, 4),
        ),
    ]  # fmt: skip


def _passes() -> Panel:
    return timeseries(
        "Passes",
        "Passes over objects a second by result. A retry waits for something that comes by itself.",
        Target(expr=f"sum by (result) (rate(aim_operator_reconcile_total[{RATE}]))", legend="{{result}}"),
        unit="ops", stacked=True, overrides=[coloured("^success$", GREEN), coloured("^retry$", YELLOW), coloured("^error$", RED)], size=(8, 8),
    )  # fmt: skip


def _pass_time() -> Panel:
    return timeseries(
        "Time of a pass",
        "From the start of a pass to its last write.",
        *_quantiles("aim_operator_reconcile_duration_seconds"),
        unit=SECONDS,
        overrides=PERCENTILES,
        size=(8, 8),
    )


def _pass_errors() -> Panel:
    return timeseries(
        "Errors of passes and passes under way",
        "Errors a second by kind of object and reason, and how many passes run at once.",
        Target(expr=f"sum by (kind, reason) (rate(aim_operator_reconcile_errors_total[{RATE}]))", legend="{{kind}}: {{reason}}"),
        Target(expr="sum by (kind) (aim_operator_reconciles_in_progress)", legend="{{kind}} under way"),
        unit="short", overrides=[line("under way$", BLUE)], size=(8, 8),
    )  # fmt: skip


def _queue() -> Panel:
    return timeseries(
        "Queue",
        "Deployments that wait for a pass, deployments that wait for GPUs, and objects a minute that were found gone only by comparing with a fresh list.",
        Target(expr="sum(aim_operator_queue_depth)", legend="waiting for a pass"),
        Target(expr="max(aim_operator_waiting_deployments)", legend="waiting for GPUs"),
        Target(
            expr=f"sum(rate(aim_operator_cache_ghosts_total[{RATE}])) * 60", legend="ghosts found a minute"
        ),
        unit="short",
        calcs=("mean", "max", "lastNotNull"),
        size=(8, 8),
    )


def _selections() -> Panel:
    return timeseries(
        "Selections a minute by result",
        "Decisions that changed something.",
        Target(expr=f"{per_minute('aim_recipe_selection_total', 'result')} > 0", legend="{{result}}"),
        unit=PER_MINUTE, stacked=True, bars=True,
        overrides=SELECTION_RESULTS,
        calcs=("mean", "max"), size=(8, 8),
    )  # fmt: skip


def _selection_time() -> Panel:
    return timeseries(
        "Time of a selection",
        "All recipes of a model judged and ranked against the GPUs that are free.",
        *_quantiles("aim_recipe_selection_duration_seconds"),
        unit=SECONDS,
        overrides=PERCENTILES,
        size=(8, 8),
    )


def _requests() -> Panel:
    return timeseries(
        "Requests to the API server",
        "Requests a second by verb. At rest there are none but the renewals of the Lease.",
        Target(expr=f"sum by (verb) (rate(aim_operator_kube_requests_total[{RATE}]))", legend="{{verb}}"),
        unit=REQUESTS,
        stacked=True,
        size=(8, 8),
    )


def _request_errors() -> Panel:
    return timeseries(
        "Requests that failed",
        "Answers other than 2xx a second by code; 0 means no answer. 409 is regular where others write the same objects.",
        Target(expr=f'sum by (code) (rate(aim_operator_kube_requests_total{{code!~"2.."}}[{RATE}]))', legend="{{code}}"),
        unit=REQUESTS, stacked=True, size=(8, 8),
    )  # fmt: skip


def _request_time() -> Panel:
    return timeseries(
        "Time of a request (p95)",
        "95 of 100 requests to the API server are answered within this time, by verb.",
        Target(
            expr=f"histogram_quantile(0.95, sum by (le, verb) (rate(aim_operator_kube_request_duration_seconds_bucket[{RATE}])))",
            legend="{{verb}}",
        ),
        unit=SECONDS,
        size=(8, 8),
    )


def _scrape_errors() -> Panel:
    return timeseries(
        "Scrapes of engines that failed",
        "What kept the operator from reading an engine's metrics, a second: refused and timeout while an engine starts are regular.",
        Target(
            expr=f"sum by (reason) (rate(aim_performance_scrape_errors_total[{RATE}]))", legend="{{reason}}"
        ),
        unit="ops",
        stacked=True,
        size=(12, 7),
    )


def _hub() -> Panel:
    return timeseries(
        "Inquiries at the Hub a minute",
        "Inquiries for facts of models that the catalogue does not know.",
        Target(expr=per_minute("aim_hub_requests_total", "result"), legend="{{result}}"),
        unit=PER_MINUTE,
        stacked=True,
        bars=True,
        calcs=("mean", "max"),
        size=(12, 7),
    )


def _reviews() -> Panel:
    return timeseries(
        "Admission reviews",
        "Objects judged a second by kind and result.",
        Target(expr=f"sum by (kind, result) (rate(aim_webhook_reviews_total[{RATE}]))", legend="{{kind}} {{result}}"),
        unit=REQUESTS, stacked=True, overrides=[coloured("refused$", RED)], size=(6, 8),
    )  # fmt: skip


def _review_time() -> Panel:
    return timeseries(
        "Time of a review",
        "Time to judge an object. The API server waits for it.",
        *_quantiles("aim_webhook_review_duration_seconds"),
        unit=SECONDS,
        overrides=PERCENTILES,
        size=(6, 8),
    )


def _warnings() -> Panel:
    return timeseries(
        "Warnings a minute",
        "Warnings that users saw when they applied an object, by kind.",
        Target(expr=per_minute("aim_webhook_warnings_total", "kind"), legend="{{kind}}"),
        unit=PER_MINUTE,
        bars=True,
        stacked=True,
        calcs=("mean", "max"),
        size=(6, 8),
    )


def _certificate() -> Panel:
    return timeseries(
        "Validity of the certificate",
        "Time until the certificate served by each replica of the validator ends. Each step up is a renewal.",
        Target(expr="(aim_webhook_certificate_expiry_timestamp_seconds > 0) - time()", legend="{{instance}}"),
        unit=SECONDS,
        steps=((None, RED), (7 * 86400, GREEN)),
        calcs=("lastNotNull",),
        size=(6, 8),
    )


def _replicas() -> Panel:
    return table(
        "Replicas of the operator",
        "Each process with its version, and whether it is the one that reconciles.",
        {
            "info": "max by (instance, version, python_version, kopf_version) (aim_operator_build_info)",
            "active": "max by (instance) (aim_operator_active)",
        },
        [
            Column(field="instance", title="Instance"),
            Column(field="version", title="Version", width=90),
            Column(field="kopf_version", title="kopf", width=80),
            Column(field="python_version", title="Python", width=80),
            Column(field="active", title="Active", unit="none", width=70, cell="color-text", thresholds=((None, BLUE), (1, GREEN))),
        ],
        size=(8, 8),
    )  # fmt: skip


def _memory() -> Panel:
    return timeseries(
        "Memory",
        "Resident memory of each process of the operator and the validator.",
        Target(
            expr=f"process_resident_memory_bytes and on (job, instance) ({_OURS})",
            legend="{{job}} {{instance}}",
        ),
        unit="bytes",
        size=(8, 8),
    )


def _cpu() -> Panel:
    return timeseries(
        "CPU",
        "Cores used by each process. The operator has one thread: near 1 it is the limit.",
        Target(
            expr=f"rate(process_cpu_seconds_total[{RATE}]) and on (job, instance) ({_OURS})",
            legend="{{job}} {{instance}}",
        ),
        unit="short",
        steps=((None, GREEN), (0.9, ORANGE)),
        size=(8, 8),
    )
