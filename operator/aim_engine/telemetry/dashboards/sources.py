"""Every series a dashboard may name: ours, the engines', AMD's exporter's. A name beyond them fails the generation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from aim_engine.catalog.exposition import exposed_series
from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.metrics import Metrics

_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}


@cache
def known_series() -> frozenset[str]:
    """Names of all series, as queries select them."""
    registries = (Metrics().registry, AdmissionMetrics(lambda: None).registry)
    ours = (name for registry in registries for name in _series(registry))
    return frozenset((*ours, *exposed_series(), *CONTRACT))


def _series(registry: CollectorRegistry) -> Iterator[str]:
    families: Iterator[Metric] = iter(registry.collect())
    for family in families:
        yield from (f"{family.name}{suffix}" for suffix in _SUFFIXES.get(family.type, ("",)))


CONTRACT = frozenset(
    """
    aim_deployment_info aim_deployment_status_condition aim_deployment_spec_replicas aim_deployment_status_replicas_ready
    aim_deployment_gpus_requested aim_deployment_metadata_generation aim_deployment_status_observed_generation
    aim_deployment_created_timestamp_seconds aim_deployment_ready_timestamp_seconds aim_deployment_time_to_ready_seconds_bucket
    aim_deployment_time_to_ready_seconds_sum aim_deployment_time_to_ready_seconds_count aim_deployment_recipe_outdated
    aim_deployment_expected_tokens_per_second aim_deployment_ttft_objective_info aim_deployment_recommendation_info
    aim_deployment_recommendation_gain_ratio aim_deployment_target_tokens_per_second aim_deployment_target_time_to_first_token_seconds
    aim_deployment_max_model_len aim_recipe_info aim_recipe_status_condition aim_recipe_expected_tokens_per_second
    aim_recipe_expected_time_to_first_token_seconds aim_recipe_observed_tokens_per_second
    aim_performance_tokens_per_second aim_performance_prompt_tokens_per_second aim_performance_requests_per_second
    aim_performance_requests_running aim_performance_requests_waiting aim_performance_kv_cache_usage_ratio
    aim_performance_time_to_first_token_seconds aim_performance_inter_token_latency_seconds aim_performance_preemptions_per_second
    aim_performance_error_ratio aim_performance_prefix_cache_hit_ratio aim_performance_last_sample_timestamp_seconds
    aim_performance_baseline_tokens_per_second aim_performance_baseline_ratio aim_performance_scrape_errors_total
    aim_gpu_allocatable aim_gpu_used aim_gpu_free
    aim_operator_reconcile_errors_total aim_operator_reconciles_in_progress aim_operator_last_successful_reconcile_timestamp_seconds
    """.split()  # noqa: SIM905
)
"""Of ours, what per-object collectors and other rooms publish."""
