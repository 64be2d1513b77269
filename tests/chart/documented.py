"""The commands of the chart's interface as users have them, by what they are for; each stands in docs/guides/helm.md."""

from __future__ import annotations

NAMESPACE = "aim-engine"
MONITORING = (
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
"""API versions of a cluster with the Prometheus Operator, as `helm template --api-versions` takes them."""

COMMANDS = {
    "auto-select": "helm install aim-engine ./helm --set aim_engine.auto_select=true --set aim_engine.model_id=Qwen/Qwen3-32B",
    "exact": "helm install aim-engine ./helm --set aim_engine.auto_select=false --set aim_engine.gpu_count=4 --set aim_engine.precision=bf16 --set aim_engine.backend=vllm",
    "overrides": "helm install aim-engine ./helm --set aim_engine.auto_select=true --set aim_engine.overrides.gpu_count=8 --set aim_engine.overrides.precision=fp16 --set aim_engine.overrides.vllm_args.max_model_len=16384",
    "monitoring-and-admission": "helm install aim-engine ./helm --set aim_engine.auto_select=true --set monitoring.enabled=true --set admission_controller.enabled=true --set aim_engine.model_id=Qwen/Qwen3-32B",
    "custom-recipe": "helm install aim-engine ./helm --set aim_engine.auto_select=false --set aim_engine.custom_recipe=custom-recipe",
    "qwen": "helm install aim-engine-qwen ./helm --set aim_engine.model_id=Qwen/Qwen3-32B --set aim_engine.gpu_count=4",
    "llama": "helm install aim-engine-llama ./helm --set aim_engine.model_id=meta-llama/Llama-2-70b-chat-hf --set aim_engine.gpu_count=8 --set aim_engine.precision=fp16",
    "tuning": "helm install aim-engine ./helm --set monitoring.enabled=true --set aim_engine.performance_tuning=true --set aim_engine.vllm_args.max_batch_size=64",
    "debug": "helm upgrade aim-engine ./helm --set aim_engine.debug=true --set aim_engine.log_level=DEBUG",
    "restore": "helm upgrade aim-engine ./helm --set aim_engine.restore_from_backup=true",
}
"""Case -> command, run in `deploy/` with aim-engine as the context's namespace."""
