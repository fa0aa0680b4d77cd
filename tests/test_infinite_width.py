import importlib
import math

import mpmath
import numpy as np
import pytest
import torch
from helpers import randn
from torch.testing import assert_close

import plbook as pl
from plbook.networks import ACTIVATIONS

# The module, which the function in it does not hide under this name.
module = importlib.import_module("plbook.tangent_kernel.infinite_width")
SMOOTH = [name for name in ACTIVATIONS if name not in ("identity", "relu", "erf")]


def distance(kernel, expected, other=None):
    """Largest error, relative to sqrt(K_ii K_jj) of the expected square kernel."""
    scale = expected.diagonal().sqrt()
    return ((kernel - expected).abs() / (scale[:, None] * scale)).max().item()


def almost_equal_inputs(scale=1.0):
    """Inputs in every position to each other: equal, almost equal, longer, orthogonal, opposite, almost opposite, small."""
    x, z = randn(6), randn(6, seed=1)
    z -= (x @ z) / (x @ x) * x
    near = [x + delta * z for delta in (1e-15, 1e-12, 1e-8, 1e-6, 1e-3, 0.1)]
    return scale * torch.stack([x, x, *near, z, -x, 1e-7 * z - x, -near[2], 3 * x, 1e-9 * x, 1e-9 * near[3], near[5] / 7])


# Fifty digits


def relu_moments(a, b, c):
    theta = mpmath.acos(c / mpmath.sqrt(a * b)) if a * b else mpmath.mpf(0)
    pi = mpmath.pi
    return mpmath.sqrt(a * b) * (mpmath.sin(theta) + (pi - theta) * mpmath.cos(theta)) / (2 * pi), (pi - theta) / (2 * pi)


def erf_moments(a, b, c):
    product = (1 + 2 * a) * (1 + 2 * b)
    return 2 / mpmath.pi * mpmath.asin(2 * c / mpmath.sqrt(product)), 4 / mpmath.pi / mpmath.sqrt(product - 4 * c * c)


MOMENTS = {"relu": relu_moments, "erf": erf_moments}


def fifty_digits(inputs, depth, activation):
    """The recursion in 50 digits, from the float64 inputs as they are."""
    with mpmath.workdps(50):
        points = [[mpmath.mpf(value) for value in row] for row in inputs.tolist()]
        n, d = inputs.shape
        pairs = [(i, j) for i in range(n) for j in range(n)]
        covariance = {(i, j): mpmath.fdot(points[i], points[j]) / d for i, j in pairs}
        kernel = covariance
        for _ in range(depth):
            moments = {(i, j): MOMENTS[activation](covariance[i, i], covariance[j, j], covariance[i, j]) for i, j in pairs}
            covariance = {pair: moments[pair][0] for pair in pairs}
            kernel = {pair: covariance[pair] + moments[pair][1] * kernel[pair] for pair in pairs}
        return torch.tensor([[float(kernel[i, j].real) for j in range(n)] for i in range(n)], dtype=torch.float64)


@pytest.mark.parametrize("angle", [0, 1e-6, 1e-3, 0.3, 1, "pi/2", 2, 3, 3.14159, "pi"])
def test_the_closed_form_for_relu_is_the_integral(angle):
    """In polar coordinates the radius integrates to E[r^2] / 2 pi = 1 / pi, and the two half planes overlap in an arc."""
    with mpmath.workdps(30):
        angle = {"pi": +mpmath.pi, "pi/2": mpmath.pi / 2}.get(angle, angle)
        arc = [angle - mpmath.pi / 2, mpmath.pi / 2]
        value = 2 * 3 * mpmath.quad(lambda t: mpmath.cos(t) * mpmath.cos(t - angle), arc) / mpmath.pi
        expected = relu_moments(mpmath.mpf(4), mpmath.mpf(9), 6 * mpmath.cos(angle))
        assert abs(value - expected[0]) < 1e-20 and abs((arc[1] - arc[0]) / (2 * mpmath.pi) - expected[1]) < 1e-13
        wrong = relu_moments(mpmath.mpf(4), mpmath.mpf(9), 6 * mpmath.cos(angle + 0.01))
        assert abs(value - wrong[0]) > 1e-8


@pytest.mark.parametrize("c", [-1.2, -0.7, 0, 0.1, 1, 1.2])
def test_the_closed_form_for_erf_is_the_integral(c):
    """Given u, v is Gaussian of mean c u / a and variance s = b - c^2 / a, and E[erf(v)] = erf(mean / sqrt(1 + 2 s))."""
    a, b, c = mpmath.mpf("0.8"), mpmath.mpf("1.8"), mpmath.mpf(c)
    s = b - c * c / a

    def density(u):
        return mpmath.exp(-u * u / (2 * a)) / mpmath.sqrt(2 * mpmath.pi * a)

    def given(u):
        return mpmath.erf(c * u / a / mpmath.sqrt(1 + 2 * s))

    value = mpmath.quad(lambda u: density(u) * mpmath.erf(u) * given(u), mpmath.linspace(-9, 9, 7))
    assert abs(value - erf_moments(a, b, c)[0]) < 1e-12
    # Price's theorem: the derivative of E[erf(u) erf(v)] by c is E[erf'(u) erf'(v)].
    assert abs(mpmath.diff(lambda c: erf_moments(a, b, c)[0], c) - erf_moments(a, b, c)[1]) < 1e-12


@pytest.mark.parametrize("activation", MOMENTS)
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 30.0])
def test_closed_forms_are_right_to_the_last_digits(activation, depth, scale):
    inputs = almost_equal_inputs(scale)
    kernel = pl.infinite_width_kernel(inputs, depth=depth, activation=activation)
    expected = fifty_digits(inputs, depth, activation)
    # A few units in the last place for each layer.
    assert distance(kernel, expected) < 1e-14 * (depth + 1)
    # The accuracy is needed: K moves by far more when an almost equal input becomes an equal one.
    assert distance(kernel, fifty_digits(inputs[[0, 1, 2, 3, 4, 5, 0, *range(7, len(inputs))]], depth, activation)) > 1e-10


# Quadrature


def test_quadrature_reproduces_the_closed_form_for_erf(monkeypatch):
    inputs = randn(8, 5)
    closed = pl.infinite_width_kernel(inputs, depth=3, activation="erf")
    monkeypatch.delitem(module.LAYERS, "erf")
    # Ten times the tolerance of one layer's coefficients.
    assert distance(pl.infinite_width_kernel(inputs, depth=3, activation="erf"), closed) < 1e-9
    assert distance(pl.infinite_width_kernel(inputs, depth=3, activation="tanh"), closed) > 1e-2


@pytest.mark.parametrize("activation", SMOOTH)
def test_quadrature_is_the_integral(activation):
    """One pair of inputs, by the plain product rule with many nodes on a Cholesky factor."""
    inputs = randn(2, 3, seed=4)
    (a, c), (_, b) = (inputs @ inputs.T / 3).tolist()
    z, weights = np.polynomial.hermite_e.hermegauss(150)
    u = math.sqrt(a) * z[:, None] + 0 * z
    v = c / math.sqrt(a) * z[:, None] + math.sqrt(b - c * c / a) * z
    weights = np.outer(weights, weights) / (2 * math.pi)
    function = ACTIVATIONS[activation]()
    u, v = (torch.tensor(x, requires_grad=True) for x in (u, v))
    values = [function(x) for x in (u, v)]
    slopes = [torch.autograd.grad(value.sum(), x)[0] for value, x in zip(values, (u, v))]
    value, slope = ((torch.tensor(weights) * x * y).sum().item() for x, y in (values, slopes))
    kernel = pl.infinite_width_kernel(inputs, depth=1, activation=activation)
    # The product rule itself is good to about 1e-8 here, for the slowest of these functions.
    assert abs(kernel[0, 1].item() - (value + slope * c)) < 1e-7 * abs(kernel).max().item()
    assert abs(kernel[0, 1].item() - value) > 1e-3


# The limit


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_linear_networks_have_a_closed_form(depth):
    inputs, other = randn(4, 3), randn(6, 3, seed=1)
    expected = (depth + 1) * inputs @ other.T / 3
    assert_close(pl.infinite_width_kernel(inputs, other, depth=depth, activation="identity"), expected)


def test_no_hidden_layer_is_the_linear_model_for_every_activation():
    inputs = randn(4, 3)
    for activation in ACTIVATIONS:
        assert_close(pl.infinite_width_kernel(inputs, depth=0, activation=activation), inputs @ inputs.T / 3)


def test_relu_is_homogeneous_and_tanh_is_not():
    inputs = randn(5, 3)
    for activation, same in (("relu", True), ("tanh", False)):
        kernels = [pl.infinite_width_kernel(c * inputs, depth=2, activation=activation) for c in (0.5, 1)]
        assert (distance(kernels[1], 4 * kernels[0]) < 1e-13) == same


def sampled(inputs, width, depth, activation, seeds):
    nets = [pl.MLP(inputs.shape[1], [width] * depth, activation=activation, seed=seed) for seed in range(seeds)]
    return torch.stack([pl.tangent_kernel(pl.NetworkSystem(net, inputs, torch.zeros(len(inputs)))) for net in nets])


@pytest.mark.parametrize("depth, activation", [(1, "relu"), (1, "erf"), (2, "tanh"), (2, "softplus"), (3, "sin"), (3, "relu")])
def test_wide_random_networks_have_this_kernel_on_average(depth, activation):
    """Monte Carlo over 60 networks of width 512; the bias of order 1/width is far below four standard errors."""
    inputs = pl.datasets.sphere(3, 5).inputs
    kernels = sampled(inputs, 512, depth, activation, 60)
    mean, error = kernels.mean(dim=0), kernels.std(dim=0) / 60**0.5
    limit = pl.infinite_width_kernel(inputs, depth=depth, activation=activation)
    assert ((mean - limit).abs() < 4 * error).all()
    wrong = pl.infinite_width_kernel(inputs, depth=depth, activation="identity")
    assert not ((mean - wrong).abs() < 4 * error).all()


def test_the_deviation_falls_like_the_square_root_of_the_width():
    inputs, widths = pl.datasets.sphere(4, 5).inputs, [64, 128, 256, 512, 1024, 2048]
    limit = pl.infinite_width_kernel(inputs, depth=1, activation="tanh")
    deviations = [(sampled(inputs, m, 1, "tanh", 60) - limit).flatten(1).norm(dim=1).mean().item() for m in widths]
    assert abs(np.polyfit(np.log(widths), np.log(deviations), 1)[0] + 0.5) < 0.1


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_limit_is_positive_definite_on_the_digits(activation, depth):
    inputs = pl.datasets.digits(100).inputs
    kernel = pl.infinite_width_kernel(inputs, depth=depth, activation=activation)
    assert torch.equal(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel)[0] > 1e-2
    twice = pl.infinite_width_kernel(torch.cat([inputs, inputs[:1]]), depth=depth, activation=activation)
    assert torch.linalg.eigvalsh(twice)[0] < 1e-12 * 100


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_other_inputs_and_tiles_give_blocks_of_the_same_kernel(activation, monkeypatch):
    inputs = randn(9, 4)
    whole = pl.infinite_width_kernel(inputs, depth=2, activation=activation)
    monkeypatch.setattr(module, "TILE", 4)
    assert distance(pl.infinite_width_kernel(inputs, depth=2, activation=activation), whole) < 1e-14
    block = pl.infinite_width_kernel(inputs[:3], inputs[3:], depth=2, activation=activation)
    assert_close(block, whole[:3, 3:], rtol=1e-10, atol=1e-12)


REFUSALS = {
    "vector": (randn(3), {}, ["(3,)", "(inputs, features)"]),
    "empty": (randn(0, 3), {}, ["inputs", "empty"]),
    "NaN": (randn(2, 3) * float("nan"), {}, ["inputs", "NaN"]),
    "other features": (randn(2, 3), {"other": randn(2, 4)}, ["other", "3", "4"]),
    "half a layer": (randn(2, 3), {"depth": 1.5}, ["depth", "1.5"]),
    "negative depth": (randn(2, 3), {"depth": -1}, ["depth", "-1"]),
    "unknown activation": (randn(2, 3), {"activation": "cosine"}, ["cosine", "tanh"]),
    "too large": (randn(2, 3) * 1e200, {"activation": "relu"}, ["1e150", "Scale"]),
    "too steep": (randn(2, 3) * 1e6, {}, ["nodes", "Scale"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case):
    inputs, options, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        pl.infinite_width_kernel(inputs, **{"depth": 1, "activation": "tanh", **options})
    assert all(word in str(caught.value) for word in words), str(caught.value)
