"""The spectral norms of the equations' Hessians, plbook against loops of eigsh: accuracy first, then interleaved rounds."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import record, workloads
from benchmarks.candidates import Candidate, begin
from benchmarks.environment import CURVLINOPS, Unavailable
from benchmarks.reference import NORM_TOLERANCE, check_norms, exact_hessian_norms
from benchmarks.rounds import quartiles, ratios, run_rounds
from benchmarks.workers import THREADS, Stopped, Worker
from benchmarks.workloads import Workload

WORKLOADS = {
    workload.name: workload
    for workload in [
        Workload("H1", 20, (1024, 1024)),
        Workload("H2", 10, (256, 256, 256), outputs=10),
        Workload("H3", 20, (32, 32, 32), kind="conv"),
    ]
}
PLBOOK = Candidate("plbook", "", "plbook")
CANDIDATES = [
    PLBOOK,
    Candidate("torch.func", "eigsh over jvp of grad", "forward over reverse"),
    Candidate("torch.func", "eigsh over vjp of grad", "reverse over reverse"),
    Candidate("curvlinops", "eigsh", "curvlinops"),
]
# What eigsh is asked for where NORM_TOLERANCE is not enough: on H2 it settles on an inner eigenvalue, 1.3% below.
EIGSH_TOLERANCES = {"H2": 1e-3}
# In a round, calls are repeated for as many seconds.
SHORT = 0.3


def run(rounds, only):
    """Measure the workloads named in `only` (None: all) and store the record, merged with the old one if `only` is given."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    python, missing = None, {}
    try:
        python = CURVLINOPS.python()
    except Unavailable as reason:
        missing = {"curvlinops_missing": str(reason)}
        print(f"Going on without curvlinops: {reason}.", flush=True)
    peers = {"curvlinops": CURVLINOPS.pins()["curvlinops-for-pytorch"]}
    new = {**record.conditions(["torch", "numpy", "scipy"], peers), "parts": {}}
    old = record.load("hessian") if only and record.path_of("hessian").exists() else new
    record.merged(old, new)  # refuses before the work
    for name in only or WORKLOADS:
        new["parts"][name] = {"date": record.today(), **measure(WORKLOADS[name], rounds, python), **missing}
        record.save("hessian", record.merged(old, new))
    return record.load("hessian")


def measure(workload, rounds, python):
    """The part of the record for one workload. Norms that miss the tolerance raise Inaccurate."""
    print(f"{workload.name}: {workload.words()}, n = {workload.n}, {workload.outputs} output(s)", flush=True)
    present = [candidate for candidate in CANDIDATES if python is not None or candidate.package != "curvlinops"]
    with ExitStack() as stack:
        path = Path(stack.enter_context(TemporaryDirectory())) / "workload.npz"
        workloads.save(workload, path)
        exact = exact_hessian_norms(workload)
        ready, stopped = {}, {}
        for candidate in present:
            worker = Worker("hessian_worker", python if candidate.package == "curvlinops" else sys.executable)
            stack.callback(worker.close)
            try:
                ready[candidate] = _first_calls(candidate, worker, workload, path, exact)
            except Stopped as reason:
                stopped[candidate] = str(reason)
            _tell(candidate, ready, stopped)
        if PLBOOK in stopped:
            raise RuntimeError(f"plbook was stopped on {workload.name}: {stopped[PLBOOK]}")
        measures = {candidate: lambda worker=entry.worker: worker.ask("call", least_seconds=SHORT) for candidate, entry in ready.items()}
        seconds, stopped_later = run_rounds(measures, rounds)
    return {
        "description": workload.words(),
        "n": workload.n,
        "outputs": workload.outputs,
        "parameters": sum(weight.numel() for weight in workload.network().parameters()),
        "tolerance": NORM_TOLERANCE,
        "eigsh_tolerance": eigsh_tolerance(workload),
        "rounds": rounds,
        "implementations": summary(present, {c: entry.facts for c, entry in ready.items()}, seconds, {**stopped, **stopped_later}),
    }


def summary(present, facts, seconds, stopped):
    """The numbers of the rounds for the record: medians and ratios to plbook's time in the same round."""
    implementations = {}
    for candidate in present:
        entry, own = dict(facts.get(candidate, {})), seconds.get(candidate)
        if own:
            entry = {"seconds": median(own), "rounds": len(own), **entry, "seconds_by_round": own}
            if candidate is not PLBOOK:
                entry["ratio"] = quartiles(ratios(own, seconds[PLBOOK]))
        if candidate in stopped:
            entry["stopped"] = stopped[candidate]
        implementations[candidate.name] = entry
    return implementations


def eigsh_tolerance(workload):
    return EIGSH_TOLERANCES.get(workload.name, NORM_TOLERANCE)


def _first_calls(candidate, worker, workload, path, exact):
    request = {"method": candidate.method, "workload": workloads.fields(workload), "path": str(path)}
    request["eigsh_tolerance"] = eigsh_tolerance(workload)
    name = f"{workload.name}, {candidate.name}"
    return begin(worker, request, path.with_name("norms.npy"), lambda norms: {"error": check_norms(name, norms, exact)})


def _tell(candidate, ready, stopped):
    words = stopped.get(candidate)
    if candidate in ready:
        entry = ready[candidate]
        words = f"{entry.seconds:.3g} s, {entry.facts['peak_mb']:.0f} MB, error {entry.facts['error']:.1g}"
    print(f"  {candidate.name}: {words}", flush=True)
