"""Stochastic gradient descent: batches with replacement, the sum of their gradients, Theorem 7's step size and its bounds."""

import itertools
import math

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch.testing import assert_close

import plbook as pl
from plbook.conditions.relaxation import stochastic_step_size

SEEDS = st.integers(0, 10**6)
SLACK = 1 + 1e-9


def sgd(system, **options):
    return pl.stochastic_gradient_descent(system, **{"batch_size": 1, "step_size": 0.1, "max_steps": 5, "seed": 0, **options})


def test_it_is_the_loop_over_its_batches():
    system = pl.toys.quadratics(4, 6, seed=2)
    found = sgd(system, batch_size=3, step_size=1e-3, max_steps=20, seed=7, record_every=5)
    generator, w = torch.Generator().manual_seed(7), system.start
    for _ in range(20):
        batch = torch.randint(4, (3,), generator=generator)
        w = w - 1e-3 * sum(system.residual(w)[i] * system.jacobian(w)[i] for i in batch)
    assert_close(found.w, w, rtol=1e-12, atol=1e-12)
    assert found.losses[-1].item() == pytest.approx(system.loss(w).item(), rel=1e-12)
    assert found.recorded_steps == (0, 5, 10, 15, 20) and found.steps == 20 and found.status == "took all its steps"


def test_the_seed_decides_the_run():
    system = pl.toys.quadratics(3, 5, seed=1)
    one, same, other = (sgd(system, seed=seed, step_size=1e-3) for seed in (1, 1, 2))
    assert torch.equal(one.losses, same.losses) and not torch.equal(one.losses, other.losses)


def test_one_equation_is_gradient_descent():
    system = pl.toys.product()
    ours, theirs = sgd(system, step_size=0.05, max_steps=30), pl.gradient_descent(system, step_size=0.05, max_steps=30)
    assert_close(ours.losses, theirs.losses)


def test_the_default_step_size_is_that_of_theorem_7():
    matrix = randn(3, 5, seed=3)
    system = pl.toys.linear(matrix, randn(3))
    mu, beta = torch.linalg.svdvals(matrix)[-1].item() ** 2, matrix.square().sum(1).max().item()
    assert sgd(system, batch_size=2, step_size=None).step_size == pytest.approx(mu / (beta * (3 * beta + mu)), rel=1e-9)


def test_a_curved_equation_adds_its_residual_times_its_hessian():
    system = pl.toys.square(target=0.0, start=2.0)  # DF = 4, residual 4, Hessian 2
    mu, beta = 16.0, 16 + 4 * 2
    assert sgd(system, step_size=None).step_size == pytest.approx(mu / beta**2, rel=0.02)


def test_a_run_that_diverges_says_so():
    found = sgd(pl.toys.square(target=0.0, start=2.0), step_size=10.0, max_steps=50)
    assert found.status.startswith("diverged") and not math.isfinite(found.losses[-1])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"step_size": -1.0}, "step_size must be a positive number"),
        ({"max_steps": -1}, "max_steps must be"),
        ({"record_every": 0}, "record_every must be"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        sgd(pl.toys.product(), **options)


def test_a_singular_start_has_no_default_step_size():
    with pytest.raises(ValueError, match="Pass step_size"):
        sgd(pl.toys.repeated(), step_size=None)


# Theorem 7


def exact_mean(system, w, batch_size, step_size):
    """The mean loss after one step, over all batches."""
    J, r = system.jacobian(w), system.residual(w)
    batches = itertools.product(range(len(r)), repeat=batch_size)
    return torch.stack([system.loss(w - step_size * r[list(b)] @ J[list(b)]) for b in batches]).mean().item()


@pytest.mark.statement(name="Theorem 7", kind="positive")
@given(seed=SEEDS, batch_size=st.integers(1, 3))
@runs(max_examples=30)
def test_one_step_keeps_the_factor_in_the_mean(seed, batch_size):
    A = randn(3, 5, seed=seed)
    system = pl.toys.linear(A, randn(3, seed=seed + 1), randn(5, seed=seed + 2))
    mu, beta = torch.linalg.svdvals(A)[-1].item() ** 2, A.square().sum(1).max().item()
    step_size = stochastic_step_size(mu, smoothness=beta, num_equations=3, batch_size=batch_size)
    factor = 1 - mu * batch_size * step_size / 3
    assert exact_mean(system, system.start, batch_size, step_size) <= factor * system.loss(system.start).item() * SLACK


@pytest.mark.statement(name="Theorem 7", kind="positive")
def test_the_mean_of_200_runs_stays_below_the_bound_and_inside_the_ball():
    """Orthonormal rows: mu = beta = 1, PL* on the whole space."""
    system = pl.toys.linear(torch.eye(3, 4), [0.0] * 3, [1.0, 1.0, 1.0, 0.0])
    step_size = stochastic_step_size(1.0, smoothness=1.0, num_equations=3, batch_size=2)
    trajectories = [sgd(system, batch_size=2, step_size=step_size, max_steps=60, seed=seed) for seed in range(200)]
    losses = torch.stack([run.losses for run in trajectories])
    mean, error = losses.mean(0), losses.std(0) / math.sqrt(200)
    bound = (1 - 2 * step_size / 3) ** torch.arange(61, dtype=torch.float64) * 1.5
    assert (mean + 3 * error <= bound * SLACK).all()
    radius = 2 * 3 * math.sqrt(2 * 1.5) / 0.5  # delta = 1/2
    assert sum(run.distances.max() > radius for run in trajectories) <= 100


@pytest.mark.statement(name="Theorem 7", kind="negative")
def test_outside_of_the_region_of_pl_star_the_factor_is_lost():
    """F = (w - 1 + softplus(-4 w)/4, 0.3 (w - 1)), y = 0: left of 0 the first loss is about 1/2 and has no slope.

    There only the second equation pulls back, and the factor that mu of the right side promises does not hold.
    """

    def value(w):
        return torch.cat([w - 1 + torch.nn.functional.softplus(-4 * w) / 4, 0.3 * (w - 1)])

    flat = pl.System(value, [0.0, 0.0], [-3.0])
    mu = pl.pl_ratio(flat, torch.tensor([1.5], dtype=torch.float64))
    right = torch.tensor([1.5], dtype=torch.float64)
    promised = 1 - 0.2 * mu / 2
    assert exact_mean(flat, right, 1, 0.2) <= promised * flat.loss(right).item()
    assert flat.jacobian(flat.start)[0].abs() < 1e-4 and flat.residual(flat.start)[0].abs() > 0.9
    assert exact_mean(flat, flat.start, 1, 0.2) > promised * flat.loss(flat.start).item()
