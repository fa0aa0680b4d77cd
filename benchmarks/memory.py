"""plbook's memory for the kernel, beside the bound that it promises, and the largest kernel that it was asked for.

A kernel with k outputs takes, beside the inputs and K, at most one tile of K and k + 2 times the activations of the
tile's inputs: those of its rows and those of its columns, or once if they are the same. Activations are what the layers
are given or, if that is more, what they return.
"""

from dataclasses import dataclass

from benchmarks import workloads
from benchmarks.workers import Worker
from benchmarks.workloads import Workload

GIB = 2**30


@dataclass(frozen=True)
class Case:
    """A workload, the budget for its tiles in bytes, and a limit in GB for the whole process, if one was promised."""

    workload: Workload
    memory_budget: int
    limit_gb: float | None = None


CASES = [
    Case(Workload("one output", 1797, (1024,) * 3), 2 * GIB),
    Case(Workload("one output, in tiles", 1797, (1024,) * 3), GIB // 8),
    Case(Workload("ten outputs", 1000, (512,) * 3, outputs=10), 2 * GIB),
    Case(Workload("ten outputs, in tiles", 1000, (512,) * 3, outputs=10), GIB // 8),
    Case(Workload("convolutions", 1797, (64,) * 3, kind="conv"), 2 * GIB),
    Case(Workload("convolutions, in tiles", 1797, (64,) * 3, kind="conv"), GIB // 4),
    Case(Workload("width 4,096", 1797, (4096,) * 3), 2 * GIB, limit_gb=6),
]
# Freed memory goes back at once, so that the resident set is what is in use.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
# The spectrum of as many equations: random points on the sphere, one hidden layer.
LARGE = {"n": 20_000, "dimension": 64, "width": 1024}
LARGE_SECONDS = 1800
LARGE_LIMIT_GB = 24


class TooMuch(ValueError):
    """More memory than promised."""


def measure():
    """Per case the bytes of a tile, of its activations, the bound and the peak, in MB. Above the bound it raises TooMuch."""
    found = {}
    for case in CASES:
        worker = Worker("memory_worker", environment=EXACT)
        fields = workloads.fields(case.workload)
        entry = worker.ask("kernel", workload=fields, memory_budget=case.memory_budget)
        entry["process_mb"] = worker.peak_bytes() / 10**6
        worker.close()
        print(f"  {case.workload.name}: {entry['peak_mb']:.0f} MB, bound {entry['bound_mb']:.0f} MB", flush=True)
        if entry["peak_mb"] > entry["bound_mb"] or entry["process_mb"] > 1000 * (case.limit_gb or float("inf")):
            raise TooMuch(f"memory, {case.workload.name}: {entry}")
        budget = {"budget_mb": case.memory_budget / 10**6}
        found[case.workload.name] = {"network": case.workload.words(), "n": case.workload.n, **budget, **entry}
    return {"cases": found, "large": large()}


def large():
    """The spectrum of the largest system, with the seconds and the peak of its process."""
    worker = Worker("memory_worker")
    entry = {**LARGE, **worker.ask("spectrum", seconds=LARGE_SECONDS, **LARGE)}
    entry["process_mb"] = worker.peak_bytes() / 10**6
    worker.close()
    print(f"  n = {LARGE['n']:,}: {entry['seconds']:.0f} s, {entry['process_mb']:.0f} MB", flush=True)
    if entry["process_mb"] > 1000 * LARGE_LIMIT_GB:
        raise TooMuch(f"memory, n = {LARGE['n']}: {entry}")
    return entry

