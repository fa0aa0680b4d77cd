"""The implementations that are compared, and the first call of each in a fresh process: accuracy and peak memory."""

from dataclasses import dataclass

import numpy as np

from benchmarks import workloads
from benchmarks.reference import check, smallest_eigenvalue_error
from benchmarks.workers import LIMIT_SECONDS, Stopped, Worker


@dataclass(frozen=True)
class Candidate:
    """`package` and `title` name it in tables, `method` in its worker. A `leading` one is always timed in every round."""

    package: str
    title: str
    method: str
    dtypes: tuple = ("float64", "float32")
    leading: bool = False

    @property
    def name(self):
        return f"{self.package}, {self.title}" if self.title else self.package

    def settings(self, workload):
        """What is tried, the likely best first; the fastest counts."""
        if self.package != "neural-tangents":
            return [{}]
        convolutions = ("patches", "lax") if workload.kind == "conv" else ("lax",)
        return [{"vmap_axes": axes, "convolution": name} for axes in (0, None) for name in convolutions]


PLBOOK = Candidate("plbook", "", "plbook", ("float64",), leading=True)
CANDIDATES = [
    PLBOOK,
    Candidate("torch.func", "J J^T", "jacobian product", leading=True),
    Candidate("torch.func", "Jacobian contraction", "jacobian contraction"),
    Candidate("torch.func", "NTK-vector products", "vector products"),
    Candidate("neural-tangents", "structured derivatives", "structured derivatives"),
    Candidate("neural-tangents", "Jacobian contraction", "jacobian contraction"),
    Candidate("neural-tangents", "NTK-vector products", "vector products"),
]

# A first call shorter than this is repeated for its time: libraries set up what they need in it.
SHORT_SECONDS = 10
# A further setting gets this many times the time of the best so far, and at least these seconds (compilation included).
PATIENCE, LEAST_SECONDS = 2, 10


@dataclass
class Ready:
    """A worker after its first calls: the seconds of one, and the facts for the record."""

    worker: Worker
    seconds: float
    facts: dict


def first_calls(candidate, dtype, workload, path, exact, python):
    """A Ready with the fastest setting; after a first one that is slow or over a limit no other is tried.

    Raises Stopped, with the first one's reason, if there is none.
    """
    best, reason, limit = None, None, LIMIT_SECONDS
    for setting in candidate.settings(workload):
        try:
            ready = _first_call(candidate, dtype, workload, path, exact, python, setting, limit)
        except Stopped as stopped:
            reason = reason or stopped
            if best is None and "over" in str(stopped):
                break
            continue
        if best is None or ready.seconds < best.seconds:
            best, ready = ready, best
        if ready is not None:
            ready.worker.close()
        if best.seconds > SHORT_SECONDS:
            break
        limit = max(LEAST_SECONDS, PATIENCE * (best.seconds + best.facts.get("compile_seconds", 0)))
    if best is None:
        raise reason
    return best


def _first_call(candidate, dtype, workload, path, exact, python, setting, limit):
    torch = candidate.package != "neural-tangents"
    worker = Worker("torch_worker") if torch else Worker("jax_worker", python)
    request = {"method": candidate.method, "workload": workloads.fields(workload), "path": str(path), "dtype": dtype, **setting}

    def facts_of(kernel):
        facts = {"error": check(f"{workload.name}, {candidate.name}", kernel, exact)}
        if dtype == "float32":
            facts["smallest_eigenvalue_error"] = smallest_eigenvalue_error(kernel, exact)
        return facts

    ready = begin(worker, request, path.with_name("kernel.npy"), facts_of, limit)
    if setting:
        ready.facts["setting"] = setting
    return ready


def begin(worker, request, path, facts_of, limit=LIMIT_SECONDS):
    """A Ready after a worker's first calls. The result comes by way of a file at the path, and what it shows is asked of
    `facts_of`; whatever that raises closes the worker."""
    compile_seconds = worker.ask("load", seconds=limit, **request)
    seconds = worker.ask("call", seconds=limit)
    facts = {"peak_mb": worker.peak_bytes() / 10**6}
    if seconds < SHORT_SECONDS:
        seconds = worker.ask("call")
    worker.ask("save", path=str(path))
    try:
        facts.update(facts_of(np.load(path)))
    except BaseException:
        worker.close()
        raise
    if compile_seconds is not None:
        facts["compile_seconds"] = compile_seconds
    return Ready(worker, seconds, facts)
