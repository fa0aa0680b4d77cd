"""The statements of chapter 5 on systems that meet their hypotheses, and what breaks without them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import randn
from torch.func import grad, jacrev

import plbook as pl
from plbook import reference

SEEDS = st.integers(0, 10**6)
# Eigenvalues computed in float64 are compared with bounds that they may attain.
SLACK = 1 + 1e-9


def numbers(system):
    """lambda_0, |DF(w0)|_2 and max_i |H_i|_2 for a quadratic system, whose Hessians are constant."""
    norms = torch.linalg.matrix_norm(reference.hessians(system, system.start), 2)
    sigma = torch.linalg.svdvals(system.jacobian(system.start))
    return sigma[-1].item() ** 2, sigma[0].item(), norms.max().item()


def on_sphere(system, radius, seed):
    """Random points of the sphere of this radius, and the one where sigma_min falls most, to first order."""

    def smallest(w):
        return torch.linalg.svdvals(jacrev(system.value)(w))[-1]

    directions = torch.cat([randn(20, system.num_parameters, seed=seed), -grad(smallest)(system.start)[None]])
    return system.start + radius * directions / directions.norm(dim=1, keepdim=True)


@pytest.mark.statement(name="Theorem 2", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 4), extra=st.integers(0, 4), kept=st.floats(0.05, 0.95))
@runs(max_examples=40)
def test_theorem_2_and_its_singular_value_form(seed, n, extra, kept):
    system = pl.toys.quadratics(n, n + extra, seed=seed)
    lambda_0, norm, hessian = numbers(system)
    mu, beta = kept * lambda_0, math.sqrt(n) * hessian
    farther = (math.sqrt(lambda_0) - math.sqrt(mu)) / beta
    # The largest R with 2 (norm + beta R) beta R <= lambda_0 - mu: L_F holds on the ball that it defines.
    paper = (math.sqrt(norm**2 + 2 * (lambda_0 - mu)) - norm) / (2 * beta)
    assert paper <= farther * SLACK
    for radius in (paper, farther):
        points = on_sphere(system, radius, seed + 1)
        assert min(torch.linalg.svdvals(system.jacobian(w))[-1].item() ** 2 for w in points) * SLACK >= mu
        assert pl.check_pl_star(system, mu, points).holds


@pytest.mark.parametrize("radius", [0.1, 0.9, 1.0])
def test_the_singular_value_form_is_attained(radius):
    """F = w^2 at 1: lambda_0 = 4 and beta = 2, and at 1 - R the kernel is (2 - 2 R)^2."""
    system = pl.toys.square(start=1.0)
    smallest = pl.kernel_spectrum(system, [1.0 - radius]).smallest
    assert smallest == pytest.approx((math.sqrt(4) - 2 * radius) ** 2, abs=1e-12)


def turning(n, curvature):
    """Hessians of norm `curvature`; all rows turn against u = (1, ..., 1)/sqrt(n): sigma_min = 1 - sqrt(n) curvature <u, w>."""
    u = torch.full((n,), n**-0.5, dtype=torch.float64)

    def value(w):
        along = u @ w
        return 5 * (w - along * u) + along * u - curvature * along**2 / 2

    return pl.System(value, torch.zeros(n), torch.zeros(n)), u


@pytest.mark.statement(name="Theorem 2", kind="negative")
@pytest.mark.parametrize("n", [1, 4, 9])
def test_the_factor_root_n_cannot_be_dropped(n):
    system, u = turning(n, 0.1)
    lambda_0, _, hessian = numbers(system)
    assert (lambda_0, hessian) == pytest.approx((1, 0.1))
    smallest = pl.kernel_spectrum(system, 2 * u).smallest
    assert smallest == pytest.approx((1 - math.sqrt(n) * 0.1 * 2) ** 2)
    without = (1 - 0.1 * 2) ** 2
    assert (smallest < 0.99 * without) == (n > 1)


@given(seed=SEEDS, n=st.integers(1, 3), extra=st.integers(0, 3), share=st.floats(0.1, 1.0))
@runs(max_examples=15)
def test_a_quarter_is_enough_for_a_solution_in_the_ball(seed, n, extra, share):
    """h = beta r0 / lambda_0 <= 1/4. Gauss-Newton steps from the start find the solution that gradient flow promises."""
    system = pl.toys.quadratics(n, n + extra, seed=seed)
    lambda_0, _, hessian = numbers(system)
    beta, direction = math.sqrt(n) * hessian, randn(n, seed=seed + 1)
    r0 = share * 0.25 * lambda_0 / beta
    targets = system.value(system.start) - r0 * direction / direction.norm()
    shifted = pl.System(system.value, targets, system.start)
    solution = pl.polish(shifted).w
    # As small as rounding lets it get.
    assert shifted.residual(solution).norm() <= 1e-12 * (r0 + shifted.targets.norm())
    assert (solution - shifted.start).norm() <= 2 * r0 / math.sqrt(lambda_0) * SLACK


def test_without_a_small_residual_there_may_be_no_solution():
    """w^2 = -1 from w = 1: h = 2 * 2 / 4 = 1."""
    system = pl.toys.square(start=1.0)
    lambda_0, _, hessian = numbers(system)
    assert hessian * system.residual(system.start).norm().item() / lambda_0 == 1
    assert min(system.loss(w) for w in torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]) >= 0.5


# Appendix D

CONSTANT = 0.5 / math.sqrt(math.pi * (1 - math.exp(-1)))


def spaced(n, seed):
    """Random inputs at least sqrt(2) apart, some of them exactly."""
    gaps = math.sqrt(2) + randn(n, seed=seed).clamp(min=0)
    return gaps.cumsum(0)


def apart(inputs, spread, gap, seed, draws=20_000):
    """The share of Gaussian outputs of covariance spread^2 exp(-|x_i - x_j|^2 / 2) that are all more than gap apart."""
    covariance = torch.exp(-((inputs[:, None] - inputs) ** 2) / 2)
    outputs = spread * randn(draws, len(inputs), seed=seed) @ torch.linalg.cholesky(covariance).T
    return (outputs.sort().values.diff().amin(dim=1) > gap).double().mean().item()


@pytest.mark.parametrize("n", [2, 3, 6, 12])
@pytest.mark.parametrize("delta", [0.04, 0.3])
def test_the_corrected_spread_keeps_its_probability_and_a_tenth_of_it_does_not(n, delta):
    gap, inputs = 3.0, spaced(n, seed=n)
    spread = CONSTANT * n * (n - 1) * gap / delta
    error = 4 * math.sqrt(delta * (1 - delta) / 20_000)
    assert apart(inputs, spread, gap, seed=n) >= 1 - delta - error
    assert apart(inputs, spread / 10, gap, seed=n) < 1 - delta - error


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_printed_probability_is_out_of_reach_for_inputs_near_and_far(n):
    limit = math.erfc(2 / math.sqrt(200) / math.sqrt(2))
    assert limit == pytest.approx(0.8875, abs=1e-4)
    for inputs in (spaced(n, seed=1), 50 * spaced(n, seed=2)):
        assert apart(inputs, 10.0, 2.0, seed=n) < limit + 4 * math.sqrt(limit * (1 - limit) / 20_000) < 0.96


@given(seed=SEEDS, n=st.integers(2, 30))
@runs(max_examples=30)
def test_outputs_that_are_apart_condition_the_outer_kernel(seed, n):
    """By Gershgorin at sqrt(2 log(2 n - 2))/n for points of any dimension, and by order at 1.68/n for numbers."""
    for rho in (math.sqrt(2 * math.log(2 * n - 2)) / n, 1.68 / n):
        z = (rho + 0.3 * rho * randn(n, seed=seed).clamp(min=0)).cumsum(0)
        kernel = torch.exp(-(n**2) * (z[:, None] - z) ** 2 / 2)
        assert torch.linalg.eigvalsh(kernel)[0] * SLACK >= 0.5
    close = 0.3 / n * torch.arange(n, dtype=torch.float64)
    assert torch.linalg.eigvalsh(torch.exp(-(n**2) * (close[:, None] - close) ** 2 / 2))[0] < 0.5


def test_outputs_move_by_at_most_the_distance_of_their_features():
    """Separation 2 R leaves (2 - sqrt 2) R for distant inputs, not R."""
    x = torch.tensor([[0.0], [6.0]], dtype=torch.float64)
    system = pl.toys.fourier_bottleneck(x[:, 0], torch.zeros(2), 20_000, spread=1.0)
    phi = system.module_at(system.start)[0](x)
    away = phi[0] - phi[1]
    start = 2 * away / away.square().sum()
    assert (away @ start).item() == pytest.approx(2)
    left = (away @ (start - away / away.norm())).item()
    assert left == pytest.approx(2 - math.sqrt(2), abs=0.02) and left < 1
    assert all(abs(away @ v) <= away.norm() * v.norm() for v in randn(20, 40_000))
