"""What each process of tests/test_distributed.py runs, under torchrun: save the kernels that its group computes."""

import sys

import torch
import torch.distributed as dist
from distributed_cases import CASES, OTHER

import plbook as pl

dist.init_process_group("gloo")
kernels = {name: pl.distributed_tangent_kernel(build()) for name, build in CASES.items()}
kernels["other inputs"] = pl.distributed_tangent_kernel(CASES["one output"](), other=OTHER, memory_budget=200_000)
kernels["away from the start"] = pl.distributed_tangent_kernel(CASES["one output"](), CASES["one output"]().start + 0.1)
rank = dist.get_rank()
torch.save(kernels, f"{sys.argv[1]}/{rank}.pt")
refusals = {}
for name, options in {"inputs": {"other": OTHER + rank}, "budget": {"memory_budget": 2**31 // (rank + 1)}}.items():
    try:
        pl.distributed_tangent_kernel(CASES["one output"](), **options)
    except ValueError as error:
        refusals[name] = str(error)
torch.save(refusals, f"{sys.argv[1]}/refusals-{rank}.pt")
dist.destroy_process_group()
