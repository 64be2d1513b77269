"""One question of sizing: a model in some format on some GPUs under some settings. What forbids the answer yes?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU, most_devices, partition_vram_bytes
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.kv_cache import states_that_fit
from aim_engine.sizing.memory import MemoryModel, memory_model
from aim_engine.sizing.weights import weight_format


@dataclass(frozen=True, slots=True)
class Case:
    """One question, so that its parts need not be passed one by one."""

    model: ModelFacts | None
    """None: its dimensions are not known."""
    checkpoint: Checkpoint | None
    gpu: GPU
    partition: str | None
    precision: Precision
    plan: EnginePlan
    required_context: int | None = None
    """Tokens that one request may need; None: any context will do."""
    node_gpus: int | None = None
    """Devices of the largest node at hand; None: of the largest node there is."""

    @property
    def vram_bytes(self) -> int | None:
        """Memory of one device; None for a partition mode the GPU lacks."""
        return partition_vram_bytes(self.gpu, self.partition)

    @property
    def most_gpus(self) -> int:
        """Devices of one node, at most."""
        return self.node_gpus or most_devices(self.gpu, self.partition)

    @property
    def loaded(self) -> Precision:
        """Format the weights have in memory."""
        return weight_format(self.checkpoint, self.precision, self.plan)

    @property
    def formats(self) -> frozenset[Precision]:
        """All formats that the GPU must be able to serve."""
        stored, loaded = self.checkpoint, self.loaded
        rest = stored.rest_precision if stored is not None and loaded is stored.precision else None
        return frozenset({self.precision, loaded} if rest is None else {self.precision, loaded, rest})

    @property
    def device(self) -> str:
        """What one device is called."""
        return self.gpu.model if self.partition is None else f"{self.gpu.model} in {self.partition}"


def longest_context(model: ModelFacts, plan: EnginePlan) -> int:
    """Tokens that the settings let a sequence have."""
    return plan.max_model_len or model.max_position_embeddings


def memory_of(case: Case, model: ModelFacts) -> MemoryModel:
    """Where the memory of one device goes."""
    return memory_model(model, case.checkpoint, case.precision, case.plan, case.vram_bytes or 0)


def room(case: Case, memory: MemoryModel) -> int:
    """Memory that weights and overhead must leave something of."""
    return memory.usable_bytes if case.plan.kv_cache_memory_bytes is None else case.vram_bytes or 0


def sequences_to_start(case: Case) -> int | None:
    """The most sequences at a time, up to those asked for, with which the engine starts; None where no recurrent states
    bind it. Fewer leave more memory, for their logits take less."""
    model, plan = case.model, case.plan
    if model is None or model.state_bytes_per_sequence is None or not plan.state_for_all_seqs:
        return None

    def starts(sequences: int) -> bool:
        fewer = replace(case, plan=replace(plan, max_num_seqs=sequences))
        found = states_that_fit(model, fewer.plan, memory_of(fewer, model).kv_bytes)
        return found is None or sequences <= found

    if starts(plan.max_num_seqs):
        return plan.max_num_seqs
    return bisect_left(range(1, plan.max_num_seqs), True, key=lambda sequences: not starts(sequences))


def context_to_hold(case: Case, memory: MemoryModel) -> int:
    """Context the KV cache must hold for the engine to start, and for the requests to be served."""
    if case.plan.max_model_len_auto:
        return min(case.required_context or 1, memory.max_context)
    return memory.max_context
