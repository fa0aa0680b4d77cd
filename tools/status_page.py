"""The status page: what the book was built with, and how long each notebook runs."""

import datetime
import importlib.metadata
import os
import platform

import run_times
from notebook_environment import ROOT, notebooks

PAGE = ROOT / "book" / "status.md"
PACKAGES = ["torch", "numpy", "scipy", "matplotlib", "scikit-learn", "jupyter-book"]


def memory():
    """Installed memory in words; not every system tells."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return "unknown memory"
    return f"{size / 2**30:.0f} GiB of memory"


def run_time(path):
    seconds = run_times.known_seconds(path)
    return "not measured" if seconds is None else f"{seconds:.1f} s"


def write():
    today = datetime.datetime.now(datetime.UTC).date()
    rows = [f"| [](./{path.name}) | {run_time(path)} |" for path in notebooks()]
    versions = [f"| {name} | {importlib.metadata.version(name)} |" for name in PACKAGES]
    lines = [
        "# Status of this build",
        "",
        f"Built on {today} (UTC) on a machine with {os.cpu_count()} CPU cores and {memory()}.",
        "",
        "## Run times",
        "",
        "Each notebook run from top to bottom, on one thread, with the start of its kernel.",
        "",
        "| notebook | run time |",
        "| --- | --- |",
        *rows,
        "",
        "## Versions",
        "",
        "| software | version |",
        "| --- | --- |",
        f"| Python | {platform.python_version()} |",
        *versions,
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
