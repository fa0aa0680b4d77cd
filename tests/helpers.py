"""Systems of every kind that plbook handles, for the tests that hold a fast routine against its slow twin."""

import importlib
import math
from contextlib import contextmanager
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import nn

import plbook as pl
from plbook.networks import ACTIVATIONS


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seeded(build, seed=0):
    """A module with torch's own initialization, drawn without touching the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


class Forward(nn.Module):
    """A module from its layers and a forward function of (module, x)."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


def tied(x_size=3):
    """Two Linear layers that share one square weight."""
    module = nn.Sequential(nn.Linear(x_size, x_size), nn.Tanh(), nn.Linear(x_size, x_size))
    module[2].weight = module[0].weight
    return module


def frozen(module, *names):
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in names)
    return module


def network(build, *sample, num_inputs=4, seed=0):
    """The system of a module on Gaussian inputs of shape (num_inputs, *sample) and Gaussian targets."""
    module = seeded(build, seed)
    inputs = randn(num_inputs, *sample, seed=seed + 1)
    with torch.no_grad():
        shape = module.double()(inputs).reshape(num_inputs, -1).shape
    return pl.NetworkSystem(module, inputs, randn(*shape, seed=seed + 2))


def convolutional():
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)]
    return nn.Sequential(*layers).eval()


EXAMPLES = {
    "linear": lambda: pl.toys.linear(randn(3, 5), randn(3, seed=1), randn(5, seed=2)),
    "product": pl.toys.product,
    "cubic": pl.toys.cubic,
    "sines": lambda: pl.toys.sines(randn(3, 4), randn(3, seed=1), randn(4, seed=2)),
    "square": pl.toys.square,
    "repeated": pl.toys.repeated,
    "chain": pl.toys.chain,
    "copies": lambda: pl.toys.copies(3),
    "quadratics": lambda: pl.toys.quadratics(4, 6),
    "MLP": lambda: network(lambda: pl.MLP(3, [5, 4], 2), 3),
    "biases": lambda: network(lambda: nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 1)), 3),
    "normalized": lambda: network(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)), 3),
    "convolutional": lambda: network(convolutional, 1, 4, 4),
    "tied": lambda: network(tied, 3),
    "frozen": lambda: network(lambda: frozen(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), "0.weight", "2.bias"), 3),
    # As many outputs as inputs: under two vmaps, torch 2.13 gets this one wrong without an error.
    "PReLU": lambda: network(lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 4), nn.PReLU()), 3),
    "one input": lambda: network(lambda: pl.MLP(2, [3], 2), 2, num_inputs=1),
}


@st.composite
def fully_connected(draw):
    """A network of torch's own layers: any widths, activations, biases, frozen parts; inputs and targets."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    sizes = [draw(st.integers(1, 12)), *sizes, draw(st.integers(1, 5))]
    seed = draw(st.integers(0, 10**6))
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        bias, activation = draw(st.booleans()), draw(st.sampled_from(sorted(ACTIVATIONS)))
        layers += [seeded(lambda: nn.Linear(fan_in, fan_out, bias=bias), seed + len(layers)), ACTIVATIONS[activation]()]
    module = nn.Sequential(*layers[:-1])
    parameters = list(module.parameters())
    trained = draw(st.integers(0, len(parameters) - 1))
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index == trained or draw(st.booleans()))
    num_inputs = draw(st.integers(1, 8))
    return pl.NetworkSystem(module, randn(num_inputs, sizes[0], seed=seed), randn(num_inputs, sizes[-1], seed=seed + 1))


# What kernel_spectrum starts from is chosen by size; these limits force each choice.
SPECTRUM_ROUTES = {
    "singular values": {"JACOBIAN_BYTES": math.inf},
    "eigenvalues": {"JACOBIAN_BYTES": 0},
    "factorization": {"JACOBIAN_BYTES": 0, "DENSE_EQUATIONS": 0},
}


def spectrum_module():
    """plbook.tangent_kernel.spectrum."""
    return importlib.import_module("plbook.tangent_kernel.spectrum")


@contextmanager
def spectrum_route(name):
    with mock.patch.multiple(spectrum_module(), **SPECTRUM_ROUTES[name]):
        yield
