"""Theorem 8 and Remark 9: a network with an output activation, gradient descent on it, and random batches."""

import itertools
import math

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import plbook as pl
from plbook.bounds import bounds_about

SEEDS = st.integers(0, 10**6)
SLACK = 1 + 1e-9  # rounding of a few hundred steps


def bent(seed, n=2, p=5):
    """(system, mu): F = sigma(A w + quadratic), sigma(z) = z + sin(z)/2, just wide enough for Theorem 8.

    sigma' lies in [1/2, 3/2]. The quadratic part has a Jacobian with Lipschitz constant 1, and the targets are so near that
    the ball of radius R = 2 r0 / sqrt(mu) satisfies R <= sqrt(lambda0) - sqrt(mu) / rho with sqrt(mu) / rho = sqrt(lambda0) / 2.
    """
    A = randn(n, p, seed=seed) + 2 * torch.eye(n, p, dtype=torch.float64)
    C = randn(n, p, p, seed=seed + 1)
    C = C + C.transpose(1, 2)
    C = C / torch.linalg.matrix_norm(C, 2).norm()
    rho, root = 0.5, torch.linalg.svdvals(A)[-1].item()

    def value(w):
        z = A @ w + 0.5 * (C @ w) @ w
        return z + z.sin() / 2

    mu = (rho * root / 2) ** 2
    direction = randn(n, seed=seed + 2)
    r0 = 0.5 * math.sqrt(mu) * root / 2
    return pl.System(value, r0 * direction / direction.norm(), torch.zeros(p)), mu


@pytest.mark.statement(name="Theorem 8", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_pl_star_and_the_rate_hold_on_the_ball_of_twice_r0_over_root_mu(seed):
    system, mu = bent(seed)
    r0 = system.residual(system.start).norm().item()
    radius = 2 * r0 / math.sqrt(mu)
    directions = randn(40, system.num_parameters, seed=seed + 3)
    points = radius * directions / directions.norm(dim=1, keepdim=True) * torch.linspace(0.1, 1, 40, dtype=torch.float64)[:, None]
    assert all(torch.linalg.eigvalsh(pl.tangent_kernel(system, w))[0] >= mu for w in points)
    # L_F <= 3/2 (|A| + R); the Hessians of F are at most those of the quadratic times 3/2, plus |D of it|^2 / 2.
    inner = torch.linalg.matrix_norm(system.jacobian(system.start), 2).item() / 1.5 + radius
    lipschitz, smooth = 1.5 * inner, 1.5 + 0.5 * inner**2
    run = pl.gradient_descent(system, step_size=1 / (lipschitz**2 + smooth * r0), max_steps=400, record_every=40)
    guarantee = (1 - run.step_size * mu) ** torch.arange(len(run.losses), dtype=torch.float64)
    assert (run.losses <= guarantee * run.losses[0] * SLACK + 1e-28).all()
    assert run.distances.max() <= radius
    assert run.losses[-1] < 0.5 * run.losses[0]


@pytest.mark.statement(name="Theorem 8", kind="positive")
def test_a_wide_network_with_certified_constants_converges_inside_its_ball():
    inputs = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
    network = pl.MLP(2, [4096], seed=3)
    first = pl.NetworkSystem(network, inputs, torch.zeros(2))
    targets = first.value(first.start) + torch.tensor([0.3, -0.2], dtype=torch.float64)
    system = pl.NetworkSystem(network, inputs, targets)
    smallest = pl.kernel_spectrum(system).smallest
    mu, r0 = smallest / 4, system.residual(system.start).norm().item()
    radius = 2 * r0 / math.sqrt(mu)
    bound = pl.jacobian_lipschitz_bound(system, radius)
    assert bound.rigour == "verified"
    assert bound.center * radius <= math.sqrt(smallest) - math.sqrt(mu)
    constants = pl.ball_constants(system, radius)
    step_size = constants.step_size
    run = pl.gradient_descent(system, step_size=step_size, max_steps=200)
    guarantee = (1 - step_size * mu) ** torch.arange(len(run.losses), dtype=torch.float64)
    assert (run.losses <= guarantee * run.losses[0] * SLACK + 1e-28).all()
    assert run.distances.max() <= r0 / math.sqrt(mu)


@pytest.mark.statement(name="Theorem 8", kind="negative")
def test_with_the_kernel_of_the_whole_network_the_theorem_allows_too_much():
    """sigma(z) = 2 z has rho = 2. Reading lambda0 as that of F would allow every mu below 4 lambda0."""
    inner = pl.MLP(3, [50], seed=1)
    network = torch.nn.Sequential(inner, pl.networks.Divide(0.5))
    inputs = pl.datasets.sphere(1, 3).inputs
    system = pl.NetworkSystem(network, inputs, torch.zeros(1))
    of_inner = pl.NetworkSystem(inner, inputs, torch.zeros(1))
    smallest = pl.kernel_spectrum(system).smallest
    assert pl.pl_ratio(system) == pytest.approx(smallest)
    assert not pl.check_pl_star(system, 2 * smallest, system.start[None]).holds
    # With lambda0 of the network without its output activation, mu < 4 lambda0 is what holds, and no more.
    assert smallest == pytest.approx(4 * pl.kernel_spectrum(of_inner).smallest)


@pytest.mark.statement(name="Theorem 8", kind="negative")
def test_an_output_that_saturates_has_no_rate():
    inputs = pl.datasets.sphere(3, 4).inputs
    network = pl.MLP(4, [64], output_activation="tanh")
    system = pl.NetworkSystem(network, inputs, torch.tensor([1.0, -1.0, 1.0]))
    run = pl.gradient_descent(system, max_steps=2000, record_every=500)
    ratios = [pl.pl_ratio(system, w) for w in run.points]
    assert ratios == sorted(ratios, reverse=True) and ratios[-1] < 0.02 * ratios[0]


def mean_after_a_step(system, w, batch_size, step_size):
    """The exact mean of the loss after one step, over all batches drawn with replacement."""
    J, r = system.jacobian(w), system.residual(w)
    batches = itertools.product(range(system.num_equations), repeat=batch_size)
    return torch.stack([system.loss(w - step_size * r[list(b)] @ J[list(b)]) for b in batches]).mean().item()


@pytest.mark.statement(name="Remark 9", kind="positive")
@given(seed=SEEDS, batch_size=st.integers(1, 3))
@runs(max_examples=30)
def test_the_mean_of_a_step_falls_at_the_share_of_the_batch(seed, batch_size):
    A = randn(3, 5, seed=seed)
    system = pl.toys.linear(A, randn(3, seed=seed + 1), randn(5, seed=seed + 2))
    mu, beta = torch.linalg.svdvals(A)[-1].item() ** 2, A.square().sum(1).max().item()
    step_size = mu / (beta * (3 * beta + mu * (batch_size - 1)))
    before = system.loss(system.start).item()
    assert mean_after_a_step(system, system.start, batch_size, step_size) <= (1 - step_size * batch_size * mu / 3) * before * SLACK


@pytest.mark.statement(name="Remark 9", kind="positive")
def test_the_mean_of_a_step_of_a_wide_network_falls_as_well():
    inputs = pl.datasets.sphere(3, 4).inputs
    system = pl.NetworkSystem(pl.MLP(4, [1024], seed=2), inputs, torch.tensor([1.0, -1.0, 0.5]))
    kernel = pl.tangent_kernel(system)
    mu, beta = torch.linalg.eigvalsh(kernel)[0].item() / 2, 1.1 * kernel.diagonal().max().item()
    step_size = mu / (3 * beta**2)
    before = system.loss(system.start).item()
    assert mean_after_a_step(system, system.start, 1, step_size) <= (1 - step_size * mu / 3) * before


def wide_enough_for_batches(delta, seed=2):
    """(system, mu, beta, radius): all that Remark 9 asks for, with certified constants, for a network with linear output."""
    inputs = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
    network = pl.MLP(2, [1024], seed=seed)
    at_zero = pl.NetworkSystem(network, inputs, torch.zeros(2))
    targets = at_zero.value(at_zero.start) + torch.tensor([0.02, -0.01], dtype=torch.float64)
    system = pl.NetworkSystem(network, inputs, targets)
    smallest = pl.kernel_spectrum(system).smallest
    mu, r0 = smallest / 2, system.residual(system.start).norm().item()
    slopes = system.jacobian(system.start).norm(dim=1)
    bounds, radius = bounds_about(system), 0.0
    for _ in range(10):  # beta belongs to a ball whose radius depends on beta
        bend = bounds.over(3 * radius).value
        slope = slopes + bend * 3 * radius
        beta = (slope**2 + (r0 + slope.max() * 3 * radius) * bend).max().item()
        needed = 2 * math.sqrt(2 * beta) * r0 / (mu * delta)
        if needed <= radius:
            return system, mu, beta, radius
        radius = 1.01 * needed
    raise AssertionError("not wide enough")


@pytest.mark.statement(name="Remark 9", kind="positive")
@pytest.mark.parametrize("batch_size, steps", [(1, 8), (2, 4)])
def test_all_runs_of_a_wide_network_together_keep_the_rate_and_the_way(batch_size, steps):
    delta, n = 0.5, 2
    system, mu, beta, radius = wide_enough_for_batches(delta)
    bound = pl.jacobian_lipschitz_bound(system, radius)
    assert bound.rigour == "verified"
    assert bound.center * radius <= math.sqrt(pl.kernel_spectrum(system).smallest) - math.sqrt(mu)
    step_size = mu / (beta * (n * beta + mu * (batch_size - 1)))
    factor = 1 - step_size * batch_size * mu / n
    batches = [list(batch) for batch in itertools.product(range(n), repeat=batch_size)]
    points, ways = [system.start], [0.0]
    for step in range(1, steps + 1):
        farther, longer = [], []
        for w, way in zip(points, ways):
            J, r = system.jacobian(w), system.residual(w)
            for batch in batches:
                move = step_size * r[batch] @ J[batch]
                assert move.norm() <= 1.5 * radius
                farther.append(w - move)
                longer.append(way + move.norm().item())
        points, ways = farther, longer
        losses = torch.stack([system.loss(w) for w in points])
        inside = torch.stack([(w - system.start).norm() for w in points]) <= radius
        assert (losses * inside).mean() <= factor**step * system.loss(system.start) * SLACK
        assert sum(ways) / len(ways) <= delta * radius
    assert losses.mean() < 0.9 * system.loss(system.start)


def test_a_narrow_network_does_not_meet_the_hypotheses_of_remark_9():
    inputs = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
    system = pl.NetworkSystem(pl.MLP(2, [16], seed=2), inputs, torch.tensor([1.0, -1.0]))
    smallest, r0 = pl.kernel_spectrum(system).smallest, system.residual(system.start).norm().item()
    slope = system.jacobian(system.start).norm(dim=1).max().item()
    least = 2 * math.sqrt(2) * slope * r0 / smallest  # no beta, mu or delta allows a smaller radius
    assert pl.jacobian_lipschitz_bound(system, least).center * least > math.sqrt(smallest)


@pytest.mark.statement(name="Remark 9", kind="negative")
def test_the_printed_rate_fails_in_the_mean_and_in_single_steps():
    """F(w) = w, y = 0, s = 1, eta = 0.1 and mu = 1: the mean factor is 0.905, the printed one 0.9."""
    system = pl.toys.linear(torch.eye(2), [0.0, 0.0], [1.0, 1.0])
    assert mean_after_a_step(system, system.start, 1, 0.1) == pytest.approx(0.905 * system.loss(system.start).item())
    # If the equation that is met already is drawn, the loss does not fall at all.
    w = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert system.loss(w - 0.1 * system.residual(w)[1] * system.jacobian(w)[1]) == system.loss(w)
