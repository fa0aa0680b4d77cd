"""The tangent kernel on many processes: the same tiles, shared out by torch.distributed."""

import torch
import torch.distributed as dist

from plbook.systems import NetworkSystem
from plbook.tangent_kernel.kernel import other_inputs
from plbook.tangent_kernel.layers import probe
from plbook.tangent_kernel.tiles import add_tiles, new_kernel, tiling


def distributed_tangent_kernel(system, w=None, *, other=None, memory_budget=2**31):
    """The tangent kernel K(w), shape (n, n), computed by all processes of torch.distributed's group together.

    Every process calls it with the same system. Each computes about the same number of tiles, then the tiles are added
    up (all_reduce), and every process returns the whole K. This file, run by

        torchrun --nproc-per-node 2 kernel.py

    on one machine, or with torchrun's --nnodes and --rdzv-endpoint on several, prints one number:

        import torch.distributed as dist
        import plbook as pl

        dist.init_process_group("gloo")  # "nccl" for GPUs, with the module on the GPU of this process
        digits = pl.datasets.digits(200)
        system = pl.NetworkSystem(pl.MLP(64, [256]), digits.inputs, digits.targets)
        kernel = pl.distributed_tangent_kernel(system)
        if dist.get_rank() == 0:
            print(f"trace {kernel.trace():.3g}")
        dist.destroy_process_group()

    Args:
        system: a NetworkSystem, the same in every process: the same weights and inputs.
        w, other: as in `tangent_kernel`.
        memory_budget: as in `tangent_kernel`, in bytes for each process beside K, the same in every process.

    Cost: every process holds K and runs the network over about all inputs; the products that make up K, n^2 per width,
    are shared. So it pays where n is larger than the widths times the number of processes.

    Raises:
        ValueError: without a process group, for a system that is not a NetworkSystem or not the same everywhere, and as
            `tangent_kernel`.
    """
    if not isinstance(system, NetworkSystem):
        raise ValueError("distributed_tangent_kernel needs a NetworkSystem: the kernel of a plain function has no tiles. Use tangent_kernel.")
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError('there is no process group. Call torch.distributed.init_process_group("gloo") first, and start the program by torchrun.')
    w, other = system.point(w), other_inputs(system, other)
    rows, rank, world = system._samples, dist.get_rank(), dist.get_world_size()
    # The budget, too: it decides where the tiles are.
    _check_same(w, rows, rows if other is None else other, w.new_tensor([memory_budget]))
    # With two pieces a side for each process, shares differ little.
    probes, kernel = probe(system, w, rows), new_kernel(system, rows, other)
    layout = tiling(system, rows, other, probes, memory_budget, pieces=2 * world)
    count = len(layout.tiles)
    mine = layout.tiles[count * rank // world : count * (rank + 1) // world]
    add_tiles(kernel, system, w, rows, other, layout, mine, probes)
    dist.all_reduce(kernel)
    return kernel


def _check_same(*tensors):
    """ValueError unless all processes hold the same tensors, as far as two sums of each tell."""
    sums = []
    for tensor in tensors:
        flat = tensor.reshape(-1).to(torch.float64)
        weights = torch.arange(1, len(flat) + 1, dtype=torch.float64, device=flat.device).sin()
        sums += [flat.new_tensor(len(flat)), flat.abs().sum(), flat @ weights]
    mine = torch.stack(sums)
    first = mine.clone()
    dist.broadcast(first, src=0)
    # All have to learn of it, or those that agree with the first would wait for the others.
    differ = (~torch.isclose(mine, first, rtol=1e-9, atol=0)).any().to(torch.float64).reshape(1).to(mine.device)
    dist.all_reduce(differ)
    if differ.item():
        raise ValueError(
            f"{int(differ.item())} of {dist.get_world_size()} processes have other weights, inputs or memory_budget than the first. "
            "Build the system from the same seeds and data in every process."
        )
