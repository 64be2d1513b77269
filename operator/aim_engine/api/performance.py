"""Performance: numbers that are published with a recipe, and those that are measured in the cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.meta import Model

MOST_TOKENS, MOST_CONCURRENCY = 10_000_000, 1_000_000
MOST_RATE, MOST_COUNT, MOST_PERCENT = 1_000_000_000, 100_000_000, 100_000
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Rate = Annotated[int, Field(ge=0, le=MOST_RATE)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Percent = Annotated[int, Field(ge=0, le=MOST_PERCENT)]
Time = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
Hash = Annotated[str, Field(max_length=64)]
Version = Annotated[str, Field(max_length=300)]


class Workload(Model):
    """The load at which a performance number was obtained."""

    input_tokens: Annotated[Tokens | None, Field(description="Prompt length, in tokens.")] = None
    output_tokens: Annotated[Tokens | None, Field(description="Generated length, in tokens.")] = None
    concurrency: Annotated[
        int | None, Field(ge=1, le=MOST_CONCURRENCY, description="Requests in flight at the same time.")
    ] = None


class Provenance(Model):
    """Where a performance number comes from."""

    kind: Annotated[
        ProvenanceKind,
        Field(
            description="Who stands behind the number; declared is shown but never ranked against evidence."
        ),
    ]
    source: Annotated[
        str, Field(min_length=1, max_length=500, description="URL or object that publishes the number.")
    ]
    engine_version: Annotated[
        str | None, Field(max_length=100, description="Engine version the number was obtained with.")
    ] = None
    date: Annotated[
        str | None,
        Field(
            max_length=10,
            pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$",
            description="Date of the measurement, ISO 8601.",
        ),
    ] = None


class Performance(Model):
    """One performance point of a whole replica."""

    tokens_per_second: Annotated[
        int | None,
        Field(ge=1, le=100_000_000, description="Generated tokens per second of the whole replica."),
    ] = None
    time_to_first_token_milliseconds: Annotated[
        Milliseconds | None, Field(description="Time to the first token, in milliseconds.")
    ] = None
    inter_token_latency_milliseconds: Annotated[
        Milliseconds | None, Field(description="Time between two tokens of one request, in milliseconds.")
    ] = None
    request_latency_milliseconds: Annotated[
        Milliseconds | None, Field(description="Time of a whole request, in milliseconds.")
    ] = None
    workload: Annotated[Workload | None, Field(description="Load at which the numbers were obtained.")] = None
    provenance: Annotated[
        Provenance, Field(description="Where the numbers come from; a number without it is refused.")
    ]

    @model_validator(mode="after")
    def _has_a_number(self) -> Performance:
        numbers = (
            self.tokens_per_second,
            self.time_to_first_token_milliseconds,
            self.inter_token_latency_milliseconds,
            self.request_latency_milliseconds,
        )
        if not any(numbers):
            raise ValueError(
                "performance entry has no number; give tokensPerSecond or a latency, or remove the entry"
            )
        return self


class Percentiles(Model):
    """A distribution of times."""

    p50: Annotated[Count | None, Field(description="Median, in milliseconds.")] = None
    p95: Annotated[Count | None, Field(description="95th percentile, in milliseconds.")] = None


class Measurement(Model):
    """What one replica did while requests waited for it: what it can do, not what it was asked for."""

    tokens_per_second: Annotated[Rate, Field(description="Generated tokens per second of one replica.")]
    time_to_first_token_milliseconds: Annotated[
        Count | None, Field(description="Median time to the first token, queue included, in milliseconds.")
    ] = None
    inter_token_latency_milliseconds: Annotated[
        Count | None, Field(description="Median time between two tokens of one request, in milliseconds.")
    ] = None
    workload: Annotated[
        Workload | None, Field(description="Mean load of one replica: lengths, and requests in execution.")
    ] = None
    samples: Annotated[
        int, Field(ge=1, le=1_000_000_000, description="Windows that went into the numbers.")
    ] = 1
    at: Annotated[Time, Field(description="When the newest of them ended, RFC 3339.")]


class Observed(Model):
    """What a recipe did under load, as the median over the deployments that use it unchanged."""

    tokens_per_second: Annotated[Rate, Field(description="Generated tokens per second of one replica.")]
    time_to_first_token_milliseconds: Annotated[
        Count | None, Field(description="Time to the first token, in milliseconds.")
    ] = None
    inter_token_latency_milliseconds: Annotated[
        Count | None, Field(description="Time between two tokens of one request, in milliseconds.")
    ] = None
    deployments: Annotated[int, Field(ge=1, description="AIMDeployments it was seen on.")]
    samples: Annotated[
        int, Field(ge=1, le=1_000_000_000, description="Windows under load that went into it.")
    ]
    at: Annotated[Time, Field(description="When the newest of them ended, RFC 3339.")]
    recipe_hash: Annotated[Hash, Field(description="Content of the recipe the numbers belong to.")]
    gpu_model: Annotated[str, Field(max_length=40, description="GPU model they were taken on.")]
    engine_version: Annotated[Version, Field(description="Engine version they were taken with.")]


class Benchmark(Model):
    """One run of `aim-engine bench` that somebody saved."""

    tokens_per_second: Annotated[Rate, Field(description="Generated tokens per second, per replica.")]
    time_to_first_token_milliseconds: Annotated[
        Percentiles | None, Field(description="Time to the first token as the client saw it.")
    ] = None
    inter_token_latency_milliseconds: Annotated[
        Percentiles | None, Field(description="Time between two tokens of one request as the client saw it.")
    ] = None
    workload: Annotated[Workload, Field(description="The load that the client made.")]
    requests: Annotated[int, Field(ge=1, le=1_000_000_000, description="Requests that were answered.")]
    seconds: Annotated[int, Field(ge=1, le=86_400, description="Duration of the run, in seconds.")]
    source: Annotated[
        str, Field(max_length=500, description="The AIMDeployment that was measured, NAMESPACE/NAME.")
    ]
    at: Annotated[Time, Field(description="When the run ended, RFC 3339.")]
    recipe_hash: Annotated[Hash, Field(description="Content of the recipe the numbers belong to.")]
    gpu_model: Annotated[str, Field(max_length=40, description="GPU model they were taken on.")]
    engine_version: Annotated[Version, Field(description="Engine version they were taken with.")]


class Expected(Model):
    """What the deployment is compared with."""

    tokens_per_second: Annotated[
        Rate, Field(description="Generated tokens per second of all measured replicas.")
    ]
    source: Annotated[
        str,
        Field(
            max_length=20,
            pattern="^(target|published|declared)$",
            description="target (spec.targets), published (a number of the recipe for this engine line) or declared.",
        ),
    ]
    percent: Annotated[
        Percent | None, Field(description="Measured in percent of it; absent without demand.")
    ] = None


class Baseline(Model):
    """The first two windows of this recipe content here that agree; later ones of a like load are compared with them."""

    tokens_per_second: Annotated[Rate, Field(description="Generated tokens per second of one replica.")]
    workload: Annotated[Workload, Field(description="Mean load of one replica then.")]
    at: Annotated[Time, Field(description="When it was taken, RFC 3339.")]
    engine_version: Annotated[Version, Field(description="Engine version or image then.")]
    driver_version: Annotated[
        str | None,
        Field(max_length=100, description="GPU driver of the nodes then; absent where no label tells."),
    ] = None
    percent: Annotated[
        Percent | None,
        Field(
            description="Measured in percent of it, or of its share where fewer requests run than then; absent while the load is another."
        ),
    ] = None


class Hint(Model):
    """What would serve the measured load better; nobody acts on it but the user."""

    kind: Annotated[
        str, Field(max_length=40, pattern="^[A-Za-z]+$", description="What was noticed, one word, CamelCase.")
    ]
    message: Annotated[str, Field(max_length=500, description="The numbers, and the change that would help.")]


class PerformanceStatus(Model):
    """What the engines of a deployment deliver, measured by the operator over some minutes; written rarely."""

    tokens_per_second: Annotated[
        Rate | None, Field(description="Generated tokens per second of all measured replicas.")
    ] = None
    prompt_tokens_per_second: Annotated[Rate | None, Field(description="Prompt tokens per second.")] = None
    requests_per_minute: Annotated[Rate | None, Field(description="Requests finished per minute.")] = None
    requests_running: Annotated[Count | None, Field(description="Mean requests in execution.")] = None
    requests_waiting: Annotated[Count | None, Field(description="Mean requests in the queue.")] = None
    time_to_first_token_milliseconds: Annotated[
        Percentiles | None, Field(description="Time to the first token, queue included.")
    ] = None
    inter_token_latency_milliseconds: Annotated[
        Percentiles | None, Field(description="Time between two tokens of one request.")
    ] = None
    kv_cache_percent: Annotated[
        Percent | None, Field(description="KV cache in use, mean of the fullest replica, in percent.")
    ] = None
    preemptions_per_minute: Annotated[
        Rate | None, Field(description="Requests preempted for want of KV cache, per minute.")
    ] = None
    error_percent: Annotated[
        Percent | None, Field(description="Requests that ended in an error, in percent.")
    ] = None
    prefix_cache_hit_percent: Annotated[
        Percent | None, Field(description="Prompt tokens found in the prefix cache, in percent.")
    ] = None
    replicas: Annotated[int | None, Field(ge=0, description="Replicas that were measured.")] = None
    window_seconds: Annotated[
        int | None, Field(ge=0, le=86_400, description="Length of the window, in seconds.")
    ] = None
    at: Annotated[Time | None, Field(description="End of the window, RFC 3339.")] = None
    recipe_hash: Annotated[Hash, Field(description="Content of the recipe that was measured.")]
    engine_version: Annotated[
        Version, Field(description="Engine version, or the image where the spec names one.")
    ]
    driver_version: Annotated[
        str | None, Field(max_length=100, description="GPU driver of the nodes, where a label tells.")
    ] = None
    expected: Annotated[Expected | None, Field(description="What the throughput is compared with.")] = None
    hints: Annotated[
        list[Hint],
        Field(
            max_length=8,
            description="What would serve this load better.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["kind"]},
        ),
    ] = []
    baseline: Annotated[Baseline | None, Field(description="What this recipe did here at first.")] = None
    under_load: Annotated[
        Measurement | None,
        Field(description="What one replica does when requests wait, smoothed over windows."),
    ] = None
