"""The record of a benchmark: a JSON file in git, in a fixed order, with numbers that mean something."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

from benchmarks import workers

FOLDER = Path(__file__).parent / "results"


def path_of(name):
    return FOLDER / f"{name}.json"


def machine():
    """The processor, its cores and the memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": model, "cores": os.cpu_count(), "memory_gib": round(memory / 2**30)}


def conditions(installed, peers):
    """What numbers must share to stand in one record: machine, threads, versions of installed packages and of the peers."""
    versions = {name: importlib.metadata.version(name) for name in installed}
    return {
        "machine": machine(),
        "threads": workers.THREADS,
        "versions": {"python": platform.python_version(), **versions, **peers},
    }


def today():
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def rounded(value):
    """All floats in a nested record to 3 significant digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def load(name):
    return json.loads(path_of(name).read_text(encoding="utf-8"))


def merged(old, new):
    """`new` with those parts of `old` that it does not have.

    Raises:
        ValueError: if they were measured under different conditions.
    """
    for key in ("machine", "threads", "versions"):
        if old[key] != new[key]:
            raise ValueError(
                f"the record was measured with {key} {old[key]}, this run with {new[key]}; they cannot be mixed. "
                "Measure everything again, without --only."
            )
    return {**new, "parts": {**old["parts"], **new["parts"]}}


def save(name, record):
    record = rounded({**record, "parts": dict(sorted(record["parts"].items()))})
    FOLDER.mkdir(exist_ok=True)
    path_of(name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
