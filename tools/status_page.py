"""The status page: what the book was built with, how long each notebook runs, and the stored benchmarks."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys

import nbformat
import run_times
from notebook_environment import ROOT, notebooks

sys.path.append(str(ROOT))  # benchmarks is a folder of the repository, not an installed package
from benchmarks import tables  # noqa: E402

PAGE = ROOT / "book" / "status.md"
RECORDS = ROOT / "benchmarks" / "results"
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


def unbroken(text):
    """A number stays beside its unit, also in a narrow column."""
    return text.replace(" ", "&nbsp;") if len(text) <= 12 else text


def markdown_table(rows):
    """A table from rows of cells, each a list of lines."""
    lines = [f"| {' | '.join('<br>'.join(map(unbroken, cell)) for cell in row)} |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:], ""]


def kernel_benchmarks(record):
    """The section on the tangent kernel, from what `python -m benchmarks kernel` stored."""
    lines = [
        "## Kernel benchmarks",
        "",
        "The tangent kernel by `plbook.tangent_kernel` and by its peers. Each cell has the median seconds of a full call,",
        "the ratio to plbook's float64 time in the same round with its quartiles, and the peak memory of a fresh process,",
        "libraries included; those of torch.func include plbook's, about 80 MB, since the networks are made by it.",
        "neural-tangents' time is without compilation, with the fastest of its settings.",
        "",
        *markdown_table(tables.workload_table(record)),
        *markdown_table(tables.kernel_table(record, "float64")),
        "The same in float32, against plbook's float64:",
        "",
        *markdown_table(tables.kernel_table(record, "float32")),
        *(line for sentence in tables.sentences(record) for line in (sentence, "")),
    ]
    if exponents := tables.exponent_table(record):
        lines += [
            "How plbook's time grows: the fitted exponent, beside that of the number of floating-point operations.",
            "",
            *markdown_table(exponents),
        ]
    if memory := tables.memory_table(record):
        lines += [
            "What plbook takes beside the inputs and K, and its bound: one tile of K and, with k outputs, k + 2 times the",
            "activations of the tile's inputs.",
            "",
            *markdown_table(memory),
            tables.memory_sentence(record),
            "",
        ]
    return lines


def hessian_benchmarks(record):
    """The section on Hessian norms, from what `python -m benchmarks hessian` stored."""
    return [
        "## Hessian benchmarks",
        "",
        "The spectral norm of each equation's Hessian by `plbook.hessian_norms`, beside loops over the equations of scipy's",
        "`eigsh` on products by torch.func (the derivative of the gradient forward, or in reverse with one gradient per",
        "equation) and on curvlinops' operator. Cells as above.",
        "",
        *markdown_table(tables.hessian_workload_table(record)),
        *markdown_table(tables.hessian_table(record)),
        *(line for sentence in tables.hessian_sentences(record) for line in (sentence, "")),
    ]


def stored(name):
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def heading(path):
    """The title of a chapter, formulas and all."""
    text = nbformat.read(path, as_version=4).cells[0].source
    return re.search("^# (.*)$", text, flags=re.MULTILINE)[1]


def write():
    today = datetime.datetime.now(datetime.UTC).date()
    rows = [f"| [{heading(path)}](./{path.name}) | {run_time(path)} |" for path in notebooks()]
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
        *kernel_benchmarks(stored("kernel")),
        *hessian_benchmarks(stored("hessian")),
        "## Versions",
        "",
        "| software | version |",
        "| --- | --- |",
        f"| Python | {platform.python_version()} |",
        *versions,
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
