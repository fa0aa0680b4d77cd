"""The worker that measures plbook's memory in its own process."""

import time
from pathlib import Path

import plbook as pl
from benchmarks.serving import serve
from benchmarks.workloads import Workload
from plbook.tangent_kernel.layers import probe
from plbook.tangent_kernel.tiles import pass_cost, tiling

FEW = 40


def kernel(workload, memory_budget):
    """The peak above inputs and K, beside the bound, in MB; and how many tiles to a side."""
    workload = Workload(**workload)
    network, inputs, targets = workload.network(), workload.inputs(), workload.targets()
    system = pl.NetworkSystem(network, inputs, targets)
    # What libraries set up in a first call is not the kernel's.
    pl.tangent_kernel(pl.NetworkSystem(network, inputs[:FEW], targets[:FEW]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    result = pl.tangent_kernel(system, memory_budget=memory_budget)
    peak = _status("VmHWM") - before - 8 * result.numel()
    probes = probe(system, system.start, inputs)
    layout = tiling(system, inputs, None, probes, memory_budget)
    size = max(rows.stop - rows.start for rows in layout.rows)
    tile = 8 * (size * workload.outputs) ** 2
    activations = (size if len(layout.rows) == 1 else 2 * size) * pass_cost(system, probes).activations
    bound = tile + (workload.outputs + 2) * activations
    sizes = {"tile_mb": tile, "activations_mb": activations, "bound_mb": bound, "peak_mb": peak}
    return {"tiles_a_side": len(layout.rows), **{name: size / 10**6 for name, size in sizes.items()}}


def spectrum(n, dimension, width):
    """Both ends of the spectrum for n random points, and the seconds that took."""
    data = pl.datasets.sphere(n, dimension)
    system = pl.NetworkSystem(pl.MLP(dimension, [width]), data.inputs, data.targets)
    start = time.perf_counter()
    found = pl.kernel_spectrum(system)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "smallest": found.smallest, "largest": found.largest, "error": found.error, "resolved": found.resolved}


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    serve({"kernel": kernel, "spectrum": spectrum})
