"""Settings of the engine pods that belong to the operator's administrator, not to the author of an AIMDeployment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aim_engine.api.deployment import Toleration
from aim_engine.api.meta import DNSSubdomain, GPUModel, Model, Quantity


class EngineConfig(Model):
    """What every engine pod of this cluster gets.

    The defaults pass the Pod Security Standard `baseline`: no host namespaces, paths or ports, seccomp RuntimeDefault,
    all capabilities dropped. They do not pass `restricted`, which wants runAsNonRoot, because the upstream image runs
    as root. With an image that works as another user, set `run_as_user` (and `supplemental_groups` to the hosts' video
    and render groups, which own the GPU device files): then the pods pass `restricted` too. seccomp `Unconfined`, which
    AMD recommends where RuntimeDefault hampers GPU peer access, fails both.
    """

    seccomp_profile: Annotated[
        Literal["RuntimeDefault", "Unconfined"], Field(description="seccomp profile of the engine.")
    ] = "RuntimeDefault"
    run_as_user: Annotated[
        int | None,
        Field(ge=1, le=2**31 - 1, description="Numeric user of the engine; absent means the image's."),
    ] = None
    read_only_root_filesystem: Annotated[
        bool,
        Field(
            description="Mount the engine's root filesystem read-only, with a volume at /tmp. For images proven to write nowhere "
            "else: engines compile kernels at run time, and some do so beside their own code."
        ),
    ] = False
    supplemental_groups: Annotated[
        tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...],
        Field(
            description="Groups that may open the GPU device files: 44 is video on Debian and Ubuntu; render differs by host."
        ),
    ] = (44,)
    image_pull_secrets: Annotated[
        tuple[DNSSubdomain, ...],
        Field(description="Secrets for pulling images, in the deployment's namespace."),
    ] = ()
    image_registry: Annotated[
        str | None,
        Field(
            max_length=253,
            pattern=r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)*$",
            description="Mirror that replaces the registry of default and recipe images, for example registry.example.com/mirror.",
        ),
    ] = None
    tolerations: Annotated[
        tuple[Toleration, ...], Field(description="Taints that all engine pods tolerate, beside amd.com/gpu.")
    ] = ()
    shared_memory: Annotated[
        Quantity,
        Field(
            description="Upper bound of /dev/shm; it counts against the pod's memory and never exceeds half of it."
        ),
    ] = "16Gi"
    hugging_face_endpoint: Annotated[
        str | None,
        Field(max_length=500, description="Hub to download from instead of huggingface.co (HF_ENDPOINT)."),
    ] = None
    default_cache_gib: Annotated[
        int,
        Field(
            ge=1,
            le=65536,
            description="Size of a cache claim when neither the user nor the model facts tell one.",
        ),
    ] = 500
    gpu_labels: Annotated[
        dict[str, GPUModel],
        Field(description="Node labels `label=value` that stand for a GPU model where no AMD label does."),
    ] = {}
