"""The engine's pod template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.deployment import AIMDeploymentSpec, SecretKey, Toleration
from aim_engine.api.quantity import whole
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines import Engine, Server, engine, version_of
from aim_engine.inventory.nodes import GPU_TAINT
from aim_engine.render.affinity import node_affinity
from aim_engine.render.config import EngineConfig
from aim_engine.render.inputs import Manifest, RenderInput
from aim_engine.render.names import ANNOTATION_MODEL, claim_name, labels, selector_labels

CONTAINER = "engine"
PORT_NAME = "http"
CACHE_PATH = "/cache"
SCRATCH_PATH = "/scratch"
HOSTNAME_LABEL = "kubernetes.io/hostname"
ENDPOINT_REMOVAL_SECONDS = 15
"""Time for every proxy to learn that a deleted pod takes no new requests."""
SHUTDOWN_MARGIN_SECONDS = 15
_MILLISECONDS_PER_TOKEN = 50
_SHORTEST_DRAIN_SECONDS = 60
_LONGEST_DRAIN_SECONDS = 900
_UNKNOWN_DRAIN_SECONDS = 120
_PROBE_PERIOD_SECONDS = 10
_MIB = 2**20


def pod_template(inp: RenderInput) -> Manifest:
    """Labels, annotations and spec of the engine's pods."""
    backend = engine(inp.recipe.spec.backend)
    config, scheduling = inp.config, inp.spec.scheduling
    spec: Manifest = {
        "affinity": _affinity(inp),
        "automountServiceAccountToken": False,
        "containers": [_container(inp, backend)],
        "enableServiceLinks": False,
        "securityContext": _pod_security(config),
        "terminationGracePeriodSeconds": grace_seconds(inp.spec),
        "tolerations": _tolerations(config, scheduling.tolerations),
        "topologySpreadConstraints": [
            {
                "labelSelector": {"matchLabels": selector_labels(inp.name)},
                "maxSkew": 1,
                "topologyKey": HOSTNAME_LABEL,
                "whenUnsatisfiable": "ScheduleAnyway",
            }
        ],
        "volumes": _volumes(inp),
    }
    if scheduling.node_selector:
        spec["nodeSelector"] = dict(sorted(scheduling.node_selector.items()))
    if scheduling.priority_class_name:
        spec["priorityClassName"] = scheduling.priority_class_name
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    metadata = {
        "annotations": {ANNOTATION_MODEL: served_names(inp.spec, inp.recipe.spec)[0]},
        "labels": labels(inp),
    }
    return {"metadata": metadata, "spec": spec}


def startup_seconds(inp: RenderInput) -> int:
    """Time the engine gets to load the model."""
    return engine(inp.recipe.spec.backend).startup_budget_seconds(inp.checkpoint_bytes)


def drain_seconds(spec: AIMDeploymentSpec) -> int:
    """Time of the longest request: the longest answer at a slow pace."""
    tokens = spec.workload.max_output_tokens
    if tokens is None:
        return _UNKNOWN_DRAIN_SECONDS
    return min(_LONGEST_DRAIN_SECONDS, max(_SHORTEST_DRAIN_SECONDS, tokens * _MILLISECONDS_PER_TOKEN // 1000))


def grace_seconds(spec: AIMDeploymentSpec) -> int:
    """Time from a pod's deletion to its end by force."""
    return ENDPOINT_REMOVAL_SECONDS + drain_seconds(spec) + SHUTDOWN_MARGIN_SECONDS


def served_names(spec: AIMDeploymentSpec, recipe: AIMRecipeSpec) -> tuple[str, ...]:
    """Model names the engine answers to: the one the user asked for first."""
    return tuple(dict.fromkeys(name for name in (spec.model.id, recipe.model_id) if name))


def pod_resources(spec: AIMDeploymentSpec, recipe: AIMRecipeSpec) -> tuple[str, str]:
    """(cpu, memory) of one replica: the user's override, else the recipe's. The memory includes /dev/shm."""
    override = spec.overrides.resources
    return override.cpu or recipe.resources.cpu, override.memory or recipe.resources.memory


def _container(inp: RenderInput, backend: Engine) -> Manifest:
    recipe = inp.recipe.spec
    command, args = backend.command(
        recipe.source or recipe.model_id,
        inp.recipe.args,
        recipe.hardware.gpu_count,
        served_names(inp.spec, recipe),
        backend.PORT,
        version_of(recipe),
        revision=inp.spec.model.revision or recipe.revision,
        shutdown_timeout_seconds=drain_seconds(inp.spec),
    )
    cpu, memory = pod_resources(inp.spec, recipe)
    amounts = {inp.resource: str(recipe.hardware.gpu_count), "cpu": cpu, "memory": memory}
    return {
        **(
            {"args": [*map(_literal, args), *_api_key_args(inp, backend)], "command": command}
            if command
            else {}
        ),
        "env": _env(inp, backend),
        "image": _image(inp, backend),
        "imagePullPolicy": "IfNotPresent",
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_REMOVAL_SECONDS}}},
        "livenessProbe": _probe(backend, failures=6),
        "name": CONTAINER,
        "ports": [{"containerPort": backend.PORT, "name": PORT_NAME, "protocol": "TCP"}],
        "readinessProbe": _probe(backend, failures=3),
        "resources": {"limits": dict(amounts), "requests": dict(amounts)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            **({"readOnlyRootFilesystem": True} if inp.config.read_only_root_filesystem else {}),
        },
        "startupProbe": _probe(backend, failures=-(-startup_seconds(inp) // _PROBE_PERIOD_SECONDS)),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": CACHE_PATH, "name": "cache"},
            {"mountPath": "/dev/shm", "name": "shm"},  # noqa: S108  the engine's processes exchange tensors there
            {"mountPath": SCRATCH_PATH, "name": "scratch"},
            *([{"mountPath": "/tmp", "name": "tmp"}] if inp.config.read_only_root_filesystem else []),  # noqa: S108
        ],
    }


def _env(inp: RenderInput, backend: Engine) -> list[Manifest]:
    """Sorted by name. What the operator owns wins over the user, the user over the recipe, that over defaults."""
    values = dict(backend.base_env())
    if inp.config.hugging_face_endpoint:
        values["HF_ENDPOINT"] = inp.config.hugging_face_endpoint
    values.update(inp.recipe.env)
    server = Server(inp.recipe.spec, inp.recipe.args, CACHE_PATH, startup_seconds(inp))
    values.update(HF_HOME=f"{CACHE_PATH}/huggingface", HOME=SCRATCH_PATH, **backend.pod_env(server))
    entries: dict[str, Manifest] = {
        name: {"name": name, "value": _literal(value)} for name, value in values.items()
    }
    for name, secret in (
        ("HF_TOKEN", inp.spec.model.token_secret),
        (backend.API_KEY.variable, inp.spec.service.api_key_secret),
    ):
        if secret is not None:
            entries[name] = {"name": name, "valueFrom": {"secretKeyRef": _secret(secret)}}
    return [entries[name] for name in sorted(entries)]


def _api_key_args(inp: RenderInput, backend: Engine) -> tuple[str, ...]:
    """Arguments with `$(NAME)`, which the kubelet replaces by the Secret's value."""
    return backend.API_KEY.args if inp.spec.service.api_key_secret is not None else ()


def _secret(secret: SecretKey) -> Manifest:
    return {"key": secret.key, "name": secret.name, "optional": False}


def _literal(text: str) -> str:
    """Keep the kubelet from expanding `$(NAME)` in text that means itself."""
    return text.replace("$", "$$")


def _image(inp: RenderInput, backend: Engine) -> str:
    """The user's image as it is; the recipe's or the engine's from the mirror where one is configured."""
    if inp.spec.overrides.image:
        return inp.spec.overrides.image
    recipe = inp.recipe.spec
    image = recipe.image or backend.default_image(
        version_of(recipe), inp.gpu, recipe.source or recipe.model_id
    )
    if not inp.config.image_registry:
        return image
    host, slash, path = image.partition("/")
    has_host = slash and ("." in host or ":" in host or host == "localhost")
    return f"{inp.config.image_registry}/{path if has_host else image}"


def _probe(backend: Engine, *, failures: int) -> Manifest:
    return {
        "failureThreshold": failures,
        "httpGet": {"path": backend.HEALTH_PATH, "port": PORT_NAME},
        "periodSeconds": _PROBE_PERIOD_SECONDS,
        "timeoutSeconds": 5,
    }


def _pod_security(config: EngineConfig) -> Manifest:
    context: Manifest = {"seccompProfile": {"type": config.seccomp_profile}}
    if config.supplemental_groups:
        context["supplementalGroups"] = list(config.supplemental_groups)
    if config.run_as_user is not None:
        context |= {
            "fsGroup": config.run_as_user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsNonRoot": True,
            "runAsUser": config.run_as_user,
        }
    return context


def _tolerations(config: EngineConfig, asked: list[Toleration]) -> list[Manifest]:
    always = Toleration(key=GPU_TAINT, operator="Exists")
    return [toleration.wire() for toleration in dict.fromkeys((always, *config.tolerations, *asked))]


def _affinity(inp: RenderInput) -> Manifest:
    affinity: Manifest = {
        "nodeAffinity": node_affinity(inp.gpu, inp.partition, inp.resource, inp.config.gpu_labels)
    }
    if inp.spec.on_one_node:
        affinity["podAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": selector_labels(inp.name)}, "topologyKey": HOSTNAME_LABEL}
            ]
        }
    return affinity


def _volumes(inp: RenderInput) -> list[Manifest]:
    cache: Mapping[str, Any] = {"emptyDir": {}}
    if inp.spec.cache is not None:
        cache = {
            "persistentVolumeClaim": {"claimName": inp.spec.cache.existing_claim or claim_name(inp.name)}
        }
    return [
        {"name": "cache", **cache},
        {"emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(inp)}, "name": "shm"},
        {"emptyDir": {}, "name": "scratch"},
        *([{"emptyDir": {}, "name": "tmp"}] if inp.config.read_only_root_filesystem else []),
    ]


def _shared_memory(inp: RenderInput) -> str:
    """The configured size as written, or half of the pod's memory where that is less."""
    _, memory = pod_resources(inp.spec, inp.recipe.spec)
    half = whole(memory) // 2
    configured = inp.config.shared_memory
    return configured if whole(configured) <= half else f"{max(1, half // _MIB)}Mi"
