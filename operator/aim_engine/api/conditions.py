"""Conditions: their type on the wire, and the closed list of types and reasons with what each asks of the user."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from aim_engine.api.meta import Model


class Condition(Model):
    """metav1.Condition."""

    type: Annotated[
        str, Field(max_length=316, pattern=r"^[A-Za-z]+$", description="Kind of the condition, CamelCase.")
    ]
    status: Annotated[
        str, Field(pattern="^(True|False|Unknown)$", max_length=7, description="True, False or Unknown.")
    ]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^[A-Za-z]+$",
            description="One word for the cause, CamelCase.",
        ),
    ]
    message: Annotated[str, Field(max_length=32768, description="The cause for people, with the remedy.")]
    observed_generation: Annotated[
        int | None, Field(ge=0, description="Generation of the object the condition speaks of.")
    ] = None
    last_transition_time: Annotated[
        str,
        Field(
            max_length=40,
            description="When the status last changed, RFC 3339.",
            json_schema_extra={"format": "date-time"},
        ),
    ]


class ConditionType(StrEnum):
    """Condition types of both kinds."""

    READY = "Ready"
    RECIPE_SELECTED = "RecipeSelected"
    PREREQUISITES_MET = "PrerequisitesMet"
    AVAILABLE = "Available"
    PERFORMANCE_ON_TARGET = "PerformanceOnTarget"
    VALID = "Valid"
    HARDWARE_AVAILABLE = "HardwareAvailable"


class ConditionReason(StrEnum):
    """Closed list of condition reasons; `CONDITION_REASONS` says what each means."""

    SERVING = "Serving"
    RECONCILING = "Reconciling"
    SUSPENDED = "Suspended"
    SCALED_TO_ZERO = "ScaledToZero"
    RECIPE_SELECTED = "RecipeSelected"
    RECIPE_DRIFTED = "RecipeDrifted"
    FALLBACK_USED = "FallbackUsed"
    RECIPE_NOT_FOUND = "RecipeNotFound"
    RECIPE_INVALID = "RecipeInvalid"
    NO_ELIGIBLE_RECIPE = "NoEligibleRecipe"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    INVALID_SPEC = "InvalidSpec"
    PREREQUISITES_MET = "PrerequisitesMet"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    NAME_CONFLICT = "NameConflict"
    VOLUME_CLAIM_NOT_FOUND = "VolumeClaimNotFound"
    REJECTED_BY_CLUSTER = "RejectedByCluster"
    MINIMUM_REPLICAS_AVAILABLE = "MinimumReplicasAvailable"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    PODS_UNSCHEDULABLE = "PodsUnschedulable"
    POD_CREATION_REFUSED = "PodCreationRefused"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    OUT_OF_GPU_MEMORY = "OutOfGPUMemory"
    OUT_OF_HOST_MEMORY = "OutOfHostMemory"
    KV_CACHE_TOO_SMALL = "KVCacheTooSmall"
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    MODEL_NOT_FOUND = "ModelNotFound"
    UNKNOWN_ENGINE_FLAG = "UnknownEngineFlag"
    INVALID_ENGINE_ARGUMENT = "InvalidEngineArgument"
    REMOTE_CODE_REQUIRED = "RemoteCodeRequired"
    STORAGE_FULL = "StorageFull"
    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    ENGINE_CRASHED = "EngineCrashed"
    LOAD_TIMEOUT = "LoadTimeout"
    ON_TARGET = "OnTarget"
    BELOW_TARGET = "BelowTarget"
    PERFORMANCE_REGRESSED = "PerformanceRegressed"
    NO_DEMAND = "NoDemand"
    NOT_MEASURED = "NotMeasured"
    MEASURING_DISABLED = "MeasuringDisabled"
    NO_TARGET = "NoTarget"
    VALID = "Valid"
    INVALID = "Invalid"
    NODES_MATCH = "NodesMatch"
    NO_MATCHING_NODES = "NoMatchingNodes"


@dataclass(frozen=True, slots=True)
class ReasonDoc:
    """Documentation of one reason: on which condition and status it appears, what it means, what to do."""

    condition: ConditionType
    status: str
    meaning: str
    action: str


_R, _S, _P, _A, _T = (
    ConditionType.READY, ConditionType.RECIPE_SELECTED, ConditionType.PREREQUISITES_MET, ConditionType.AVAILABLE,
    ConditionType.PERFORMANCE_ON_TARGET,
)  # fmt: skip

CONDITION_REASONS: dict[ConditionReason, ReasonDoc] = {
    ConditionReason.SERVING: ReasonDoc(_R, "True", "The model answers requests.", "Nothing."),
    ConditionReason.RECONCILING: ReasonDoc(_R, "Unknown", "The operator has not judged this part yet, or nothing runs that it could judge.", "Read the message: some seconds pass while it works; where no recipe is in use or a prerequisite is missing, follow `RecipeSelected` or `PrerequisitesMet`."),
    ConditionReason.SUSPENDED: ReasonDoc(_R, "False", "`spec.suspend` is true; no pods run.", "Set `spec.suspend` to false."),
    ConditionReason.SCALED_TO_ZERO: ReasonDoc(_R, "False", "`spec.replicas` is 0; no pods run.", "Scale up with `kubectl scale aimd NAME --replicas=1`."),
    ConditionReason.RECIPE_SELECTED: ReasonDoc(_S, "True", "The best recipe for the wishes is in use.", "Nothing."),
    ConditionReason.RECIPE_DRIFTED: ReasonDoc(_S, "True", "The recipe was edited or removed after it was chosen; the running model keeps the version it has.", "Set `spec.recipe.updatePolicy: Automatic`, or change the spec, to follow it."),
    ConditionReason.FALLBACK_USED: ReasonDoc(_S, "True", "The best recipe has no free GPUs; another one was chosen.", "Free GPUs and see `status.recommendation`, or set `spec.recipe.fallback.enabled: false` to wait instead."),
    ConditionReason.RECIPE_NOT_FOUND: ReasonDoc(_S, "False", "No recipe exists for the model, or the named one does not exist.", "Add an AIMRecipe or a ConfigMap recipe, or correct the name."),
    ConditionReason.RECIPE_INVALID: ReasonDoc(_S, "False", "The ConfigMap that the deployment names exists, and its recipe cannot be read.", "Correct the lines named in the message."),
    ConditionReason.NO_ELIGIBLE_RECIPE: ReasonDoc(_S, "False", "Recipes exist, but none can serve under these wishes on this cluster's GPUs.", "Follow the remedy of a candidate in `status.selection.candidates`."),
    ConditionReason.INSUFFICIENT_CAPACITY: ReasonDoc(_S, "False", "A recipe would do, but its GPUs are not free.", "Free or add GPUs; the deployment starts by itself. `spec.recipe.whenNoCapacity: CreatePending` creates the pods for a cluster autoscaler."),
    ConditionReason.INVALID_SPEC: ReasonDoc(_S, "False", "A field of the spec cannot work.", "Correct the named field."),
    ConditionReason.PREREQUISITES_MET: ReasonDoc(_P, "True", "Everything the pods refer to is in order.", "Nothing."),
    ConditionReason.NAMESPACE_TERMINATING: ReasonDoc(_P, "False", "The namespace is being deleted.", "Create the deployment in another namespace."),
    ConditionReason.NAME_CONFLICT: ReasonDoc(_P, "False", "An object of the name we need exists and is not ours; it is left alone.", "Rename the AIMDeployment or remove the other object."),
    ConditionReason.VOLUME_CLAIM_NOT_FOUND: ReasonDoc(_P, "False", "`spec.cache.existingClaim` names a claim that does not exist.", "Create the claim or correct the name."),
    ConditionReason.REJECTED_BY_CLUSTER: ReasonDoc(_P, "False", "The API server refused an object we render (quota, policy, admission).", "Read the message; ask the cluster's administrator."),
    ConditionReason.MINIMUM_REPLICAS_AVAILABLE: ReasonDoc(_A, "True", "All asked replicas are ready.", "Nothing."),
    ConditionReason.STARTING: ReasonDoc(_A, "False", "The engine is pulling its image or loading the model.", "Wait; the message names the budget."),
    ConditionReason.ROLLING_OUT: ReasonDoc(_A, "True", "Replicas answer while others are being replaced or added.", "Wait."),
    ConditionReason.PODS_UNSCHEDULABLE: ReasonDoc(_A, "False", "The scheduler finds no node for a pod.", "Read the message; free GPUs or correct `spec.scheduling`."),
    ConditionReason.POD_CREATION_REFUSED: ReasonDoc(_A, "False", "The cluster refuses to create the pods (quota, Pod Security, admission).", "Read the message; ask the cluster's administrator."),
    ConditionReason.IMAGE_PULL_FAILED: ReasonDoc(_A, "False", "The engine's image cannot be pulled.", "Check the image name, the registry and the pull secret."),
    ConditionReason.SECRET_NOT_FOUND: ReasonDoc(_A, "False", "A Secret or a key that the pod needs does not exist.", "Create the Secret named in the message."),
    ConditionReason.OUT_OF_GPU_MEMORY: ReasonDoc(_A, "False", "The engine ran out of GPU memory.", "Lower the context or batch size, or use more GPUs."),
    ConditionReason.OUT_OF_HOST_MEMORY: ReasonDoc(_A, "False", "The pod exceeded its memory limit.", "Raise `spec.overrides.resources.memory`."),
    ConditionReason.KV_CACHE_TOO_SMALL: ReasonDoc(_A, "False", "The GPU memory left after the weights cannot hold one sequence of the asked length.", "Lower max-model-len to the length in the message, use FP8 KV cache, or more GPUs."),
    ConditionReason.MODEL_ACCESS_DENIED: ReasonDoc(_A, "False", "The Hub refused the download (gated or private model).", "Set `spec.model.tokenSecret` to a Secret whose token may read the model."),
    ConditionReason.MODEL_NOT_FOUND: ReasonDoc(_A, "False", "The Hub has no such model or revision.", "Correct `spec.model.id` or the revision."),
    ConditionReason.UNKNOWN_ENGINE_FLAG: ReasonDoc(_A, "False", "The engine does not know a flag.", "Remove the flag from the recipe or from `spec.overrides.engineArgs`."),
    ConditionReason.INVALID_ENGINE_ARGUMENT: ReasonDoc(_A, "False", "The engine refuses the value of a flag.", "Correct the value named in the message."),
    ConditionReason.REMOTE_CODE_REQUIRED: ReasonDoc(_A, "False", "The model ships code of its own that nobody allowed to run.", "Use a cluster recipe that allows it, or ask an administrator."),
    ConditionReason.STORAGE_FULL: ReasonDoc(_A, "False", "The volume for the weights is full.", "Enlarge `spec.cache.sizeGiB`, or clear the volume."),
    ConditionReason.MODEL_DOWNLOAD_FAILED: ReasonDoc(_A, "False", "The weights could not be downloaded.", "Check the network, the proxy and the Hub endpoint; the pod tries again by itself."),
    ConditionReason.ENGINE_CRASHED: ReasonDoc(_A, "False", "The engine ended for a cause we do not recognise.", "Read the pod's log."),
    ConditionReason.LOAD_TIMEOUT: ReasonDoc(_A, "False", "The model did not become ready within its startup budget.", "Use a faster cache (`spec.cache`), or check the download."),
    ConditionReason.ON_TARGET: ReasonDoc(_T, "True", "What was measured under load reaches the targets, or 80 % of the recipe's published number where there are none.", "Nothing."),
    ConditionReason.BELOW_TARGET: ReasonDoc(_T, "False", "Requests wait, and the throughput is below the target or below 80 % of the recipe's published number; or the time to first token is above its target.", "Read the numbers in the message and in `status.performance`; add replicas, take the recommended recipe, or correct `spec.targets`."),
    ConditionReason.PERFORMANCE_REGRESSED: ReasonDoc(_T, "False", "At a like load the same recipe delivers less than 85 % of what it did here at first.", "Compare engine and driver versions in the message; go back to the former one. To accept the new speed, have a new baseline taken: `kubectl patch aimd NAME --subresource=status --type=merge -p '{\"status\":{\"performance\":{\"baseline\":null}}}'`."),
    ConditionReason.NO_DEMAND: ReasonDoc(_T, "Unknown", "Too few requests to judge: a low number without demand is no fault.", "Nothing; `aim-engine bench` makes a load."),
    ConditionReason.NOT_MEASURED: ReasonDoc(_T, "Unknown", "The engines have not been measured yet, cannot be reached, or none runs.", "Where none runs, follow `Ready`; else wait some minutes; see `aim_performance_scrape_errors_total` for the reason when it stays."),
    ConditionReason.MEASURING_DISABLED: ReasonDoc(_T, "Unknown", "`spec.monitoring.enabled` is false, or the operator does not measure at all.", "Set `spec.monitoring.enabled` to true; whether the operator measures is `measuring.enabled` of its configuration."),
    ConditionReason.NO_TARGET: ReasonDoc(_T, "Unknown", "There is neither a target nor a published number to compare with.", "Set `spec.targets`."),
    ConditionReason.VALID: ReasonDoc(ConditionType.VALID, "True", "The recipe can be chosen.", "Nothing."),
    ConditionReason.INVALID: ReasonDoc(ConditionType.VALID, "False", "The recipe contradicts its engine, GPU or model.", "Correct the named field."),
    ConditionReason.NODES_MATCH: ReasonDoc(ConditionType.HARDWARE_AVAILABLE, "True", "Usable nodes have the recipe's GPUs.", "Nothing."),
    ConditionReason.NO_MATCHING_NODES: ReasonDoc(ConditionType.HARDWARE_AVAILABLE, "False", "No usable node has the recipe's GPUs.", "Add such nodes, or check the node labels and the partition mode."),
}  # fmt: skip
