"""The full counts of the stress suites, on all cores: `make stress`. Each suite leaves a record in tests/stress.

`python tests/run_stress.py NAME ...` runs some of them only.

A suite is a module with SEEDS, with measure(seed) for one case, and with summary(results), a dict that lists the
failures. Results go from one process to another, so they must be picklable.
"""

import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import bound_slopes
import curvature_trials
import flint
import mpmath
import near_duplicates
import numpy
import torch
import unsolvable
import verified_eigenvalues
from tqdm import tqdm

SUITES = {
    "near_duplicates": near_duplicates,
    "verified_eigenvalues": verified_eigenvalues,
    "curvature_trials": curvature_trials,
    "bound_slopes": bound_slopes,
    "unsolvable": unsolvable,
}
RECORDS = Path(__file__).with_name("stress")


def processor():
    """The processor's name; Linux has it in a file only."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions():
    modules = {module.__name__: module.__version__ for module in (torch, numpy, mpmath, flint)}
    return {"python": platform.python_version(), **modules}


def run(name, suite):
    """The results of all seeds, one process per core."""
    # A fresh process per core, because a fork of a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(tqdm(pool.map(suite.measure, suite.SEEDS), total=len(suite.SEEDS), desc=name, disable=None))


def main(names=()):
    """Run the suites of these names, or all."""
    RECORDS.mkdir(exist_ok=True)
    failures = 0
    for name in names or SUITES:
        suite = SUITES[name]
        start = time.perf_counter()
        results = run(name, suite)
        machine = {"processor": processor(), "cores": os.cpu_count()}
        record = {
            "date": date.today().isoformat(),
            "versions": versions(),
            "machine": machine,
            "seconds": round(time.perf_counter() - start),
            "cases": len(results),
            **suite.summary(results),
        }
        path = RECORDS / f"{name}.json"
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {len(results)} cases, {len(record['failures'])} failures; see tests/stress/{path.name}")
        failures += len(record["failures"])
    if failures:
        sys.exit(f"{failures} failures.")


if __name__ == "__main__":
    main(sys.argv[1:])
