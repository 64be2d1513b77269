"""Configuration of the operator: one YAML file, every field with a default that works."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from aim_engine.api.configmap_yaml import RefusedError
from aim_engine.api.configmap_yaml import load as load_yaml
from aim_engine.api.meta import Model
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import image_repositories
from aim_engine.render.config import EngineConfig


class Settings(Model):
    """A part of the file; the string below a field describes it."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class LeaseConfig(Settings):
    """Leader election among the replicas."""

    name: str = "aim-engine-operator"
    """Name of the Lease."""
    duration_seconds: Annotated[int, Field(ge=3, le=3600)] = 15
    """So long after the leader's last renewal another replica takes over."""
    renew_seconds: Annotated[int, Field(ge=1, le=1200)] = 5
    """Time between two renewals; at most two thirds of the duration."""

    @model_validator(mode="after")
    def _is_renewed_in_time(self) -> LeaseConfig:
        if 3 * self.renew_seconds > 2 * self.duration_seconds:
            raise ValueError(
                f"lease.renewSeconds {self.renew_seconds} is more than two thirds of lease.durationSeconds "
                f"{self.duration_seconds}, so that two replicas would lead at once; set it <= {2 * self.duration_seconds // 3}"
            )
        return self


class HubConfig(Settings):
    """Where facts of models come from that the catalogue does not know: two small files of the model's repository."""

    enabled: bool = True
    """false: never asked, as an air-gapped cluster wants. HF_HUB_OFFLINE=1 in the environment does the same."""
    endpoint: Annotated[str | None, Field(max_length=500, pattern=r"^https?://[^\s/]+(/[^\s]*)?$")] = None
    """The Hub or a mirror; default: HF_ENDPOINT of the environment, else https://huggingface.co."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """For all of one inquiry."""
    max_concurrent: Annotated[int, Field(ge=1, le=16)] = 2
    """Inquiries at a time."""
    cache_directory: str | None = None
    """Keeps what was learned over restarts; default: in memory only."""


class MetricsConfig(Settings):
    """How `listen` (/metrics, /healthz, /readyz) is protected."""

    tls_directory: Annotated[str | None, Field(max_length=500)] = None
    """Holds tls.crt and tls.key, which are read again when they change: the port speaks HTTPS. Default: plain HTTP."""
    authenticate: bool = False
    """/metrics asks for a bearer token whose owner may `get` the non-resource URL /metrics."""


class MeasuringConfig(Settings):
    """Reading the engines' metrics, for status.performance, PerformanceOnTarget and `aim_performance_*`."""

    enabled: bool = True
    """false: no engine is read, whatever `spec.monitoring` of a deployment says."""
    interval_seconds: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """Between two looks at one engine; 60 at least beyond 500 engines."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """For all of one look."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 32
    """Looks at the same time."""
    window_seconds: Annotated[float, Field(ge=1, le=3600)] = 300.0
    """Numbers speak of so long a time."""
    least_window_seconds: Annotated[float, Field(gt=0, le=300)] = 60.0
    """Nothing is said of an engine before it was seen for so long."""
    publish_seconds: Annotated[float, Field(ge=0, le=86400)] = 180.0
    """Least time between two writes of changed numbers of one deployment."""
    condition_seconds: Annotated[float, Field(ge=0, le=86400)] = 60.0
    """Least time between two writes where PerformanceOnTarget changes."""
    writes_per_second: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Of all deployments together."""


class CertificateSource(StrEnum):
    """Who makes the validator's certificate."""

    SELF_SIGNED = "selfSigned"
    """The validator, which keeps it in `secret_name` and rotates it."""
    CERT_MANAGER = "certManager"
    """cert-manager, mounted at `directory`."""
    SECRET = "secret"  # noqa: S105  no password
    """An administrator, mounted at `directory` as tls.crt, tls.key and ca.crt."""


class FailurePolicy(StrEnum):
    """What the API server does while no validator answers."""

    FAIL = "Fail"
    IGNORE = "Ignore"


class AdmissionConfig(Settings):
    """The validator: `aim-engine webhook`."""

    listen: str = "0.0.0.0:9443"
    """Where reviews are answered, with TLS."""
    health_listen: str = "0.0.0.0:8081"
    """Where /healthz, /readyz and /metrics answer, without TLS."""
    configuration_name: str = "aim-engine-recipe-validator"
    """The ValidatingWebhookConfiguration that the validator fills in once it answers."""
    service_name: str = "aim-engine-recipe-validator"
    """The Service under which the API server reaches the validator."""
    service_port: Annotated[int, Field(ge=1, le=65535)] = 443
    """Port of that Service."""
    failure_policy: FailurePolicy = FailurePolicy.FAIL
    """Fail refuses objects while no validator answers, Ignore lets them through."""
    timeout_seconds: Annotated[int, Field(ge=1, le=30)] = 5
    """So long the API server waits for an answer."""
    check_resource_limits: bool = True
    """Memory, GPUs and host resources."""
    check_recipe_compatibility: bool = True
    """GPU model, precision and recipes."""
    check_performance_constraints: bool = True
    """Targets against what the hardware can reach."""
    exempt_users: list[str] = []
    """Users whose requests are not looked at: our own ServiceAccounts."""
    certificates: CertificateSource = CertificateSource.SELF_SIGNED
    """selfSigned: the validator makes and rotates its certificate; certManager: cert-manager does; secret: an administrator."""
    secret_name: str = "aim-engine-recipe-validator-tls"  # noqa: S105  the name of a Secret
    """Secret in which a self-signed certificate is kept."""
    directory: str = "/etc/aim-engine-tls"
    """Where the other two are mounted."""
    certificate_days: Annotated[int, Field(ge=1, le=3650)] = 365
    """Life of a self-signed certificate; it is renewed when two thirds of it are over."""
    rotation_overlap_seconds: Annotated[int, Field(ge=0, le=86400)] = 120
    """So long the next CA is trusted before its certificate is served."""
    poll_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    """How often certificate and webhook configuration are looked at."""
    reach_seconds: Annotated[int, Field(ge=0, le=600)] = 30
    """So long the validator waits until it reaches itself through its Service, before the API server is sent there; 0: not at all."""
    drain_seconds: Annotated[int, Field(ge=0, le=60)] = 5
    """So long requests are still answered after SIGTERM."""


class OperatorConfig(Settings):
    """Everything an administrator may set."""

    namespace: str = "aim-engine"
    """Namespace of the operator itself, for its Lease."""
    workers: Annotated[int, Field(ge=1, le=64)] = 16
    """AIMDeployments that are worked on at a time."""
    listen: str = "0.0.0.0:8080"
    """Where /healthz, /readyz and /metrics answer."""
    allowed_images: Annotated[list[str], Field(default_factory=image_repositories)]
    """Repositories that `spec.overrides.image` and ConfigMap recipes may use; a trailing slash allows all below it."""
    lease: LeaseConfig = LeaseConfig()
    leader_election: bool = True
    """false: this process works without asking, for development."""
    resync_seconds: Annotated[int, Field(ge=30, le=86400)] = 600
    """How often the caches of watched kinds are compared with a fresh list."""
    recipe_status_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Least time between two status writes of one recipe."""
    move_cooldown_seconds: Annotated[int, Field(ge=0, le=604800)] = 3600
    """Least time between two moves of one deployment by `updatePolicy: Automatic`."""
    patience_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """So long smaller deployments may overtake one that waits for more GPUs; then a node is kept for it."""
    watch_namespaces: Annotated[list[str], Field(max_length=100)] = []
    """Namespaces whose deployments are served; empty: all. In these alone the operator needs rights."""
    metrics: MetricsConfig = MetricsConfig()
    hub: HubConfig = HubConfig()
    measuring: MeasuringConfig = MeasuringConfig()
    admission: AdmissionConfig = AdmissionConfig()
    engine: EngineConfig = EngineConfig()

    @property
    def served(self) -> Sequence[str | None]:
        """The namespaces to look into, one by one; None stands for all at once."""
        return self.watch_namespaces or [None]

    @model_validator(mode="after")
    def _models_are_known(self) -> OperatorConfig:
        unknown = sorted(set(self.engine.gpu_labels.values()) - set(gpu_catalog()))
        if unknown:
            raise ValueError(
                f"engine.gpuLabels: {', '.join(unknown)} is not in the GPU catalogue; use one of {', '.join(gpu_catalog())}"
            )
        return self


def load(path: Path | None) -> OperatorConfig:
    """Read the file; raises OSError, or ValueError that names line or field, value and remedy."""
    return OperatorConfig() if path is None else parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> OperatorConfig:
    """The configuration in a text, within the limits that hold for YAML of tenants; raises ValueError."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    if not any(line not in ("", "---", "...") for line in lines):
        return OperatorConfig()
    try:
        return OperatorConfig.strict_load(load_yaml(text).data)
    except RefusedError as error:
        raise ValueError(str(error)) from None
