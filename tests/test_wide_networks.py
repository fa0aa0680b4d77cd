"""The statements of chapters 6 and 7 about Hessians and balls, on systems that meet their hypotheses, and what breaks without them."""

import math

import numpy as np
import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch import nn

import plbook as pl
from plbook import reference
from plbook.networks import Divide, Skip

SEEDS = st.integers(0, 10**6)
# Eigenvalues computed in float64 are compared with bounds that they may attain.
SLACK = 1 + 1e-9
X = pl.datasets.digits(4).inputs


def one_equation(module, inputs):
    return pl.NetworkSystem(module, inputs[:1], torch.zeros(1))


def bent(system):
    """An output z + (z - f(w_0))^2 / 2: slope 1 and second derivative 1 at the start."""
    start = system.value(system.start)
    return pl.output_transform(system, lambda z: z + (z - start) ** 2 / 2)


def slope(build, widths, inputs=X, change=lambda system: system):
    """(raw, divided): the exponents of the mean Hessian norm of 8 networks, without and with division by sqrt(log width)."""
    norms = [
        np.mean([pl.hessian_norms(change(one_equation(build(m, seed), inputs)), rtol=0.1).largest for seed in range(8)])
        for m in widths
    ]
    raw = np.polyfit(np.log(widths), np.log(norms), 1)[0]
    return raw, np.polyfit(np.log(widths), np.log(norms / np.sqrt(np.log(widths))), 1)[0]


def mlp(m, seed, output_activation=None):
    return pl.MLP(64, [m, m], output_activation=output_activation, seed=seed)


def convolutional(m, seed):
    return pl.ConvNet((1, 8, 8), [m, m], seed=seed)


def residual(m, seed):
    return pl.ResNet(64, [m, m], seed=seed)


IMAGES = X.view(-1, 1, 8, 8)


# Theorems 5 and 12: Hessians of wide networks with a linear output


@pytest.mark.statement(name="Theorem 5", kind="positive")
def test_the_hessian_of_a_wide_network_is_small():
    assert slope(mlp, [64, 256, 1024])[1] == pytest.approx(-0.5, abs=0.08)


@pytest.mark.statement(name="Theorem 5", kind="negative")
@pytest.mark.parametrize(
    "build", [lambda m, seed: mlp(m, seed, "tanh"), lambda m, seed: pl.MLP(64, [m, 2, m], seed=seed)], ids=["output", "bottleneck"]
)
def test_a_nonlinear_output_or_a_bottleneck_keeps_the_hessian_large(build):
    assert slope(build, [64, 256, 1024])[0] > -0.1


def moved_output_weight(width, radius, seed):
    """One hidden layer whose largest output weight is moved outward by the radius: |H_f| before and after."""
    system = one_equation(pl.MLP(64, [width], seed=seed), X)
    w = system.start.clone()
    unit = 64 * width + w[64 * width :].abs().argmax()
    w[unit] += radius * w[unit].sign()
    return pl.hessian_norms(system).largest, pl.hessian_norms(system, w).largest


def test_the_radius_enters_to_the_first_power_and_at_radius_zero_something_remains():
    start, near = moved_output_weight(256, 1.0, 0)
    far = moved_output_weight(256, 10.0, 0)[1]
    assert start > 0.1 / math.sqrt(256)
    assert near < far < 10 * near


@pytest.mark.statement(name="Theorem 12", kind="positive")
@pytest.mark.parametrize("build, inputs, widths", [(convolutional, IMAGES, [16, 32, 64, 128]), (residual, X, [64, 256, 1024])], ids=["ConvNet", "ResNet"])
def test_hessians_of_convolutions_and_skips_are_small(build, inputs, widths):
    assert slope(build, widths, inputs)[1] == pytest.approx(-0.5, abs=0.08)


@pytest.mark.statement(name="Theorem 12", kind="negative")
@pytest.mark.parametrize("build, inputs, widths", [(convolutional, IMAGES, [16, 32, 64, 128]), (residual, X, [64, 256, 1024])], ids=["ConvNet", "ResNet"])
def test_with_a_nonlinear_output_they_stay_large(build, inputs, widths):
    assert slope(build, widths, inputs, bent)[0] > -0.1


def skip_over_two(widths, seed):
    """A skip around two layers: from the first of three hidden layers to the third."""
    layers = pl.MLP(64, widths, seed=seed)
    return nn.Sequential(*layers[:3], Skip(layers[3:9]), *layers[9:])


@pytest.mark.statement(name="Remark 10", kind="positive")
def test_a_skip_may_pass_over_two_layers():
    assert slope(lambda m, seed: skip_over_two([m, m, m], seed), [64, 256])[1] == pytest.approx(-0.5, abs=0.12)


@pytest.mark.statement(name="Remark 10", kind="negative")
def test_a_skip_does_not_make_up_for_a_bottleneck():
    assert slope(lambda m, seed: skip_over_two([m, 2, m], seed), [64, 256, 1024])[0] > -0.1


@pytest.mark.statement(name="Remark 10", kind="negative")
def test_a_skip_at_the_first_layer_needs_an_input_of_the_networks_width():
    with pytest.raises(RuntimeError, match="size of tensor"):
        Skip(pl.MLP(64, [8])[:3])(X)
    assert Skip(pl.MLP(64, [64])[:3])(X).shape == (4, 64)


# Theorems 4 and 13, Remarks 5 and 6: PL* on a ball


FAMILIES = {
    "MLP": (lambda seed: pl.MLP(64, [256], seed=seed), X),
    "ConvNet": (lambda seed: pl.ConvNet((1, 8, 8), [32], seed=seed), IMAGES),
    "ResNet": (lambda seed: pl.ResNet(64, [128, 128], seed=seed), X),
}


def squashed(name, seed=0):
    """The systems of a network without and with tanh at the output, on two inputs."""
    build, inputs = FAMILIES[name]
    linear = build(seed)
    parts = (linear, nn.Sequential(*linear, nn.Tanh()))
    return [pl.NetworkSystem(part, inputs[:2], torch.tensor([0.5, -0.5])) for part in parts]


def ball(system, radius, count=20, seed=3):
    directions = randn(count, system.num_parameters, seed=seed)
    return system.start + radius * directions / directions.norm(dim=1, keepdim=True)


def pl_star_on_a_ball(name, radius):
    """The proof of Theorem 4 in numbers: lambda_0 of the linear output, beta and rho on the ball; PL* at points of it."""
    linear, network = squashed(name)
    root = math.sqrt(pl.kernel_spectrum(linear).smallest)
    beta = pl.jacobian_lipschitz_bound(linear, radius).center
    assert beta * radius < root
    points = ball(linear, radius)
    gradient = pl.tangent_kernel(linear).diag().max().sqrt().item()
    farthest = linear.value(linear.start).abs().max().item() + gradient * radius + beta * radius**2 / 2
    rho = 1 - math.tanh(farthest) ** 2
    assert all(linear.value(w).abs().max() <= farthest * SLACK for w in points)
    mu = rho**2 * (root - beta * radius) ** 2
    assert pl.check_pl_star(network, mu, points).holds
    assert min(pl.kernel_spectrum(network, w).smallest for w in points) * SLACK >= mu
    return rho


@pytest.mark.statement(name="Theorem 4", kind="positive")
@pytest.mark.statement(name="Remark 6", kind="positive")
def test_a_wide_network_is_pl_star_on_a_ball_though_tanh_has_no_smallest_slope():
    assert 0 < pl_star_on_a_ball("MLP", 0.3) < 1


@pytest.mark.statement(name="Theorem 13", kind="positive")
@pytest.mark.statement(name="Remark 5", kind="positive")
@pytest.mark.parametrize("name", ["ConvNet", "ResNet"])
def test_convolutions_and_skips_are_pl_star_on_a_ball(name):
    assert pl_star_on_a_ball(name, 0.03) > 0


def doubled(name, seed=0):
    """One equation f = 2 f~: the output z -> 2 z has rho = 2. The systems of f~ and of f."""
    build, inputs = FAMILIES[name]
    linear = build(seed)
    return one_equation(linear, inputs), one_equation(nn.Sequential(*linear, Divide(0.5)), inputs)


@pytest.mark.statement(name="Theorem 4", kind="negative")
@pytest.mark.statement(name="Theorem 13", kind="negative")
@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_kernel_of_f_itself_the_theorem_is_false(name):
    linear, network = doubled(name)
    rho, printed = 2, pl.kernel_spectrum(network).smallest
    read_right = pl.kernel_spectrum(linear).smallest * rho**2
    assert read_right == pytest.approx(printed, rel=1e-10)
    start = network.start[None]
    check = pl.check_pl_star(network, 0.9 * printed * rho**2, start)
    assert not check.holds and torch.equal(check.witness, network.start)
    assert check.smallest_ratio == pytest.approx(printed, rel=1e-10)
    assert pl.check_pl_star(network, 0.999 * read_right, start).holds


@pytest.mark.statement(name="Theorem 4", kind="negative")
@pytest.mark.parametrize("factor, holds", [(0.99, True), (1.01, False)])
def test_no_mu_above_lambda_0_rho_squared(factor, holds):
    """f = 3 f~ on two inputs, the residual along the weakest eigenvector."""
    linear = pl.NetworkSystem(pl.MLP(64, [256]), X[:2], torch.zeros(2))
    values, vectors = torch.linalg.eigh(pl.tangent_kernel(linear))
    tripled = pl.System(lambda w: 3 * linear.value(w), 3 * linear.value(linear.start) - vectors[:, 0], linear.start)
    assert pl.check_pl_star(tripled, factor * 9 * values[0].item(), linear.start[None]).holds == holds


@pytest.mark.statement(name="Remark 6", kind="negative")
def test_where_the_output_is_saturated_the_slope_that_is_met_is_what_counts():
    """sin has slope 0 at pi/2: an output moved there is stuck, in a network of any width."""
    linear = pl.NetworkSystem(pl.MLP(64, [256]), X[:1], torch.zeros(1))
    stuck = pl.polish(pl.NetworkSystem(pl.MLP(64, [256]), X[:1], torch.tensor([math.pi / 2], dtype=torch.float64))).w
    network = pl.NetworkSystem(nn.Sequential(*pl.MLP(64, [256]), *pl.MLP(64, [1], activation="sin")[2:3]), X[:1], torch.zeros(1))
    assert linear.value(stuck).item() == pytest.approx(math.pi / 2, abs=1e-9)
    assert pl.pl_ratio(network, stuck) < 1e-12
    assert pl.kernel_spectrum(linear, stuck).smallest > 0.1


@pytest.mark.statement(name="Remark 5", kind="negative")
def test_a_fixed_number_of_channels_is_not_wide():
    """Hessians do not get small if the images grow in place of the channels."""
    norms = []
    for side in (4, 8):
        inputs = torch.ones(1, 1, side, side, dtype=torch.float64)
        draws = [one_equation(pl.ConvNet((1, side, side), [4], seed=seed), inputs) for seed in range(8)]
        norms.append(np.mean([pl.hessian_norms(system).largest for system in draws]))
    assert norms[1] > norms[0]


# Theorem 11 and Assumption 1


@pytest.mark.statement(name="Theorem 11", kind="positive")
@given(seed=SEEDS, models=st.integers(1, 12), scale=st.floats(0.5, 20))
@runs(max_examples=25)
def test_the_hessian_of_an_ensemble_is_block_diagonal_and_divided(seed, models, scale):
    inputs = randn(2, 3, seed=seed)
    system = pl.toys.ensemble(inputs, [0.0, 0.0], models, scale=scale, seed=seed)
    w = randn(3 * models, seed=seed + 1)
    hessians = reference.hessians(system, w)
    blocks = torch.block_diag(*torch.ones(models, 3, 3)).bool()
    assert (hessians[:, ~blocks] == 0).all()
    squares = inputs.square().sum(dim=1)
    exact = squares * torch.sin(inputs @ w.view(models, 3).T).abs().amax(dim=1) / scale
    norms = torch.linalg.matrix_norm(hessians, 2)
    assert torch.allclose(norms, exact, rtol=1e-9, atol=1e-12)
    assert (norms <= squares / scale * SLACK).all()


@pytest.mark.statement(name="Theorem 11", kind="negative")
def test_without_division_or_with_shared_weights_the_hessian_is_not_small():
    inputs = randn(1, 3)
    draws = [pl.hessian_norms(pl.toys.ensemble(inputs, [0.0], m, scale=1.0)).largest for m in (16, 256)]
    assert min(draws) > 0.9 * inputs.square().sum().item()
    m = 256
    shared = pl.System(lambda w: m**0.5 * torch.sin(inputs @ w), [0.0], randn(3))  # m equal models of one sign over sqrt(m)
    assert pl.hessian_norms(shared).largest > inputs.square().sum().item()


@pytest.mark.statement(name="Assumption 1", kind="positive")
@pytest.mark.statement(name="Assumption 1", kind="negative")
def test_outputs_of_order_one_are_what_makes_the_kantorovich_number_fall():
    """beta r_0 / lambda_0 falls for s = sqrt(m). With s = m the outputs vanish, and the number stays where it is."""
    inputs, numbers = randn(1, 3), {}
    for power in (0.5, 1.0):
        numbers[power], outputs = [], []
        for m in (64, 4096):
            draws = [pl.toys.ensemble(inputs, [1.0], m, scale=m**power, seed=seed) for seed in range(8)]
            kernels = [pl.kernel_spectrum(system).smallest for system in draws]
            numbers[power].append(inputs.square().sum().item() / m**power / np.mean(kernels))
            outputs.append(np.mean([system.value(system.start).square().item() for system in draws]) ** 0.5)
        assert (outputs[1] > 0.4 * outputs[0]) == (power == 0.5)
    assert numbers[0.5][1] < 0.2 * numbers[0.5][0]
    assert numbers[1.0][1] > 0.7 * numbers[1.0][0]
