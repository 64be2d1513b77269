"""AIMDeployment: "serve this model", and what the operator made of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from aim_engine.api.deployment_status import AIMDeploymentStatus
from aim_engine.api.enums import (
    AccessMode,
    Backend,
    Maturity,
    Objective,
    Precision,
    RolloutStrategy,
    ServiceType,
    UpdatePolicy,
    WhenNoCapacity,
)
from aim_engine.api.meta import (
    DNSLabel,
    DNSSubdomain,
    EnvMap,
    GPUCount,
    GPUModel,
    Image,
    Model,
    ModelID,
    Quantity,
)
from aim_engine.api.performance import Tokens
from aim_engine.api.recipe import EngineArgs
from aim_engine.api.rules import DEPLOYMENT_RULES, load_strictly


class SecretKey(Model):
    """A key of a Secret in the deployment's namespace. The operator never reads it; the pod does."""

    name: Annotated[DNSSubdomain, Field(min_length=1, description="Name of the Secret.")]
    key: Annotated[
        str,
        Field(
            min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key within the Secret."
        ),
    ]


class ModelRef(Model):
    """The model to serve."""

    id: Annotated[
        ModelID | None,
        Field(
            description="Hugging Face id, for example Qwen/Qwen3-32B; may be omitted when a named recipe implies it."
        ),
    ] = None
    revision: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z0-9._/-]+$",
            description="Revision to load: branch, tag or commit.",
        ),
    ] = None
    token_secret: Annotated[
        SecretKey | None,
        Field(description="Hugging Face token for gated models; given to the pod as HF_TOKEN."),
    ] = None


class Fallback(Model):
    """Whether another recipe may serve while the best one has no free GPUs."""

    enabled: Annotated[
        bool,
        Field(
            description="false waits for the best recipe instead of taking another precision or GPU count."
        ),
    ] = True


class RecipeWishes(Model):
    """Requirements on the recipe. Everything set here is hard: it filters. Fallback varies only what is left open."""

    auto_select: Annotated[
        bool,
        Field(
            description="true ranks all recipes of the model; false takes exact matches of the wishes, no fallback."
        ),
    ] = True
    name: Annotated[DNSLabel | None, Field(description="Name of the AIMRecipe to use, and no other.")] = None
    config_map: Annotated[
        DNSSubdomain | None,
        Field(description="Name of a ConfigMap of this namespace whose recipe is used, and no other."),
    ] = None
    decision_config_map: Annotated[
        DNSSubdomain | None,
        Field(
            description="Name of a ConfigMap of this namespace with a recorded decision (name and hash of a recipe); followed while that recipe is as it was recorded and can serve."
        ),
    ] = None
    gpu_model: Annotated[GPUModel | None, Field(description="GPU model, for example MI300X.")] = None
    gpu_count: Annotated[GPUCount | None, Field(description="GPUs per replica.")] = None
    precision: Annotated[Precision | None, Field(description="Numeric format of the weights.")] = None
    backend: Annotated[Backend | None, Field(description="Inference engine.")] = None
    objective: Annotated[Objective, Field(description="What to rank for.")] = Objective.THROUGHPUT
    minimum_maturity: Annotated[
        Maturity,
        Field(description="Least mature recipe to consider: optimized > general > preview > unoptimized."),
    ] = Maturity.UNOPTIMIZED
    fallback: Annotated[Fallback, Field(description="Use of recipes other than the best one.")] = Fallback()
    update_policy: Annotated[
        UpdatePolicy,
        Field(
            description="Pinned keeps a running model on its recipe and shows better ones in status.recommendation; Automatic follows them."
        ),
    ] = UpdatePolicy.PINNED
    when_no_capacity: Annotated[
        WhenNoCapacity,
        Field(
            description="Wait creates no pods until GPUs are free; CreatePending creates them for a cluster autoscaler to see."
        ),
    ] = WhenNoCapacity.WAIT


class ResourceOverrides(Model):
    """Host resources of one replica."""

    cpu: Annotated[Quantity | None, Field(description="CPU request and limit, in cores.")] = None
    memory: Annotated[Quantity | None, Field(description="Memory request and limit, in bytes.")] = None


class Overrides(Model):
    """Values that win over the recipe's."""

    engine_args: Annotated[
        EngineArgs,
        Field(description="Engine flags merged over the recipe's. Flags the operator owns are refused."),
    ] = {}
    env: Annotated[EnvMap, Field(description="Environment variables merged over the recipe's.")] = {}
    resources: Annotated[ResourceOverrides, Field(description="Host resources of one replica.")] = (
        ResourceOverrides()
    )
    image: Annotated[
        Image | None, Field(description="Container image; only from the registries the operator allows.")
    ] = None


class WorkloadWishes(Model):
    """The load to size for."""

    max_batch_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=65536,
            description="Sequences that one replica processes at the same time (max-num-seqs, data parallel ranks together).",
        ),
    ] = None
    max_input_tokens: Annotated[Tokens | None, Field(description="Longest prompt, in tokens.")] = None
    max_output_tokens: Annotated[Tokens | None, Field(description="Longest answer, in tokens.")] = None


class Targets(Model):
    """Performance that a recipe should reach; recipes known or predicted to reach it rank first."""

    min_tokens_per_second: Annotated[
        int | None,
        Field(ge=1, le=100_000_000, description="Generated tokens per second of one replica, at least."),
    ] = None
    max_time_to_first_token_milliseconds: Annotated[
        int | None, Field(ge=1, le=3_600_000, description="Time to first token in milliseconds, at most.")
    ] = None


class Cache(Model):
    """Volume for the downloaded weights; without it every new pod downloads again."""

    existing_claim: Annotated[
        DNSSubdomain | None, Field(description="Existing PersistentVolumeClaim to use.")
    ] = None
    storage_class_name: Annotated[
        DNSSubdomain | None,
        Field(description="StorageClass of the claim the operator makes; absent means the default class."),
    ] = None
    size_gi_b: Annotated[
        int | None,
        Field(
            alias="sizeGiB",
            ge=1,
            le=65536,
            description="Size of the claim in GiB; default is 1.2 times the checkpoint.",
        ),
    ] = None
    access_mode: Annotated[
        AccessMode, Field(description="ReadWriteMany lets replicas on several nodes share the cache.")
    ] = AccessMode.READ_WRITE_ONCE
    retain: Annotated[bool, Field(description="Keep the claim when the AIMDeployment is deleted.")] = True


class ServiceSpec(Model):
    """The Service in front of the engine."""

    port: Annotated[int, Field(ge=1, le=65535, description="Port of the Service.")] = 8000
    type: Annotated[ServiceType, Field(description="Type of the Service.")] = ServiceType.CLUSTER_IP
    annotations: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=4096)]],
        Field(max_length=50, description="Annotations of the Service."),
    ] = {}
    api_key_secret: Annotated[
        SecretKey | None,
        Field(
            description="Key that clients must present as a bearer token; given to the pod as VLLM_API_KEY."
        ),
    ] = None


class Rollout(Model):
    """How pods are replaced."""

    strategy: Annotated[
        RolloutStrategy,
        Field(description="Auto surges when a further replica fits now, else replaces in place."),
    ] = RolloutStrategy.AUTO


class Toleration(Model):
    """core/v1 Toleration."""

    key: Annotated[
        str | None, Field(max_length=317, description="Taint key; absent with Exists matches all.")
    ] = None
    operator: Annotated[
        str | None, Field(pattern="^(Exists|Equal)$", max_length=6, description="Exists or Equal.")
    ] = None
    value: Annotated[str | None, Field(max_length=63, description="Taint value for Equal.")] = None
    effect: Annotated[
        str | None,
        Field(
            pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$",
            max_length=16,
            description="Taint effect; absent matches all.",
        ),
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=0, description="Seconds a NoExecute taint is tolerated; absent means for ever.")
    ] = None


class Scheduling(Model):
    """Where the pods may run."""

    node_selector: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]],
        Field(max_length=20, description="Node labels that must match."),
    ] = {}
    tolerations: Annotated[
        list[Toleration],
        Field(
            max_length=20,
            description="Taints to tolerate, beside amd.com/gpu which is always tolerated.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = []
    priority_class_name: Annotated[DNSSubdomain | None, Field(description="PriorityClass of the pods.")] = (
        None
    )


class Monitoring(Model):
    """What the operator measures of the deployment."""

    enabled: Annotated[
        bool,
        Field(
            description="The operator reads the engines' metrics for status.performance, PerformanceOnTarget and "
            "aim_performance_* metrics; false leaves them alone."
        ),
    ] = True


class AIMDeploymentSpec(Model):
    """What to serve and under which wishes; only the model is needed."""

    model: Annotated[ModelRef, Field(description="The model to serve.")] = ModelRef()
    recipe: Annotated[RecipeWishes, Field(description="Requirements on the recipe.")] = RecipeWishes()
    overrides: Annotated[Overrides, Field(description="Values that win over the recipe's.")] = Overrides()
    workload: Annotated[WorkloadWishes, Field(description="The load to size for.")] = WorkloadWishes()
    targets: Annotated[Targets, Field(description="Performance to reach.")] = Targets()
    replicas: Annotated[
        int, Field(ge=0, le=1000, description="Model servers to run, each on its own GPUs.")
    ] = 1
    cache: Annotated[Cache | None, Field(description="Volume for the downloaded weights.")] = None
    service: Annotated[ServiceSpec, Field(description="The Service in front of the engine.")] = ServiceSpec()
    rollout: Annotated[Rollout, Field(description="How pods are replaced.")] = Rollout()
    scheduling: Annotated[Scheduling, Field(description="Where the pods may run.")] = Scheduling()
    monitoring: Annotated[Monitoring, Field(description="What is measured.")] = Monitoring()
    suspend: Annotated[
        bool, Field(description="true runs no pods and promises no GPUs, keeping everything else.")
    ] = False

    @property
    def on_one_node(self) -> bool:
        """Whether all replicas must share a node, because the claim we make can be attached to one node only."""
        cache = self.cache
        return (
            cache is not None
            and cache.existing_claim is None
            and cache.access_mode is AccessMode.READ_WRITE_ONCE
        )


class DeploymentMetadata(Model):
    """The part of ObjectMeta that the operator needs."""

    name: str
    namespace: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}


class AIMDeployment(Model):
    """AIMDeployment serves one model with the best recipe for the GPUs that are free."""

    api_version: str
    kind: str
    metadata: DeploymentMetadata
    spec: AIMDeploymentSpec = AIMDeploymentSpec()
    status: AIMDeploymentStatus = AIMDeploymentStatus()

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.metadata.namespace, self.metadata.name

    @classmethod
    def strict_load(cls, data: Any, before: Any = None) -> AIMDeployment:
        """Read an object of a file, with all that the API server would check; `before`: the object it replaces."""
        return load_strictly(cls, data, DEPLOYMENT_RULES, before)

    @classmethod
    def from_object(cls, obj: dict[str, Any]) -> AIMDeployment:
        """Read a stored object; raises pydantic.ValidationError that names the fields."""
        return cls.model_validate(obj)
