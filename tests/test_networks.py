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
from plbook import reference
from plbook.networks import ACTIVATIONS, Antisymmetric, Divide, Elementwise, Skip

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


# Sums in another order: 1e-12 is some thousand roundings of values of size one.
SAME = dict(rtol=1e-12, atol=1e-12)


def weights(module):
    """The weights in their order; every layer with weights is a Linear or a Conv2d."""
    return list(module.parameters())


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
    """40,000 entries each: three standard errors of the mean, the variance and the fourth moment."""
    for module in (pl.MLP(100, [200], 100), pl.ResNet(100, [100] * 3, 100), pl.ConvNet((2, 5, 10), [20, 100], 4)):
        entries = torch.cat([w.detach().reshape(-1) for w in weights(module)])
        size = math.sqrt(len(entries))
        assert size > 190
        assert abs(entries.mean()) < 3 / size and abs(entries.var() - 1) < 3 * math.sqrt(2) / size
        assert abs(entries.pow(4).mean() - 3) < 3 * math.sqrt(96) / size


@pytest.mark.parametrize("build", [pl.MLP, pl.ResNet, lambda d, *rest, **options: pl.ConvNet((d, 2, 2), *rest, **options)])
def test_the_same_seed_gives_the_same_network_and_torchs_generator_is_left_alone(build):
    state = torch.get_rng_state()
    first, again, other = (build(3, [4, 4], seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))


def test_a_module_prints_what_it_does():
    text = str(pl.MLP(4, [3], activation="sin"))
    assert "sin" in text and "Divide(2)" in text and "Linear(in_features=4, out_features=3, bias=False)" in text


# ResNet


@pytest.mark.parametrize("output_activation", [None, "sigmoid"])
@pytest.mark.parametrize("activation", FORMULAS)
def test_a_resnet_is_equation_51_with_skips_where_sizes_agree(activation, output_activation):
    """Sizes 4, 4, 4, 5, 5, 4, 4: skips at layers 2 and 4 only, not at the first, nor at the output."""
    module = pl.ResNet(4, [4, 4, 5, 5, 4], 4, activation=activation, output_activation=output_activation)
    sigma, w = FORMULAS[activation], weights(module)
    assert [tuple(x.shape) for x in w] == [(4, 4), (4, 4), (5, 4), (5, 5), (4, 5), (4, 4)]
    inputs = randn(3, 4)
    alpha = sigma(inputs @ w[0].T / 2)
    alpha = sigma(alpha @ w[1].T / 2) + alpha
    alpha = sigma(alpha @ w[2].T / 2)
    alpha = sigma(alpha @ w[3].T / math.sqrt(5)) + alpha
    alpha = sigma(alpha @ w[4].T / math.sqrt(5))
    assert_close(module(inputs), FORMULAS[output_activation or "identity"](alpha @ w[5].T / 2), **SAME)
    assert sum(isinstance(layer, Skip) for layer in module.modules()) == 2


@given(widths=st.lists(st.integers(1, 3), max_size=6), input_size=st.integers(1, 3), output_size=st.integers(1, 3))
@runs(max_examples=40)
def test_skips_are_on_hidden_layers_of_equal_sizes_only(widths, input_size, output_size):
    module = pl.ResNet(input_size, widths, output_size)
    skips = [layer for layer in module if isinstance(layer, Skip)]
    assert len(skips) == sum(a == b for a, b in zip(widths, widths[1:]))
    plain = pl.MLP(input_size, widths, output_size)
    assert all(torch.equal(a, b) for a, b in zip(weights(module), weights(plain)))
    if not skips:
        assert torch.equal(module(inputs := randn(2, input_size)), plain(inputs))


def test_a_skip_passes_its_input_on_and_a_network_without_one_does_not():
    """With the weights of the second layer at 0, tanh(0) = 0: the skip returns its input, the plain layer 0."""
    inputs = randn(3, 2)
    values = []
    for module in (pl.ResNet(2, [5, 5]), pl.MLP(2, [5, 5])):
        first, second, last = weights(module)
        with torch.no_grad():
            second.zero_()
        values.append((module(inputs), torch.tanh(inputs @ first.T / math.sqrt(2)) @ last.T / math.sqrt(5)))
    assert_close(*values[0], **SAME)
    assert not values[1][0].any()


# ConvNet


def convolve(weight, alpha):
    """(W * alpha)_{i,q} = sum over k and j of W_{k,i,j} alpha_{j,q+k-(K+1)/2}, with 0 outside, by loops; one input.

    In two dimensions k and q are pairs. Counted from 0, entry k of the kernel meets position q + k - (K - 1)/2.
    """
    out, channels, tall, wide = weight.shape
    _, height, width = alpha.shape
    result = torch.zeros(out, height, width, dtype=torch.float64)
    for i in range(out):
        for y in range(height):
            for x in range(width):
                for j in range(channels):
                    for a in range(tall):
                        for b in range(wide):
                            row, column = y + a - (tall - 1) // 2, x + b - (wide - 1) // 2
                            if 0 <= row < height and 0 <= column < width:
                                result[i, y, x] += weight[i, j, a, b] * alpha[j, row, column]
    return result


@pytest.mark.parametrize("output_activation", [None, "tanh"])
@pytest.mark.parametrize(
    "size, widths, outputs, kernel, activation",
    [
        ((2, 3, 4), [3, 2], 2, 3, "tanh"),
        ((2, 1, 6), [3, 2], 1, (1, 3), "softplus"),
        ((1, 4, 3), [2], 2, (3, 1), "sin"),
        ((3, 2, 2), [2, 2], 1, 5, "gelu"),
        ((2, 3, 3), [4], 1, 1, "sigmoid"),
        ((2, 2, 3), [], 2, 3, "tanh"),
    ],
)
def test_a_convnet_is_equations_49_and_50(size, widths, outputs, kernel, activation, output_activation):
    module = pl.ConvNet(
        size, widths, outputs, kernel_size=kernel, activation=activation, output_activation=output_activation
    )
    *hidden, last = [w.detach() for w in weights(module)]
    expected_kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    assert [tuple(w.shape) for w in hidden] == [(b, a, *expected_kernel) for a, b in zip([size[0], *widths], widths)]
    inputs = randn(2, *size)
    values = []
    for alpha in inputs:
        for weight in hidden:
            alpha = FORMULAS[activation](convolve(weight, alpha) / math.sqrt(len(alpha)))
        last_of = last.reshape(outputs, *alpha.shape)
        values.append(torch.einsum("oihw,ihw->o", last_of, alpha) / math.sqrt(len(alpha)))
    expected = FORMULAS[output_activation or "identity"](torch.stack(values))
    assert_close(module(inputs).detach(), expected, **SAME)


def test_a_convolution_reaches_just_its_kernel():
    """One entry of the input changes the 3 x 3 entries around it, and less at a corner."""
    layer = pl.ConvNet((1, 5, 5), [1])[1]
    for row, column, count in [(2, 2, 9), (0, 0, 4), (4, 2, 6)]:
        inputs = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
        inputs[0, 0, row, column] = 1
        assert (layer(inputs) != 0).sum() == count


def test_the_scaling_leaves_kernel_entries_and_positions_undivided():
    """Identity, inputs of entries +-1: variance K^l inside, at most K^L Q at the output, K^L Q exactly for K = 1.

    Over 100 channels, 100 outputs and 20 seeds a mean square is good to some 5%.
    """
    inputs = randn(1, 2, 5, 5).sign()
    inner, outputs, pointwise = [], [], []
    for seed in range(20):
        module = pl.ConvNet((2, 5, 5), [100, 100], 100, activation="identity", seed=seed)
        inner.append(module[:5](inputs)[0, :, 2, 2].square().mean())
        outputs.append(module(inputs).square().mean())
        module = pl.ConvNet((2, 5, 5), [100, 100], 100, kernel_size=1, activation="identity", seed=seed)
        pointwise.append(module(inputs).square().mean())
    assert torch.stack(inner).mean().item() == pytest.approx(81, rel=0.2)
    assert torch.stack(pointwise).mean().item() == pytest.approx(25, rel=0.2)
    # A corner of a 5 x 5 image sees 4 of 9 entries: the border lowers the output's variance well below 81 * 25.
    assert 0.3 * 81 * 25 < torch.stack(outputs).mean().item() < 0.8 * 81 * 25


# What every network of the book offers


# Antisymmetric


def test_an_antisymmetric_network_is_two_copies_of_opposite_sign():
    """v . tanh(W x / sqrt(m_0)) / sqrt(width) by hand; 0 at the start, and no longer when one copy moves alone."""
    module, inputs = Antisymmetric(4, 10), randn(6, 4)
    hidden, output = (w.detach() for w in weights(module))
    assert torch.equal(hidden[:5], hidden[5:]) and torch.equal(output[:, :5], -output[:, 5:])
    assert torch.equal(output.abs(), torch.ones_like(output))
    assert module(inputs).abs().max() < 1e-15  # ten roundings of numbers below 1/3
    moved = randn(10, 4)
    with torch.no_grad():
        module[1].weight.copy_(moved)
    expected = torch.tanh(inputs @ moved.T / 2) @ output.T / math.sqrt(10)
    assert_close(module(inputs), expected, **SAME)
    assert expected.abs().max() > 0.1


def test_the_kernel_of_an_antisymmetric_network_is_that_of_one_copy():
    """K is a sum over units divided by their number, and the units of the second copy add what those of the first did."""
    module, inputs = Antisymmetric(5, 12, seed=3), randn(4, 5)
    single = pl.MLP(5, [6])
    with torch.no_grad():
        for half, whole in zip(weights(single), weights(module)):
            half.copy_(whole[:6] if len(whole) > 1 else whole[:, :6])
    kernels = [pl.tangent_kernel(pl.NetworkSystem(network, inputs, torch.zeros(4))) for network in (module, single)]
    assert_close(*kernels, **SAME)


def test_half_of_the_output_weights_are_negative_and_the_rest_standard_normal():
    """2,000 signs and 20,000 entries: three standard errors."""
    hidden, output = (w.detach() for w in weights(Antisymmetric(10, 4000)))
    assert abs(output[:, :2000].mean()) < 3 / math.sqrt(2000)
    assert not torch.equal(hidden, Antisymmetric(10, 4000, seed=1)[1].weight)
    assert abs(hidden.mean()) < 3 / math.sqrt(20_000) and abs(hidden[:2000].var() - 1) < 3 * math.sqrt(2 / 20_000)


NETWORKS = {
    "MLP": (lambda: pl.MLP(3, [5, 4], 2), (3,)),
    "bottleneck": (lambda: pl.MLP(3, [8, 2, 8], 2, activation="softplus"), (3,)),
    "Antisymmetric": (lambda: Antisymmetric(3, 8, seed=1), (3,)),
    "ResNet": (lambda: pl.ResNet(3, [5, 5, 4, 4], 2), (3,)),
    "ResNet, output activation": (lambda: pl.ResNet(4, [4, 4], 1, activation="gelu", output_activation="sigmoid"), (4,)),
    "ConvNet": (lambda: pl.ConvNet((2, 3, 4), [3, 2], 2), (2, 3, 4)),
    "ConvNet on a line": (lambda: pl.ConvNet((1, 1, 6), [3, 3], kernel_size=(1, 3), activation="erf"), (1, 1, 6)),
    "ConvNet, output activation": (lambda: pl.ConvNet((1, 3, 3), [4], 2, output_activation="tanh"), (1, 3, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_kernel_goes_by_layers_and_equals_the_twin(name):
    build, sample = NETWORKS[name]
    module, inputs = build(), randn(4, *sample)
    targets = module(inputs).detach() + 1
    system = pl.NetworkSystem(module, inputs, targets)
    assert all(route.route == "layer" for route in pl.explain_kernel(system).routes)
    by_layers, by_jacobian = (pl.tangent_kernel(system, method=method) for method in ("layers", "jacobian"))
    twin = reference.tangent_kernel(system, system.start)
    size = twin.abs().max().item()
    assert_close(by_layers, by_jacobian, rtol=0, atol=1e-10 * size)
    assert_close(by_layers, twin, rtol=0, atol=1e-10 * size)
    assert torch.allclose(pl.hessian_norms(system, rtol=1e-8).per_equation, reference.hessian_norms(system, system.start))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_traced_and_is_made_of_known_layers(name):
    build, sample = NETWORKS[name]
    module, inputs = build(), randn(2, *sample)
    traced = torch.fx.symbolic_trace(module)
    assert torch.equal(traced(inputs), module(inputs))
    own = (Divide, Elementwise, Skip)
    assert all(isinstance(layer, own) or type(layer).__module__.startswith("torch.nn") for layer in module.modules())


def test_a_bottleneck_passes_no_more_than_its_width():
    """With a bottleneck of 2 the values of the last hidden layer before its activation have rank 2, without it more."""
    inputs = randn(20, 6)
    for widths, rank in [([30, 2, 30], 2), ([30, 7, 30], 7)]:
        before_the_activation = pl.MLP(6, widths)[:8](inputs)
        assert torch.linalg.matrix_rank(before_the_activation) == rank


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
        (lambda: Antisymmetric(3, 5), ["even", "5"]),
        (lambda: Antisymmetric(3, 0), ["[3, 0, 1]", ">= 1"]),
        (lambda: pl.ResNet(3, 5), ["widths", "list", "[5]"]),
        (lambda: pl.ResNet(3, [5, 0]), ["[3, 5, 0, 1]", ">= 1"]),
        (lambda: pl.ResNet(3, [5], activation="swish"), ["'swish'"]),
        (lambda: pl.ConvNet(3, [5]), ["input_size", "(channels, height, width)", "3"]),
        (lambda: pl.ConvNet((3, 8), [5]), ["input_size", "(3, 8)"]),
        (lambda: pl.ConvNet((1, 8, 8), 5), ["widths", "[5]"]),
        (lambda: pl.ConvNet((1, 0, 8), [5]), ["[1, 0, 8, 5, 1]"]),
        (lambda: pl.ConvNet((1, 8, 8), [5], kernel_size=2), ["kernel_size", "odd", "2"]),
        (lambda: pl.ConvNet((1, 8, 8), [5], kernel_size=(1, 4)), ["(1, 4)"]),
        (lambda: pl.ConvNet((1, 8, 8), [5], kernel_size=3.0), ["3.0"]),
        (lambda: pl.ConvNet((1, 8, 8), [5], kernel_size=(3,)), ["(3,)", "pair"]),
        (lambda: pl.ConvNet((1, 8, 8), [5], output_activation="softmax"), ["'softmax'"]),
    ],
)
def test_bad_options_are_refused(build, words):
    with pytest.raises(ValueError) as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)
