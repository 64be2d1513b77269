"""Speed of the operator on the testbed: idle latency over single objects, and the rate of a burst. Prints, never fails.

    make bench

The times are the API server's own (audit log): from the arrival of the AIMDeployment's create request to the arrival
of the operator's create request for the Deployment.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import time
from collections import Counter
from datetime import datetime

from testbed.plane import ControlPlane
from testbed.product import USER, Operator, deployment, install, path

NODES = 100
IDLE_OBJECTS = 40


def nodes(plane: ControlPlane, count: int) -> None:
    """Nodes with one GPU kind each in turn, large enough for everything the benchmark asks for."""
    kinds = ["mi300x-8", "mi325x-8", "mi355x-8", "mi210-4"]
    plane.add_nodes(*[kinds[i % len(kinds)] for i in range(count)])


def created_at(
    plane: ControlPlane, since: int
) -> tuple[dict[tuple[str, str], datetime], dict[tuple[str, str], datetime]]:
    """Arrival times of AIMDeployment and of Deployment create requests by (namespace, name)."""
    asked: dict[tuple[str, str], datetime] = {}
    made: dict[tuple[str, str], datetime] = {}
    for record in plane.audit.records(since):
        if record.verb != "create" or record.code >= 400:
            continue
        key = (record.namespace, record.name)
        if record.resource == "aimdeployments.aim.engine.amd.com":
            asked[key] = record.at
        elif record.resource == "deployments.apps" and record.user == USER:
            made[key] = record.at
    return asked, made


def idle(plane: ControlPlane, namespace: str) -> None:
    """One object at a time, the operator otherwise idle."""
    mark = plane.audit.mark()
    for i in range(IDLE_OBJECTS):
        plane.request("POST", path(namespace), deployment(f"idle-{i}", namespace, "Qwen/Qwen3-8B"))
        time.sleep(0.4)
    time.sleep(2)
    asked, made = created_at(plane, mark)
    latencies = sorted((made[key] - asked[key]).total_seconds() * 1000 for key in asked if key in made)
    p50, p90 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.9)]
    print(
        f"idle: {len(latencies)} of {IDLE_OBJECTS} objects, apply -> Deployment created ms: "
        f"p50 {p50:.1f}  p90 {p90:.1f}  max {latencies[-1]:.1f}"
    )
    report_writes(plane, mark, len(asked))


def burst(plane: ControlPlane, operator: Operator, namespace: str, count: int) -> None:
    """Many objects at once; there are GPUs for all of them."""
    mark, cpu = plane.audit.mark(), operator.metric("process_cpu_seconds_total")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: plane.request(
                    "POST",
                    path(namespace),
                    deployment(f"burst-{i}", namespace, "Qwen/Qwen3-8B"),
                ),
                range(count),
            )
        )
    deadline = time.monotonic() + 120
    made: dict[tuple[str, str], datetime] = {}
    while len(made) < count and time.monotonic() < deadline:
        time.sleep(0.5)
        asked, made = created_at(plane, mark)
    first, last = min(asked.values()), max(made.values())
    seconds = (last - first).total_seconds()
    sending = (max(asked.values()) - first).total_seconds()
    print(
        f"burst: {len(made)} of {count} Deployments {seconds:.1f} s after the first apply = {len(made) / seconds:.0f}/s "
        f"(the client took {sending:.1f} s to send them)"
    )
    time.sleep(5)
    used = operator.metric("process_cpu_seconds_total") - cpu
    print(f"  operator CPU: {used:.1f} s = {used / count * 1000:.1f} ms per object")
    report_writes(plane, mark, count)
    for verb in ("POST", "PATCH"):
        requests = operator.metric(f'aim_operator_kube_request_duration_seconds_count{{verb="{verb}"}}')
        seconds = operator.metric(f'aim_operator_kube_request_duration_seconds_sum{{verb="{verb}"}}')
        print(f"  {verb}: mean {seconds / max(1, requests) * 1000:.1f} ms over {requests:.0f} requests")


def report_writes(plane: ControlPlane, mark: int, objects: int) -> None:
    """Writes per object by kind, Leases left out."""
    writes = [
        w for w in plane.audit.writes(mark, user=USER, include_events=True) if "leases" not in w.resource
    ]
    kinds = Counter(
        f"{w.resource.split('.')[0]}{'/' + w.subresource if w.subresource else ''}" for w in writes
    )
    events = sum(count for kind, count in kinds.items() if kind == "events")
    told = ", ".join(f"{kind} {count / objects:.2f}" for kind, count in sorted(kinds.items()))
    print(
        f"  writes per object: {len(writes) / objects:.1f} with events, {(len(writes) - events) / objects:.1f} without ({told})"
    )


def at_rest(plane: ControlPlane, operator: Operator, seconds: int) -> None:
    """Writes while nothing happens, Leases left out."""
    mark = plane.audit.mark()
    before = operator.metric("process_cpu_seconds_total")
    time.sleep(seconds)
    writes = [
        w for w in plane.audit.writes(mark, user=USER, include_events=True) if "leases" not in w.resource
    ]
    print(
        f"at rest: {len(writes)} writes in {seconds} s, {operator.metric('process_cpu_seconds_total') - before:.2f} s CPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--burst", type=int, default=500)
    parser.add_argument("--rest", type=int, default=60)
    parser.add_argument("--alone", action="store_true", help="without scheduler, controllers and kubelets")
    options = parser.parse_args()
    whole = not options.alone
    with ControlPlane.start(scheduler=whole, controller_manager=whole, kwok=whole) as plane:
        install(plane)
        nodes(plane, NODES)
        for namespace in ("idle", "burst"):
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        with Operator.start(plane) as operator:
            time.sleep(3)
            idle(plane, "idle")
            burst(plane, operator, "burst", options.burst)
            time.sleep(30)
            at_rest(plane, operator, options.rest)
            print(f"operator: {operator.metric('process_resident_memory_bytes') / 2**20:.0f} MiB resident")


if __name__ == "__main__":
    main()
