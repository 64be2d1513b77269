"""Latency of the gate while 1,000 AIMDeployments are created through a real API server. Prints, never fails.

    make bench

Three clocks. The validator's own (time to judge one object, from its histogram). The API server's (webhook call with network
and TLS, from its histogram, whose buckets are coarse). And a client's: whole create requests, with the gate and without it.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from testbed.plane import ControlPlane
from testbed.product import deployment, install, path
from testbed.validator import Validator

NAMESPACE = "bench"
MODELS = ("Qwen/Qwen3-8B", "Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct", "openai/gpt-oss-120b")
_BUCKET = re.compile(r'^(?P<name>\w+)_bucket\{(?P<labels>.*?)le="(?P<le>[^"]+)"\} (?P<count>\S+)$')


def spec(number: int) -> dict[str, Any]:
    """Four models, and ten workloads of each: most reviews are of a spec that was seen before, as in a real cluster."""
    return {"workload": {"maxInputTokens": 1024 * (1 + number % 10)}, "replicas": 1 + number % 3}


def buckets(text: str, name: str, label: str) -> dict[float, float]:
    """Cumulative counts of a histogram by upper bound, over all series whose labels hold `label`."""
    found: dict[float, float] = {}
    for line in text.splitlines():
        match = _BUCKET.match(line)
        if match and match["name"] == name and label in match["labels"]:
            bound = float(match["le"].replace("+Inf", "inf"))
            found[bound] = found.get(bound, 0.0) + float(match["count"])
    return found


def below(after: dict[float, float], before: dict[float, float]) -> Iterator[tuple[float, float]]:
    """(upper bound, share of the requests in between that stayed below it)."""
    total = after[float("inf")] - before.get(float("inf"), 0.0)
    for bound in sorted(after):
        yield bound, (after[bound] - before.get(bound, 0.0)) / max(1.0, total)


def told(after: dict[float, float], before: dict[float, float]) -> str:
    shares = [(bound, share) for bound, share in below(after, before) if share > 0.5]
    cut = next((i for i, (_, share) in enumerate(shares) if share >= 0.9999), len(shares) - 1)
    return ", ".join(f"{share:.1%} within {bound * 1000:g} ms" for bound, share in shares[: cut + 1])


def create(plane: ControlPlane, prefix: str, count: int, clients: int) -> list[float]:
    """Milliseconds of each create request, sorted."""

    def one(number: int) -> float:
        obj = deployment(f"{prefix}-{number}", NAMESPACE, MODELS[number % len(MODELS)], **spec(number))
        started = time.perf_counter()
        plane.request("POST", path(NAMESPACE), obj)
        return (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(clients) as pool:
        return sorted(pool.map(one, range(count)))


def quantiles(values: list[float]) -> str:
    return ", ".join(f"p{q} {values[min(len(values) - 1, len(values) * q // 100)]:.1f}" for q in (50, 90, 99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=2)
    options = parser.parse_args()
    with ControlPlane.start(kwok=False, scheduler=False, controller_manager=False) as plane:
        install(plane)
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        create(plane, "warm", 20, 2)
        without = create(plane, "without", options.objects, options.clients)
        with Validator.start(plane) as validator:
            create(plane, "first", 40, 2)
            ours, theirs = judged(validator), called(plane)
            cpu = validator.metric("process_cpu_seconds_total")
            started = time.perf_counter()
            withal = create(plane, "with", options.objects, options.clients)
            seconds = time.perf_counter() - started
            cpu = validator.metric("process_cpu_seconds_total") - cpu
            print(
                f"{options.objects} AIMDeployments created by {options.clients} clients in {seconds:.1f} s ({options.objects / seconds:.0f}/s)"
            )
            print(f"  to judge one, by the validator's clock: {told(judged(validator), ours)}")
            print(f"  webhook call, by the API server's clock: {told(called(plane), theirs)}")
            print(
                f"  create request, client's clock, ms: {quantiles(withal)}; without the gate: {quantiles(without)}"
            )
            if cpu:
                print(f"  validator CPU: {cpu / options.objects * 1000:.1f} ms per object")
            print(
                f"  validator: {validator.metric('process_resident_memory_bytes') / 2**20:.0f} MiB resident"
            )


def judged(validator: Validator) -> dict[float, float]:
    """The validator's histogram."""
    return buckets(validator.metrics(), "aim_webhook_review_duration_seconds", 'kind="AIMDeployment"')


def called(plane: ControlPlane) -> dict[float, float]:
    """The API server's histogram."""
    text = str(plane.request("GET", "/metrics"))
    return buckets(
        text, "apiserver_admission_webhook_admission_duration_seconds", "aimdeployments.aim.engine.amd.com"
    )


if __name__ == "__main__":
    main()
