"""The one environment in which notebooks run, so that a second run gives the same outputs."""

import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# One thread, because sums by several threads differ in their last digits.
VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
}


def set_environment():
    """Set the variables for this process and the kernels it starts; kernels import this tree's plbook."""
    os.environ.update(VARIABLES)
    os.environ.pop("MPLBACKEND", None)  # the kernel then draws inline
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(ROOT) not in others[:1]:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *others])


def notebooks():
    """The chapters, in order."""
    return sorted((ROOT / "book").glob("*.ipynb"))


class NotebookFailed(Exception):
    """A notebook did not run to its end; the text names the cell."""


def execute(path):
    """Run a notebook from top to bottom; return it with its outputs, and the seconds that took."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    begun = []
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no note on TCP for each kernel
        on_cell_start=lambda cell, cell_index: begun.append(cell.id),
        resources={"metadata": {"path": str(path.parent)}},
    )
    start = time.monotonic()
    try:
        client.execute()
    except Exception as error:
        cell = begun[-1] if begun else "none"
        raise NotebookFailed(f"{path.name}, cell {cell}: {error}") from error
    return notebook, time.monotonic() - start
