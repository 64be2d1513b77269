"""Values of flags that are words of a closed list, in any case of letters."""

from __future__ import annotations

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_divisor
from aim_engine.cli.output import invalid


def known_precision(word: str | None) -> Precision | None:
    """The format that `--precision` names; raises CommandError for none that there is."""
    try:
        return None if word is None else Precision(word.lower())
    except ValueError:
        raise invalid(f"--precision '{word}' is not one of {', '.join(Precision)}") from None


def known_gpu(word: str) -> GPU:
    """The GPU model that `--gpu` names; raises CommandError for none that there is."""
    known = {gpu.model.lower(): gpu for gpu in gpu_catalog().values()}
    gpu = known.get(word.lower())
    if gpu is None:
        raise invalid(f"--gpu '{word}' is not one of {', '.join(gpu_catalog())}")
    return gpu


def known_partition(word: str | None) -> str | None:
    """The mode that `--partition` names; raises CommandError for one that no GPU has."""
    if word is None:
        return None
    if all(partition_divisor(gpu, word) is None for gpu in gpu_catalog().values()):
        modes = sorted({mode for gpu in gpu_catalog().values() for mode in gpu.partitions})
        raise invalid(
            f"--partition '{word}' is no mode of any GPU; they have {', '.join(modes)}, as in cpx_nps4"
        )
    return word.lower()
