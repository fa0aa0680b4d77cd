"""The tangent kernel, plbook against its peers: accuracy first, then memory, then time in interleaved rounds."""

import os
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import exponents, memory, record, workloads
from benchmarks.candidates import CANDIDATES, PLBOOK, first_calls
from benchmarks.environment import NEURAL_TANGENTS, Unavailable
from benchmarks.operations import kernel_operations
from benchmarks.reference import exact_kernel
from benchmarks.rounds import quartiles, ratios, run_rounds
from benchmarks.workers import THREADS, Stopped, Worker

PARTS = [*workloads.WORKLOADS, "exponents", "memory"]
# An implementation this much slower than the fastest peer, and slow at all, keeps the time of its first call.
SLOW_FACTOR, SLOW_SECONDS = 20, 2
GEMM_OPERATIONS = 2 * 2048**3
# In a round, calls are repeated for as many seconds.
SHORT = 0.3


def run(rounds, only):
    """Measure the parts named in `only` (None: all) and store the record, merged with the old one if `only` is given."""
    # Workers inherit this; XLA takes as many threads as it sees cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    python, missing = None, {}
    try:
        python = NEURAL_TANGENTS.python()
    except Unavailable as reason:
        missing = {"neural_tangents_missing": str(reason)}
        print(f"Going on without neural-tangents: {reason}.", flush=True)
    pins = NEURAL_TANGENTS.pins()
    new = {**record.conditions(["torch", "numpy"], {name: pins[name] for name in ("neural-tangents", "jax")}), "parts": {}}
    old = record.load("kernel") if only and record.path_of("kernel").exists() else new
    record.merged(old, new)  # refuses before the work
    for part in only or PARTS:
        if part == "exponents":
            measured = exponents.measure(rounds)
        elif part == "memory":
            measured = memory.measure()
        else:
            measured = {**measure(workloads.WORKLOADS[part], rounds, python), **missing}
        new["parts"][part] = {"date": record.today(), **measured}
        record.save("kernel", record.merged(old, new))
    return record.load("kernel")


def measure(workload, rounds, python):
    """The part of the record for one workload. A wrong float64 kernel raises Inaccurate."""
    print(f"{workload.name}: {workload.words()}, n = {workload.n}, {workload.outputs} output(s)", flush=True)
    with ExitStack() as stack:
        path = Path(stack.enter_context(TemporaryDirectory())) / "workload.npz"
        workloads.save(workload, path)
        exact = exact_kernel(workload)
        ready, stopped = {}, {}
        for candidate, dtype in _entries(python):
            try:
                ready[candidate, dtype] = first_calls(candidate, dtype, workload, path, exact, python)
                stack.callback(ready[candidate, dtype].worker.close)
            except Stopped as reason:
                stopped[candidate, dtype] = str(reason)
            _tell(candidate, dtype, ready, stopped)
        if (PLBOOK, "float64") in stopped:
            raise RuntimeError(f"plbook was stopped on {workload.name}: {stopped[PLBOOK, 'float64']}")
        gemm = Worker("torch_worker")
        stack.callback(gemm.close)
        gemm.ask("load_gemm")
        once = slow(ready)
        measures = {key: lambda worker=entry.worker: worker.ask("call", least_seconds=SHORT) for key, entry in ready.items() if key not in once}
        # The speed that the machine has in this round.
        measures["gemm"] = lambda: gemm.ask("call", least_seconds=SHORT)
        seconds, stopped_later = run_rounds(measures, rounds)
        seconds.update({key: [ready[key].seconds] for key in once})
    facts = {key: entry.facts for key, entry in ready.items()}
    return {
        "description": workload.words(),
        "n": workload.n,
        "outputs": workload.outputs,
        "parameters": sum(weight.numel() for weight in workload.network().parameters()),
        **summary(workload, facts, seconds, {**stopped, **stopped_later}, _entries(python)),
    }


def slow(ready):
    """Those not timed again. Exempt are the leading ones and neural-tangents' fastest in its dtype."""
    once = set()
    for dtype in ("float64", "float32"):
        group = {candidate: entry.seconds for (candidate, d), entry in ready.items() if d == dtype}
        peers = {candidate: seconds for candidate, seconds in group.items() if candidate is not PLBOOK}
        tangents = [candidate for candidate in peers if candidate.package == "neural-tangents"]
        exempt = {candidate for candidate in group if candidate.leading} | {min(tangents, key=peers.get, default=None)}
        bar = max(SLOW_SECONDS, SLOW_FACTOR * min(peers.values(), default=0))
        once |= {(candidate, dtype) for candidate in group if candidate not in exempt and group[candidate] > bar}
    return once


def summary(workload, facts, seconds, stopped, entries):
    """The numbers of the rounds for the record: medians, ratios to plbook's time, the share of the GEMM peak."""
    operations, base = kernel_operations(workload), seconds[PLBOOK, "float64"]
    speeds = [GEMM_OPERATIONS / s for s in seconds["gemm"]]
    implementations = {}
    for candidate, dtype in entries:
        key, entry = (candidate, dtype), dict(facts.get((candidate, dtype), {}))
        if seconds.get(key):
            own = seconds[key]
            entry = {"seconds": median(own), "rounds": len(own), **entry, "seconds_by_round": own}
            if candidate is PLBOOK:
                shares = [operations / s / speed for s, speed in zip(own, speeds)]
                entry["gemm_fraction"] = median(shares)
            else:
                entry["ratio"] = quartiles(ratios(own, base))
        if key in stopped:
            entry["stopped"] = stopped[key]
        implementations.setdefault(candidate.name, {})[dtype] = entry
    return {
        "gflop": operations / 1e9,
        "gemm_gflop_per_second": median(speeds) / 1e9,
        "rounds": len(base),
        "implementations": implementations,
    }


def _entries(python):
    present = [c for c in CANDIDATES if python is not None or c.package != "neural-tangents"]
    return [(candidate, dtype) for candidate in present for dtype in candidate.dtypes]


def _tell(candidate, dtype, ready, stopped):
    key = candidate, dtype
    if key in ready:
        entry = ready[key]
        words = f"{entry.seconds:.3g} s, {entry.facts['peak_mb']:.0f} MB, error {entry.facts['error']:.1g}"
        words += f", {entry.facts['setting']}" if "setting" in entry.facts else ""
    else:
        words = stopped[key]
    print(f"  {dtype} {candidate.name}: {words}", flush=True)
