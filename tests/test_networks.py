import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import randn
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook.networks import ACTIVATIONS

FORMULAS = {
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "relu": lambda x: x * (x > 0),
    "erf": torch.erf,
    "sin": torch.sin,
    "identity": lambda x: x,
}


def weights(module):
    return [layer.weight for layer in module if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("output_activation", [None, "tanh"])
@pytest.mark.parametrize("activation", FORMULAS)
def test_the_forward_pass_is_equation_17(activation, output_activation):
    """alpha_l = sigma(W_l alpha_{l-1} / sqrt(m_{l-1})), by hand."""
    module = pl.MLP(3, [5, 7], 2, activation=activation, output_activation=output_activation)
    inputs = randn(4, 3)
    first, second, last = weights(module)
    hidden = FORMULAS[activation](inputs @ first.T / math.sqrt(3))
    hidden = FORMULAS[activation](hidden @ second.T / math.sqrt(5))
    expected = FORMULAS[output_activation or "identity"](hidden @ last.T / math.sqrt(7))
    assert_close(module(inputs), expected, rtol=1e-12, atol=1e-12)


def test_every_activation_has_a_formula_here():
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("widths", [[], [50], [50, 30, 40]])
def test_outputs_have_variance_one_at_every_depth(widths):
    """With the identity and |x|^2 = fan-in, E f^2 = 1 exactly; over 40 seeds the mean is good to about 0.1."""
    inputs = pl.datasets.sphere(1, 20).inputs
    squares = [pl.MLP(20, widths, 200, activation="identity", seed=seed)(inputs).square().mean() for seed in range(40)]
    assert torch.stack(squares).mean().item() == pytest.approx(1, abs=0.25)


@given(input_size=st.integers(1, 5), widths=st.lists(st.integers(1, 5), max_size=4), outputs=st.integers(1, 3))
@runs(max_examples=30)
def test_sizes_are_those_asked_for_without_biases_in_float64(input_size, widths, outputs):
    module = pl.MLP(input_size, widths, outputs)
    sizes = [input_size, *widths, outputs]
    assert [tuple(p.shape) for p in module.parameters()] == [(b, a) for a, b in zip(sizes, sizes[1:])]
    assert all(p.dtype == torch.float64 and p.requires_grad for p in module.parameters())
    assert module(randn(2, input_size)).shape == (2, outputs)


def test_weights_are_standard_normal_and_follow_the_seed():
    entries = torch.cat([w.detach().reshape(-1) for w in weights(pl.MLP(100, [200], 100))])
    # 40,000 entries: three standard errors of the mean, the variance and the fourth moment.
    assert abs(entries.mean()) < 3 / 200 and abs(entries.var() - 1) < 3 * math.sqrt(2) / 200
    assert abs(entries.pow(4).mean() - 3) < 3 * math.sqrt(96) / 200

    state = torch.get_rng_state()
    first, again, other = (pl.MLP(3, [4], seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))


def test_a_module_prints_what_it_does():
    text = str(pl.MLP(4, [3], activation="sin"))
    assert "sin" in text and "Divide(2)" in text and "Linear(in_features=4, out_features=3, bias=False)" in text


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: pl.MLP(3, 5), ["widths", "list", "[5]"]),
        (lambda: pl.MLP(0, [5]), ["[0, 5, 1]", ">= 1"]),
        (lambda: pl.MLP(3, [5, -1]), ["[3, 5, -1, 1]"]),
        (lambda: pl.MLP(3, [2.5]), ["[3, 2.5, 1]", "whole"]),
        (lambda: pl.MLP(3, [5], 0), ["[3, 5, 0]"]),
        (lambda: pl.MLP(3, [5], activation="swish"), ["'swish'", "tanh", "silu"]),
        (lambda: pl.MLP(3, [5], output_activation="softmax"), ["'softmax'", "tanh"]),
    ],
)
def test_bad_options_are_refused(build, words):
    with pytest.raises(ValueError) as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)
