"""The statements of chapter 11 that need no module of their own: the threshold, and the logistic loss."""

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch.func import grad, hessian, vmap
from torch.nn.functional import softplus

import plbook as pl

SEEDS = st.integers(0, 10**6)


def planted(n, p, seed):
    """A random quadratic system for which its start is a solution."""
    system = pl.toys.quadratics(n, p, seed=seed)
    return pl.System(system.value, system.value(system.start), system.start)


def loss_of(system):
    return lambda w: 0.5 * (system._function(w) - system.targets).square().sum()


def smallest_curvature_near(system, distance, seed):
    """The smallest eigenvalue of the loss Hessian at 20 random points this far from the start."""
    directions = randn(20, system.num_parameters, seed=seed)
    points = system.start + distance * directions / directions.norm(dim=1, keepdim=True)
    return torch.linalg.eigvalsh(vmap(hessian(loss_of(system)))(points))[:, 0].min().item()


@pytest.mark.statement(name="Curvature on both sides of the threshold", kind="positive")
@given(seed=SEEDS, p=st.integers(1, 6))
@runs(max_examples=20)
def test_up_to_the_threshold_the_loss_is_convex_near_a_regular_solution(seed, p):
    system = planted(6, p, seed)
    sigma = torch.linalg.svdvals(system.jacobian(system.start))
    hessian = pl.loss_hessian_spectrum(system).loss
    assert hessian.smallest == pytest.approx(sigma[-1].item() ** 2, rel=1e-6, abs=1e-10)
    assert smallest_curvature_near(system, 1e-3 * min(1.0, sigma[-1].item() ** 2), seed) > 0


@pytest.mark.statement(name="Curvature on both sides of the threshold", kind="positive")
@given(seed=SEEDS, p=st.integers(7, 12))
@runs(max_examples=20)
def test_beyond_the_threshold_there_is_negative_curvature_near_every_solution(seed, p):
    system = planted(6, p, seed)
    assert abs(pl.loss_hessian_spectrum(system).loss.smallest) < 1e-8
    for distance in (1e-1, 1e-2):
        assert smallest_curvature_near(system, distance, seed) < 0


@pytest.mark.statement(name="Curvature on both sides of the threshold", kind="negative")
def test_a_linear_system_has_no_negative_curvature_on_either_side():
    system = pl.toys.linear(randn(3, 6), torch.zeros(3))
    assert smallest_curvature_near(system, 1.0, 0) > -1e-12


def logistic(system):
    """The logistic loss of a system with targets +-1."""
    return lambda w: softplus(-system.targets * system._function(w)).sum()


@pytest.mark.statement(name="PL* fails for the logistic loss", kind="positive")
@given(seed=SEEDS, scale=st.floats(0.1, 5.0))
@runs(max_examples=30)
def test_the_ratio_of_the_logistic_loss_is_at_most_the_loss_times_half_the_largest_eigenvalue(seed, scale):
    system = pl.toys.sines(scale * randn(4, 6, seed=seed), randn(4, seed=seed + 1).sign())
    loss, w = logistic(system), randn(6, seed=seed + 2)
    ratio = 0.5 * grad(loss)(w).square().sum() / loss(w)
    assert 0 < ratio <= 0.5 * pl.kernel_spectrum(system, w).largest * loss(w) * (1 + 1e-12)


@pytest.mark.statement(name="PL* fails for the logistic loss", kind="negative")
def test_where_the_kernel_grows_without_bound_the_ratio_need_not_vanish():
    # F = -2 log(1 - w) reaches infinity at w = 1, and K = 4 exp(F): the loss is log(1 + (1 - w)^2).
    system = pl.System(lambda w: -2 * (1 - w).log(), [1.0], [0.0])
    loss = logistic(system)
    for gap in (1e-1, 1e-2, 1e-3):
        w = torch.tensor([1 - gap], dtype=torch.float64)
        ratio = 0.5 * grad(loss)(w).square().sum() / loss(w)
        assert loss(w).item() == pytest.approx(gap**2, rel=1e-2) and ratio.item() == pytest.approx(2, rel=2e-2)
