"""The kernel on a GPU, where there is one: the same matrix as on the CPU, and it stays there."""

import pytest
import torch
from helpers import network, randn
from torch import nn

import plbook as pl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MODULES = {
    "MLP": (lambda: pl.MLP(5, [40, 40], 2), (5,)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)), (1, 6, 6)),
    "normalized": (lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1)), (5,)),
}


def on_both(kind):
    """The same system on the CPU and on the GPU; data stays on the CPU and is brought over."""
    build, sample = MODULES[kind]
    system = network(build, *sample, num_inputs=30)
    targets = system.targets.view(30, -1)
    return system, pl.NetworkSystem(system.module_at(system.start).cuda(), system._samples, targets)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("options", [{}, {"method": "jacobian"}, {"memory_budget": 20_000}])
def test_the_kernel_on_the_gpu_is_that_on_the_cpu(kind, options):
    system, gpu = on_both(kind)
    expected, kernel = pl.tangent_kernel(system), pl.tangent_kernel(gpu, **options)
    assert kernel.is_cuda and (kernel.cpu() - expected).abs().max() <= 1e-10 * expected.abs().max()
    product = pl.kernel_vector_product(gpu, torch.ones(gpu.num_equations))
    assert product.is_cuda and (product.cpu() - expected.sum(1)).abs().max() <= 1e-10 * expected.sum(1).abs().max()


@pytest.mark.parametrize("kind", MODULES)
def test_the_spectrum_on_the_gpu_is_that_on_the_cpu(kind):
    system, gpu = on_both(kind)
    expected, found = pl.kernel_spectrum(system), pl.kernel_spectrum(gpu)
    assert abs(found.smallest - expected.smallest) <= expected.error + found.error
    assert abs(found.largest - expected.largest) <= expected.error + found.error


def test_other_inputs_are_brought_to_the_gpu():
    system, gpu = on_both("MLP")
    other = randn(4, 5, seed=8)
    expected, block = pl.tangent_kernel(system, other=other), pl.tangent_kernel(gpu, other=other)
    assert block.is_cuda and (block.cpu() - expected).abs().max() <= 1e-10 * expected.abs().max()
