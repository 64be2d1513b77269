"""What an engine will do with the memory it is given: the meeting point of `engines` and `sizing`."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.api.enums import Precision


@dataclass(frozen=True, slots=True)
class FlagNames:
    """What an engine calls the settings that a remedy may change. The defaults are vLLM's."""

    context: str = "max-model-len"
    kv_cache: str = "kv-cache-dtype"
    kv_cache_fp8: str = "kv-cache-dtype fp8"
    expert_parallel: str = "enable-expert-parallel"
    expert_parallel_on: str = "enable-expert-parallel"
    quantization: str = "quantization"
    batch: str = "max-num-batched-tokens"
    sequences: str = "max-num-seqs"
    chunked_prefill_on: str = "set enable-chunked-prefill to true"
    utilization: str = "gpu-memory-utilization"


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """Parallelism and memory settings of one engine: its arguments, with its own defaults filled in."""

    tensor_parallel: int
    pipeline_parallel: int = 1
    data_parallel: int = 1
    decode_context_parallel: int = 1
    """GPUs of a tensor parallel group that share one copy of the KV cache's tokens."""
    expert_parallel: bool = False
    max_model_len: int | None = None
    """None: the engine takes the model's own maximum."""
    max_model_len_auto: bool = False
    """The engine shortens the context by itself until it fits."""
    max_num_batched_tokens: int = 8192
    whole_prompts: bool = False
    """A prompt is worked on in one step, which therefore holds the longest one, however few tokens are batched."""
    max_num_seqs: int = 256
    state_for_all_seqs: bool = False
    """The engine starts only when the recurrent states of `max_num_seqs` sequences fit at once."""
    drafts: bool = False
    """Tokens are drafted ahead, of which one step of the model confirms several."""
    graphs: bool = True
    """The engine captures graphs of its steps, which take memory."""
    gpu_memory_utilization: float = 0.9
    kv_cache_bytes_per_element: float | None = None
    """None: the KV cache has the model's 16-bit format."""
    kv_cache_precision: Precision | None = None
    """Format of the KV cache where it was set; None: the engine chooses."""
    kv_cache_memory_bytes: int | None = None
    """Size of the KV cache per GPU when set outright instead of by utilisation."""
    weights_offload_bytes: int = 0
    """Weights per GPU that are kept in host memory."""
    quantization: str | None = None
    """Quantisation method by the engine's name; None leaves it to the checkpoint."""
    online_precision: Precision | None = None
    """Format to which 16-bit weights are quantised while loading."""
    hybrid_kv_cache: bool = True
    """Sliding-window layers keep only their window in the KV cache."""
    context_extended: bool = False
    """The arguments override the model's configuration, so its own maximum context does not bind."""
    names: FlagNames = FlagNames()
    """The engine's own words for what is planned here."""

    @property
    def gpus(self) -> int:
        """GPUs this plan occupies."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel
