"""Chapter 8: PL* on a ball gives a solution in it, and gradient descent finds it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import randn

import plbook as pl

SEEDS = st.integers(0, 10**6)
SLACK = 1 + 1e-9


def system_with_constants(seed, n=3, p=6):
    """sin(A w) with singular values of A in [0.7, 1], so that everything is known on a ball: DF = diag(cos) A, beta_F <= 1."""
    left, _, right = torch.linalg.svd(randn(n, p, seed=seed), full_matrices=False)
    matrix = left * torch.linspace(1, 0.7, n, dtype=torch.float64) @ right
    targets = randn(n, seed=seed + 1)
    targets *= 0.06 / targets.norm()
    return pl.toys.sines(matrix, targets), matrix


def smallest_on_ball(matrix, radius):
    """lambda_min(K) on the ball about 0 is at least min cos^2 sigma_min(A)^2, as |a_i w| <= |a_i| radius."""
    row = matrix.norm(dim=1).max().item()
    return (math.cos(row * radius) * torch.linalg.svdvals(matrix)[-1].item()) ** 2


def length(run):
    return run.points.diff(dim=0).norm(dim=1).sum().item()


# A solution exists


@pytest.mark.statement(name="A ball that contains a solution", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_the_flow_reaches_a_solution_within_r0_over_root_mu(seed):
    system, matrix = system_with_constants(seed)
    r0 = system.residual(system.start).norm().item()
    radius = 0.2
    needed = r0 / smallest_on_ball(matrix, radius) ** 0.5
    assert needed <= radius
    # Short steps follow the flow: with theta = 0.05 (1 + r0) its way grows by at most a factor 2/(2 - theta).
    run = pl.gradient_descent(system, step_size=0.05, max_steps=800, loss_tolerance=1e-10, record_every=1)
    assert run.status == "reached the loss tolerance" and length(run) <= needed * 2 / (2 - 0.053)


@pytest.mark.statement(name="A ball that contains a solution", kind="negative")
def test_a_ball_that_is_a_little_smaller_may_contain_none():
    """F(w) = w up to 0.99, then bent to stay below 1 = y: PL* with mu = 1 on the ball of radius 0.99 about 0; needed is 1."""

    def value(w):
        return torch.where(w < 0.99, w, 0.99 + 0.005 * torch.tanh((w - 0.99) / 0.005))

    system = pl.System(value, [1.0], [0.0])
    points = torch.linspace(-0.99, 0.985, 80, dtype=torch.float64)[:, None]
    assert pl.check_pl_star(system, 1.0, points).holds
    far = torch.linspace(-5, 50, 500, dtype=torch.float64)[:, None]
    assert min(system.loss(w).item() for w in far) > 1e-5


# Theorem 6


@pytest.mark.statement(name="Theorem 6", kind="positive")
@pytest.mark.statement(name="Theorem 6 with a smaller ball", kind="positive")
@given(seed=SEEDS, theta=st.sampled_from([1.0, 0.5, 0.1]))
@runs(max_examples=30)
def test_descent_stays_in_the_ball_and_below_the_rate(seed, theta):
    system, matrix = system_with_constants(seed)
    r0, radius = system.residual(system.start).norm().item(), 0.3
    mu = smallest_on_ball(matrix, radius)
    short = 2 / (2 - theta) * r0 / mu**0.5
    assert short <= radius and 2 * r0 / mu**0.5 <= 2 * r0 / mu  # L_F = 1
    step_size = theta / (1 + r0)
    run = pl.gradient_descent(system, step_size=step_size, max_steps=int(60 / theta), record_every=1)
    assert length(run) <= short and run.distances.max() <= short
    steps = torch.arange(len(run.losses), dtype=torch.float64)
    for rate in (step_size * mu, (2 - theta) * step_size * mu):
        assert (run.losses <= (1 - rate) ** steps * run.losses[0] * SLACK + 1e-30).all()
    assert system.loss(run.w) < 1e-12 * run.losses[0]


@pytest.mark.statement(name="Theorem 6", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=30)
def test_one_step_needs_no_second_derivative(seed):
    """The inequality that the proof rests on, between any two points, with L_F = beta_F = 1."""
    system, _ = system_with_constants(seed)
    v, d = randn(6, seed=seed), randn(6, seed=seed + 1)
    constant = 1 + system.residual(v).norm()
    bound = system.loss(v) + system.gradient(v) @ d + 0.5 * constant * d @ d
    assert system.loss(v + d) <= bound * SLACK


@pytest.mark.statement(name="Theorem 6", kind="negative")
def test_on_a_ball_that_is_too_small_the_condition_says_nothing():
    """F(w) = sin(w), y = 1.2: PL* with cos(R)^2 on every ball with R < pi/2, and no solution."""
    system = pl.toys.sines([[1.0]], [1.2])
    for radius in (0.3, 1.0, 1.5):
        points = torch.linspace(-radius, radius, 101, dtype=torch.float64)[:, None]
        mu = math.cos(radius) ** 2
        assert pl.check_pl_star(system, mu * (1 - 1e-12), points).holds and radius < 1.2 / mu**0.5
    run = pl.gradient_descent(system, step_size=0.5, max_steps=400)
    assert run.losses[-1] == pytest.approx(0.02, rel=1e-3)


@pytest.mark.statement(name="Theorem 6", kind="negative")
def test_without_the_half_or_with_definition_4_the_rate_is_false():
    """F(w) = w: |grad L|^2 = 2 L and kappa = 1, so eta = 1/2 would bring the loss to 0 in one step; it is a quarter."""
    system = pl.toys.linear(torch.eye(1), [0.0], [1.0])
    run = pl.gradient_descent(system, step_size=0.5, max_steps=1)
    factor = (run.losses[1] / run.losses[0]).item()
    literal = system.gradient([1.0]).square().sum().item() / system.loss([1.0]).item()
    assert factor == 0.25 > 1 - 0.5 * literal == 1 - 1 / pl.condition_number(system, [[1.0]]).value
    assert factor <= 1 - 0.5 * pl.pl_ratio(system)


@pytest.mark.statement(name="Theorem 6 with a smaller ball", kind="negative")
def test_a_longer_step_breaks_the_rate():
    """Twice the step, for F(w) = w, crosses the solution and comes no nearer."""
    system = pl.toys.linear(torch.eye(1), [0.0], [1.0])
    run = pl.gradient_descent(system, step_size=2.0, max_steps=9)
    assert (run.losses == run.losses[0]).all()


@given(seed=SEEDS, number=st.sampled_from([1.5, 10.0, 100.0]))
@runs(max_examples=30)
def test_for_linear_equations_full_steps_need_the_radius_of_the_flow_only(seed, number):
    left, _, right = torch.linalg.svd(randn(4, 7, seed=seed), full_matrices=False)
    values = torch.logspace(0, -0.5 * math.log10(number), 4, dtype=torch.float64)
    system = pl.toys.linear(left * values @ right, randn(4, seed=seed + 1))
    needed = system.residual(system.start).norm().item() / values[-1].item()
    run = pl.gradient_descent(system, step_size=1.0, max_steps=300, record_every=1)
    assert length(run) <= needed * SLACK


def test_for_linear_equations_steps_that_are_too_long_need_more():
    system = pl.toys.linear(torch.eye(2), [1.0, 1.0])  # r0 / sqrt(mu) = sqrt(2); each step of 1.5 goes half the way back
    run = pl.gradient_descent(system, step_size=1.5, max_steps=60, record_every=1)
    assert length(run) > 2.9 * 2**0.5


# Theorem 7


@pytest.mark.statement(name="Theorem 7", kind="negative")
def test_the_mean_of_all_runs_need_not_tend_to_zero():
    """With the printed ball and step size: a run that draws the second equation long enough never comes back."""
    system, slope = pl.toys.plateau(), 1 / 64
    mu, n, delta = 2 / (3 + 2 * slope), 2, 0.5
    start = system.loss(system.start).item()
    radius = 2 * n * math.sqrt(2 * start) / (mu * delta)
    end = system.start.item() + radius
    assert start == 3 + 2 * slope and end < 32
    ball = torch.linspace(system.start.item() - radius, end, 500, dtype=torch.float64)[:, None]
    assert pl.check_pl_star(system, mu, ball).holds

    def gradients(w):
        w = torch.tensor([w], dtype=torch.float64)
        return system.value(w) * system.jacobian(w)[:, 0]

    step_size, w, draws = mu / n**2, system.start.item(), 0
    while w < 64:
        # The second loss has the slope -1/64 all the way; it is looked at now and then.
        if draws % 1000 == 0:
            assert gradients(w)[1].item() == pytest.approx(-slope, abs=1e-12)
        w, draws = w + step_size * slope, draws + 1
    for beyond in torch.linspace(w, w + 5, 40, dtype=torch.float64).tolist():
        first, second = gradients(beyond).tolist()
        assert first == 0 and second <= 0 and system.loss([beyond]) >= 1024
    # E L(w_t) >= 1024 / 2^draws for all t >= draws, and the printed bound is smaller in the end.
    floor = math.log(1024) - draws * math.log(2)
    assert math.log(start) + 400_000 * math.log1p(-mu * step_size / n) < floor


# Theorem 14


def log_cosh(system):
    return lambda w: system.residual(w).cosh().log().sum()


def descend(loss, w, step_size, num_steps):
    points = [w]
    for _ in range(num_steps):
        points.append(points[-1] - step_size * torch.func.grad(loss)(points[-1]))
    return torch.stack(points)


@pytest.mark.statement(name="Theorem 14", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_log_cosh_falls_at_its_rate_within_its_ball(seed):
    """A linear system with singular values in [0.7, 1]: L is 1-smooth, and PL* where every residual is at most the largest."""
    left, _, right = torch.linalg.svd(randn(3, 6, seed=seed), full_matrices=False)
    matrix = left * torch.linspace(1, 0.7, 3, dtype=torch.float64) @ right
    system = pl.toys.linear(matrix, randn(3, seed=seed + 1))
    loss = log_cosh(system)
    start = loss(system.start).item()
    largest = math.acosh(math.exp(start))
    mu = 0.49 * math.tanh(largest) ** 2 / (2 * math.log(math.cosh(largest)))
    points = descend(loss, system.start, 1.0, 40)
    losses = torch.stack([loss(w) for w in points])
    steps = torch.arange(41, dtype=torch.float64)
    assert (losses <= (1 - mu) ** steps * start * SLACK + 1e-15).all()
    assert points.diff(dim=0).norm(dim=1).sum() <= 2 * math.sqrt(2 * start / mu) <= 2 * math.sqrt(2 * start) / mu


@pytest.mark.statement(name="Theorem 14", kind="negative")
def test_smoothness_on_the_printed_ball_only_is_not_enough():
    ramp, mu, beta = pl.toys.ramp(), 0.4, 1e-3
    radius = 2 * math.sqrt(2 * beta * ramp.loss([0.0]).item()) / mu
    ball = torch.linspace(-radius, radius, 81, dtype=torch.float64)[:, None]
    assert pl.check_pl_star(ramp, mu, ball).holds
    assert max(torch.func.hessian(ramp.loss)(w).item() for w in ball) < beta
    assert min(ramp.loss(w).item() for w in ball) > 0.7


@pytest.mark.statement(name="Theorem 14", kind="negative")
def test_a_loss_that_is_negative_elsewhere_is_not_enough():
    """L(w) = w is smooth with every constant; with beta = 1/256 and mu = 0.32 the ball about 1 ends before 0."""
    mu, beta = 0.32, 1 / 256
    radius = 2 * math.sqrt(2 * beta) / mu
    ball = torch.linspace(1 - radius, 1 + radius, 81, dtype=torch.float64)
    ratios = 0.5 * torch.func.vmap(torch.func.grad(lambda w: w))(ball) ** 2 / ball
    assert (ratios >= mu).all() and ball.min() > 0.4
