"""How plbook's time grows with the number of inputs and with the width: fitted slopes beside those of the theory."""

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import workloads
from benchmarks.operations import kernel_operations
from benchmarks.rounds import run_rounds
from benchmarks.workers import Worker
from benchmarks.workloads import Workload

SERIES = {
    "inputs": {n: Workload(f"n = {n}", n, (1024,) * 3) for n in (225, 450, 900, 1797)},
    "width": {width: Workload(f"width {width}", 500, (width,) * 3) for width in (512, 1024, 2048, 4096)},
}


def slope(sizes, values):
    """The slope of the straight line through log(values) against log(sizes): the exponent of a power law."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(rounds):
    """Per series its sizes, plbook's median seconds, their slope, and the slope of the operations over the same sizes."""
    found = {}
    for name, series in SERIES.items():
        print(f"exponent in the {name}", flush=True)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            measures = {size: _ready(workload, folder, stack) for size, workload in series.items()}
            seconds, stopped = run_rounds(measures, rounds)
        if stopped:
            raise RuntimeError(f"plbook was stopped: {stopped}")
        medians = [median(seconds[size]) for size in series]
        found[name] = {
            "sizes": list(series),
            "seconds": medians,
            "exponent": slope(list(series), medians),
            "theory": slope(list(series), [kernel_operations(workload) for workload in series.values()]),
            "network": "3 hidden layers of 1,024" if name == "inputs" else "500 inputs, 3 hidden layers",
        }
    return {"rounds": rounds, **found}


def _ready(workload, folder, stack):
    """A function that times one kernel of the workload, in a process of its own."""
    path = str(folder / f"{workload.name}.npz")
    workloads.save(workload, path)
    worker = Worker("torch_worker")
    stack.callback(worker.close)
    worker.ask("load", method="plbook", workload=workloads.fields(workload), path=path, dtype="float64")
    worker.ask("call")  # the first call reserves memory
    return lambda: worker.ask("call", least_seconds=0.3)
